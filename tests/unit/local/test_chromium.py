"""Which Chromium is taken, and what a user reads where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deployments.local import chromium
from deployments.local.chromium import ensure_chromium
from hazard_store.errors import LocalServiceError
from hazard_store.local import npm


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, an npm that fetches nothing, and no program on the path."""
    program = tmp_path / "npm"
    program.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(npm, "find_npm", lambda: (str(program),))
    monkeypatch.setattr(chromium, "_INSTALLED_ON_MACOS", tmp_path / "none")
    monkeypatch.setattr(chromium.platform, "system", lambda: "Linux")
    monkeypatch.setattr(chromium.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("HAZARD_STORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("HAZARD_STORE_CHROMIUM", raising=False)
    return tmp_path / "cache"


def install(folder: Path) -> Path:
    folder.mkdir()
    program = folder / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_the_named_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAZARD_STORE_CHROMIUM", sys.executable)
    assert ensure_chromium() == chromium.Chromium(Path(sys.executable))


def test_a_named_one_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAZARD_STORE_CHROMIUM", "/no/such/chromium")
    with pytest.raises(LocalServiceError, match="HAZARD_STORE_CHROMIUM is /no/such/chromium, which is no program"):
        ensure_chromium()


def test_the_fetched_one_comes_before_an_installed_one(tmp_path: Path, cache: Path) -> None:
    install(tmp_path / "bin")
    home = cache / "chromium-147.0.0"
    home.mkdir(parents=True)
    taken = ensure_chromium()
    assert taken.program == home / "chromium"
    assert taken.variables == {"LD_LIBRARY_PATH": str(home / "lib"), "FONTCONFIG_FILE": str(home / "fonts.conf")}


def test_an_installed_one_is_taken_where_none_can_be_fetched(tmp_path: Path, cache: Path) -> None:
    program = install(tmp_path / "bin")
    assert ensure_chromium().program == program
    assert [path.name for path in cache.iterdir()] == [".chromium-147.0.0.lock"]


def test_without_any_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LocalServiceError, match=r"npm could not fetch @sparticuz.*ENOTFOUND.*apt-get install chromium"):
        ensure_chromium()
    monkeypatch.setattr(chromium.platform, "machine", lambda: "aarch64")
    with pytest.raises(LocalServiceError, match=r"there is no Chromium here .* `apt-get install chromium`"):
        ensure_chromium()
    assert chromium.main() == 0
    assert capsys.readouterr().err.startswith("warning: there is no Chromium here")
