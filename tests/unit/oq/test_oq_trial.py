"""Files that are read first in a process of their own; what HDF5 does to it is made by a program in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hazard_store.errors import NotADatastoreError, UsageError
from hazard_store.oq import trial
from hazard_store.sources.content import content_of
from hazard_store.sources.prefixes import PREFIXES_VARIABLE

Build = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_was_tried() -> Iterator[None]:
    trial._tried.clear()
    yield
    trial._tried.clear()


def require_readable(path: Path) -> None:
    content = content_of(path)
    try:
        trial.require_readable(content)
    finally:
        content.close()


@pytest.fixture
def reader_does(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Lets the process of a trial do something else where it would open the file; gives the files it was asked for."""
    asked: list[str] = []
    run = subprocess.run

    def replace_reading(statement: str) -> list[str]:
        def ran(command: list[str], **options: object) -> object:
            asked.append(command[-1])
            program = (
                "import os, signal, sys\n"
                "from hazard_store.oq import trial\n"
                f"def read(*args, **options):\n    {statement}\n"
                "trial.calculation_in = read\n"
                "sys.exit(trial.main(sys.argv[1:]))\n"
            )
            return run([sys.executable, "-c", program, command[-1]], **options)  # type: ignore[call-overload]

        monkeypatch.setattr(trial.subprocess, "run", ran)
        return asked

    return replace_reading


def test_a_sound_file_passes_and_is_opened(sound_hdf5: Path) -> None:
    with trial.open_tried(sound_hdf5) as calculation:
        assert len(calculation.sites) == 3


def test_what_is_no_datastore_is_refused_untried(tmp_path: Path) -> None:
    path = tmp_path / "calc_1.hdf5"
    path.write_text("a text")
    with pytest.raises(NotADatastoreError, match="neither an HDF5 file nor a zip"):
        trial.open_tried(path)


def test_what_loops_is_stopped_by_its_share_of_processor_time(
    sound_hdf5: Path, reader_does: Callable[[str], list[str]]
) -> None:
    reader_does("while True: pass")
    with pytest.raises(NotADatastoreError, match=f"loops or crashes on it .signal {int(signal.SIGXCPU)}."):
        require_readable(sound_hdf5)


def test_what_crashes_is_refused_with_its_signal(sound_hdf5: Path, reader_does: Callable[[str], list[str]]) -> None:
    reader_does("os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(NotADatastoreError, match=f"loops or crashes on it .signal {int(signal.SIGSEGV)}."):
        require_readable(sound_hdf5)


def test_a_defect_in_the_trial_is_told_by_its_last_line(
    sound_hdf5: Path, reader_does: Callable[[str], list[str]]
) -> None:
    reader_does("raise MemoryError('too much')")
    with pytest.raises(NotADatastoreError, match="MemoryError: too much"):
        require_readable(sound_hdf5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what a program had in memory")
def test_what_takes_memory_beyond_its_size_is_refused(
    sound_hdf5: Path, reader_does: Callable[[str], list[str]]
) -> None:
    reader_does(
        "hog = bytearray(b'x') * (700 << 20)\n"
        "    from hazard_store.oq.calculation import calculation_in\n"
        "    return calculation_in(*args, **options)"
    )
    with pytest.raises(NotADatastoreError, match=r"it takes [\d,]+ MB of memory to open"):
        require_readable(sound_hdf5)


def test_what_the_trial_refuses_is_not_opened_here(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = build(edit=lambda file: file.__delitem__("sitecol") or file.attrs.__delitem__("engine_version"))
    monkeypatch.setattr(trial, "calculation_in", lambda *args, **options: pytest.fail("it was opened"))
    with pytest.raises(NotADatastoreError, match="engine_version"):
        trial.open_tried(empty)


def test_a_disk_that_does_not_answer_is_waited_for_so_long(
    sound_hdf5: Path, reader_does: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader_does("signal.pause()")
    monkeypatch.setattr(trial, "START_SECS", 0.2)
    with pytest.raises(NotADatastoreError, match="did not end within"):
        require_readable(sound_hdf5)


def test_it_is_asked_once_for_each_content(sound_hdf5: Path, reader_does: Callable[[str], list[str]]) -> None:
    asked = reader_does("sys.exit(0)")
    for _ in range(3):
        require_readable(sound_hdf5)
    assert asked == [str(sound_hdf5)]
    os.utime(sound_hdf5, ns=(1, 1))
    require_readable(sound_hdf5)
    assert asked == [str(sound_hdf5)] * 2


def test_the_parent_is_tried_as_well(build: Build, sound_hdf5: Path, reader_does: Callable[[str], list[str]]) -> None:
    asked = reader_does("sys.exit(0)")
    parent = build("calc_2.hdf5")
    trial.open_tried(sound_hdf5, parent=parent).close()
    assert asked == [str(parent), str(sound_hdf5)]


def test_what_lies_outside_is_not_tried(
    sound_hdf5: Path, reader_does: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = reader_does("sys.exit(0)")
    monkeypatch.setenv(PREFIXES_VARIABLE, "/elsewhere")
    with pytest.raises(UsageError, match="outside"):
        require_readable(sound_hdf5)
    assert asked == []
