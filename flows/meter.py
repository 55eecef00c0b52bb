"""How fast a store goes while it runs, from what the ledger says of its chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from hazard_store.jobs import StorePlan
from hazard_store.ledger import META_CHUNK, ChunkRecord
from hazard_store.names import ChunkId
from hazard_store.wording import count, duration

# Chunks tell the ledger every 5 s and so does it get read: over one interval, a rate would beat between none and twice
# its height. Two show the present; the time that is left takes a longer view.
CURRENT_SECS = 10.0
TREND_SECS = 60.0


@dataclass(frozen=True)
class Reading:
    """Where a run is.

    Attributes
    ----------
    items, items_todo : int
        Curves acknowledged, and those that the run has to store in all.
    items_per_sec, wcu_per_sec : float
        Over the last ``CURRENT_SECS``.
    left_secs : float or None
        Until all is stored, at the rate of the last ``TREND_SECS``; None while nothing moves.
    throttles, running : int
        Answers that said to slow down, over the whole run; chunks under way.
    """

    items: int
    items_todo: int
    items_per_sec: float
    wcu_per_sec: float
    left_secs: float | None
    throttles: int
    running: int

    @property
    def percent(self) -> float:
        """Of the items that the run has to store."""
        return 100.0 if not self.items_todo else round(min(100.0, 100.0 * self.items / self.items_todo), 1)

    def describe(self) -> str:
        """Say it in one line."""
        left = "unknown" if self.left_secs is None else duration(self.left_secs)
        return (
            f"{self.items:,} of {count(self.items_todo, 'item')}, {self.items_per_sec:,.0f} items/s, "
            f"{self.wcu_per_sec:,.0f} WCU/s, ETA {left}, {count(self.throttles, 'throttle')}, "
            f"{count(self.running, 'chunk')} under way"
        )


@dataclass(frozen=True)
class _Spent:
    """What was ever acknowledged, attempts that failed later included: it only grows."""

    at: float
    items: int
    wcu: float


class Meter:
    """Turns the chunk records of a run, read every few seconds, into rates.

    A chunk that is tried again starts from nothing. What its earlier attempt wrote was written all the same and counts
    in the rates, while it does not count as stored.
    """

    def __init__(self, plan: StorePlan, now: float) -> None:
        self._run_id = plan.job.run_id
        self._chunks = {chunk.id for chunk in plan.todo} | {META_CHUNK}
        self._items_todo = plan.items_todo
        self._last: dict[ChunkId, ChunkRecord] = {}
        self._earlier_throttles = 0
        self._samples = deque([_Spent(now, 0, 0.0)])

    def read(self, now: float, records: Mapping[ChunkId, ChunkRecord]) -> Reading:
        """Take the ledger's records of the calculation as they are `now`, in seconds of any steady clock."""
        mine = {k: r for k, r in records.items() if k in self._chunks and r.run_id == self._run_id}
        spent = self._samples[-1]
        items, wcu = spent.items, spent.wcu
        for chunk_id, record in mine.items():
            before = self._last.get(chunk_id)
            again = before is not None and before.attempts != record.attempts
            if before is None or again:
                items, wcu = items + _curves(record), wcu + record.wcu
            else:
                items, wcu = items + max(0, _curves(record) - _curves(before)), wcu + max(0.0, record.wcu - before.wcu)
            if before is not None and (again or _throttles(record) < _throttles(before)):
                self._earlier_throttles += _throttles(before)
        self._last = mine
        self._samples.append(_Spent(now, items, wcu))
        while len(self._samples) > 2 and self._samples[1].at <= now - TREND_SECS:
            self._samples.popleft()
        items_per_sec, wcu_per_sec = self._rates(CURRENT_SECS)
        stored = sum(_curves(record) for record in mine.values())
        trend, _ = self._rates(TREND_SECS)
        return Reading(
            items=stored,
            items_todo=self._items_todo,
            items_per_sec=items_per_sec,
            wcu_per_sec=wcu_per_sec,
            left_secs=(self._items_todo - stored) / trend if trend else None,
            throttles=self._earlier_throttles + sum(_throttles(record) for record in mine.values()),
            running=sum(record.status == "running" for record in mine.values()),
        )

    def _rates(self, window_secs: float) -> tuple[float, float]:
        last = self._samples[-1]
        # The window reaches back to the last sample before it, and never holds less than one interval.
        first = next(s for s in self._samples if s.at >= last.at - window_secs or s is self._samples[-2])
        secs = last.at - first.at
        return ((last.items - first.items) / secs, (last.wcu - first.wcu) / secs) if secs > 0 else (0.0, 0.0)


def _curves(record: ChunkRecord) -> int:
    """Items of a chunk; the meta is no curve."""
    return 0 if record.chunk_id == META_CHUNK else record.items


def _throttles(record: ChunkRecord) -> int:
    return int(record.metrics.get("throttles", 0))
