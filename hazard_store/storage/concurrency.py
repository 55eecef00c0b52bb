"""How many requests a process keeps under way: as many as keep its processor busy, and none that only queue."""

from __future__ import annotations

import math
import threading

from hazard_store.storage.connection import MAX_CONNECTIONS

MIN_CONNECTIONS = 2

# Answers that are looked at together, and so many more for each connection: those under way saw the number before.
WINDOW_ANSWERS = 8
# A mean latency of so many times the lowest says that requests wait for each other in the store.
QUEUEING = 2.0


def connections_for(latency_secs: float, cpu_secs: float) -> int:
    """Give the requests to have under way: while one waits, the processor makes so many others (Little's law).

    >>> connections_for(0.005, 0.0015), connections_for(0.050, 0.0015)
    (5, 32)
    """
    wanted = math.ceil(latency_secs / max(cpu_secs, 1e-4)) + 1
    return max(MIN_CONNECTIONS, min(wanted, MAX_CONNECTIONS))


class Concurrency:
    """The number of a process's connections, which follows latency and processor time of the requests; safe to share.

    Little's law alone would answer a store that is at its limit with more requests, and so with longer queues there.
    So the number grows from the smallest, and shrinks where latency grows with it. A store that grew slower by itself
    makes it shrink to the smallest, where none of our requests wait for each other: what they take then is the lowest.

    Attributes
    ----------
    connections : int
        Of all senders together.
    senders : int
        How many share them; none where one sender has them without saying so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lowest_secs = math.inf
        self._answers = 0
        self._latency_secs = self._cpu_secs = 0.0
        self.connections = MIN_CONNECTIONS
        self.senders = 0

    @property
    def connections_each(self) -> int:
        """One sender's share; one at least."""
        return max(1, self.connections // max(1, self.senders))

    def observe(self, latency_secs: float, cpu_secs: float) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._answers += 1
            self._latency_secs += latency_secs
            self._cpu_secs += cpu_secs
            if self._answers < WINDOW_ANSWERS + 2 * self.connections:
                return
            latency_secs, cpu_secs = self._latency_secs / self._answers, self._cpu_secs / self._answers
            self._answers, self._latency_secs, self._cpu_secs = 0, 0.0, 0.0
            is_smallest = self.connections == MIN_CONNECTIONS
            self._lowest_secs = latency_secs if is_smallest else min(self._lowest_secs, latency_secs)
            if latency_secs > QUEUEING * self._lowest_secs:
                self.connections = max(MIN_CONNECTIONS, self.connections - 1)
            else:
                grown = self.connections + max(1, self.connections // 4)
                self.connections = min(grown, connections_for(self._lowest_secs, cpu_secs))
