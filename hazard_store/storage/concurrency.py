"""How many requests a process keeps under way: as many as it takes to keep its processor busy meanwhile."""

from __future__ import annotations

import math
import threading

from hazard_store.storage.connection import MAX_CONNECTIONS

MIN_CONNECTIONS = 2

# What is assumed before the first answers: an answer in 10 ms, for 2 ms of framing, signing and parsing.
_FIRST_LATENCY_SECS = 0.010
_FIRST_CPU_SECS = 0.002

# Of the newest request in the running mean.
_WEIGHT = 0.05


def connections_for(latency_secs: float, cpu_secs: float) -> int:
    """Give the requests to have under way: while one waits, the processor makes so many others (Little's law).

    >>> connections_for(0.005, 0.0015), connections_for(0.050, 0.0015)
    (5, 32)
    """
    wanted = math.ceil(latency_secs / max(cpu_secs, 1e-4)) + 1
    return max(MIN_CONNECTIONS, min(wanted, MAX_CONNECTIONS))


class Concurrency:
    """The number of connections, which follows latency and processor time of the requests; safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latency_secs = _FIRST_LATENCY_SECS
        self._cpu_secs = _FIRST_CPU_SECS
        self.connections = connections_for(_FIRST_LATENCY_SECS, _FIRST_CPU_SECS)

    def observe(self, latency_secs: float, cpu_secs: float) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._latency_secs += _WEIGHT * (latency_secs - self._latency_secs)
            self._cpu_secs += _WEIGHT * (cpu_secs - self._cpu_secs)
            self.connections = connections_for(self._latency_secs, self._cpu_secs)
