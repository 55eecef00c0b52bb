"""What the processes below this one use, looked at while they run."""

from __future__ import annotations

import threading
import time

import psutil

LOOK_EVERY_SECS = 0.25


class Workers:
    """Memory and processor time of the Dask workers that run within the block.

    Attributes
    ----------
    peak_mb : float
        The largest resident set that a worker ever had.
    seen_mb : list of (float, float)
        When it was looked, seconds from the block's beginning, and the largest resident set at that moment.
    cpu_secs : float
        Processor time of all workers until they were seen last.
    """

    def __init__(self) -> None:
        self.seen_mb: list[tuple[float, float]] = []
        self._cpu_secs: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Workers:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mb(self) -> float:
        return max((mb for _, mb in self.seen_mb), default=0.0)

    @property
    def cpu_secs(self) -> float:
        return sum(self._cpu_secs.values())

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_SECS):
            largest = 0.0
            for process in psutil.Process().children(recursive=True):
                try:
                    if "spawn_main" not in " ".join(process.cmdline()):
                        continue
                    largest = max(largest, process.memory_info().rss / 2**20)
                    times = process.cpu_times()
                    self._cpu_secs[process.pid] = times.user + times.system
                except psutil.Error:
                    continue
            self.seen_mb.append((time.monotonic() - self._began, largest))
