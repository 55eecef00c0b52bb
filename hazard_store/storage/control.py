"""What a process knows about writing to the tables of its runs, kept from chunk to chunk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hazard_store.storage.concurrency import Concurrency
from hazard_store.storage.rate import RateController, WcuBudget


@dataclass(frozen=True)
class WriteControl:
    """What paces a chunk's writes: a rate, and the connections of its process."""

    rate: RateController = field(default_factory=RateController)
    concurrency: Concurrency = field(default_factory=Concurrency)


class _Table:
    """The rates at which a process writes to one table, and those that no chunk uses at the moment."""

    def __init__(self, budget: WcuBudget | None) -> None:
        self._budget = budget
        self.rates: list[RateController] = []
        self.free: list[RateController] = []

    def new_rate(self) -> RateController:
        rate = RateController(self._budget)
        self.rates.append(rate)
        return rate


class _Run:
    """A run's budget, how many chunks share it, the connections of those that this process stores, and its tables."""

    def __init__(self, max_wcu: float | None, chunks: int) -> None:
        self.max_wcu = max_wcu
        self.chunks = chunks
        self.budget = WcuBudget(max_wcu / chunks) if max_wcu else None
        self.concurrency = Concurrency()
        self.tables: dict[str, _Table] = {}

    def share_out(self) -> None:
        """Give this process the shares of its chunks."""
        if self.budget is not None and self.max_wcu is not None:
            self.budget.wcu_per_sec = self.max_wcu * max(1, self.concurrency.senders) / self.chunks


class Controls:
    """What this process learned of the tables that its last runs wrote to: the next chunk does not start slowly."""

    MAX_RUNS = 8

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    @contextmanager
    def of(
        self, run_id: str, table: str, max_wcu: float | None, chunks: int, *, own_limit: bool
    ) -> Iterator[WriteControl]:
        """Give what paces a chunk while it is stored.

        Parameters
        ----------
        max_wcu : float, optional
            Write units per second of the whole run.
        chunks : int
            How many chunks, in all processes, share them when the run starts; see ``share``.
        own_limit : bool
            Whether the chunk's keys are held to a limit of their own, as a range of one hash key is where DynamoDB has
            split it, and not by that of the table alone. Then no other chunk has its rate at the same time: one that
            is refused more must not hold down the others.
        """
        with self._lock:
            run = self._run_of(run_id, max_wcu, chunks)
            known = run.tables.setdefault(table, _Table(run.budget))
            if own_limit:
                rate = known.free.pop() if known.free else known.new_rate()
            else:
                rate = known.rates[0] if known.rates else known.new_rate()
            run.concurrency.senders += 1
            run.share_out()
        try:
            yield WriteControl(rate, run.concurrency)
        finally:
            with self._lock:
                if own_limit:
                    known.free.append(rate)
                run.concurrency.senders -= 1
                run.share_out()

    def _run_of(self, run_id: str, max_wcu: float | None, chunks: int) -> _Run:
        if run_id not in self._runs:
            self._runs[run_id] = _Run(max_wcu, chunks)
            for old in list(self._runs)[: -self.MAX_RUNS]:
                del self._runs[old]
        return self._runs[run_id]

    def share(self, run_id: str, chunks: int) -> None:
        """Take over what others leave when no more than `chunks` are under way; it is never given up again."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or chunks >= run.chunks:
                return
            run.chunks = chunks
            run.share_out()
            for table in run.tables.values():
                for rate in table.rates:
                    rate.search()


controls = Controls()
