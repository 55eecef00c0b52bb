"""Holding a budget of write units: a token bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class WcuBudget:
    """Lets write units through at a steady rate, shared by all threads of a process.

    Parameters
    ----------
    wcu_per_sec : float
    clock, sleep : callables
        Replaced by a test.

    Notes
    -----
    A batch may take the bucket below zero, and the next one waits until it is level again: so no batch is larger than
    the bucket, and over any time the units let through exceed the budget by at most one batch.
    """

    def __init__(
        self,
        wcu_per_sec: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = wcu_per_sec
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, wcu: float) -> None:
        """Wait until `wcu` units may be spent."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + wcu / self._rate
        if start > now:
            self._sleep(start - now)
