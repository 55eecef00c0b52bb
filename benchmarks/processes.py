"""What this process and those below it use, by what they are there for."""

from __future__ import annotations

import re
import resource
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

# A look walks through all processes of the machine, whose time is what is being measured.
LOOK_EVERY_SECS = 1.0

WORKERS, DATABASE, SERVER, SELF, OTHERS = "workers", "database", "Prefect server", "flow's process", "others"

# What a process's command line has in it. Python starts Dask's workers, and those of `multiprocessing`, by these names;
# the time of what they are forked from is theirs, for it imports for them.
_FORKED = "multiprocessing.forkserver"
_MARKS = {
    "spawn_main": WORKERS,
    _FORKED: WORKERS,
    "DynamoDBLocal": DATABASE,
    "prefect server": SERVER,
}


class Usage:
    """Processor time within the block, and the memory of workers: processes that started, or were ready, for it.

    Attributes
    ----------
    seen_mb : list of (float, float)
        When it was looked, seconds from the block's beginning, and the largest resident set of a worker at that moment.
    peak_mb : float
        The largest resident set that a worker ever had, between two looks as well where the system tells that.
    cpu_secs : dict of str to float
        By what the processes are: workers, the database, the Prefect server, this process. Known behind the block.
    """

    def __init__(self) -> None:
        self.seen_mb: list[tuple[float, float]] = []
        self.peak_mb = 0.0
        self.cpu_secs: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Usage:
        self._began = time.monotonic()
        self._before = _living_cpu_secs()
        self._ended_before = _cpu_secs_of(resource.RUSAGE_CHILDREN)
        self._self_before = _cpu_secs_of(resource.RUSAGE_SELF)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        found: Counter[str] = Counter({SELF: _cpu_secs_of(resource.RUSAGE_SELF) - self._self_before})
        now = _living_cpu_secs()
        for pid, (role, secs) in now.items():
            found[role] += secs - self._before.get(pid, (role, 0.0))[1]
        # Those that ended within the block, and were waited for, are workers but for some that live for a moment.
        ended = _cpu_secs_of(resource.RUSAGE_CHILDREN) - self._ended_before
        found[WORKERS] += ended - sum(secs for pid, (_, secs) in self._before.items() if pid not in now)
        self.cpu_secs = dict(found)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_SECS):
            largest = 0.0
            for process in psutil.Process().children(recursive=True):
                try:
                    if _role_of(process) == WORKERS and not _is_fork_server(process):
                        now_mb = process.memory_info().rss / 2**20
                        largest = max(largest, now_mb)
                        self.peak_mb = max(self.peak_mb, now_mb, _peak_mb(process.pid))
                except psutil.Error:
                    continue
            self.seen_mb.append((time.monotonic() - self._began, largest))


def _role_of(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((role for mark, role in _MARKS.items() if mark in command), OTHERS)


def _is_fork_server(process: psutil.Process) -> bool:
    """Whether it is what workers are forked from: they have its command line."""
    parent = process.parent()
    return _FORKED in " ".join(process.cmdline()) and (parent is None or _FORKED not in " ".join(parent.cmdline()))


def _peak_mb(pid: int) -> float:
    """Give a process's largest resident set so far, which Linux alone tells; 0.0 elsewhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def _living_cpu_secs() -> dict[int, tuple[str, float]]:
    """Give what each process below this one is, and the processor time of it and of those that ended below it."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            ended_secs = times.children_user + times.children_system
            found[process.pid] = (_role_of(process), times.user + times.system + ended_secs)
        except psutil.Error:
            continue
    return found


def _cpu_secs_of(whom: int) -> float:
    used = resource.getrusage(whom)
    return used.ru_utime + used.ru_stime
