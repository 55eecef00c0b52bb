"""How long a store would take: the chunks of a plan on some workers, under the limits of the database they write to.

Arithmetic only. Each chunk goes as fast as its worker, its connections and its partition let it; chunks that run at the
same time share what their worker, the tables, the write budget and the machine have. The slowest of these decides at
each moment.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from hazard_store.names import CurvePart

WORKER_CPU = "worker CPU"
MACHINE_CPU = "CPU of this machine, which the database shares"
LATENCY = "latency"
BUDGET = "--max-wcu"
PARTITION = "partition limit"
TABLE = "table limit"
START_UP = "start-up"

# Tasks a thread of a worker above which distributed lets those of one name wait (its `is_rootish`).
QUEUED_ABOVE = 2


@dataclass(frozen=True)
class Target:
    """What a database takes a write for, and what it allows.

    Parameters
    ----------
    request_latency_secs : float
        Of one ``BatchWriteItem``; the connections of a worker wait side by side.
    item_cpu_secs, number_cpu_secs : float
        Processor time of the database for an item and for each number in it, where it runs on this machine.
    partition_wcu, table_wcu : float, optional
        Write units a second of one hash key and of one table; None without a limit.
    """

    name: str
    request_latency_secs: float
    item_cpu_secs: float = 0.0
    number_cpu_secs: float = 0.0
    partition_wcu: float | None = None
    table_wcu: float | None = None

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it takes processor time from the workers."""
        return self.item_cpu_secs > 0


# A batch of 25 items takes DynamoDB some 10 to 50 ms (storage/connection.py); the limits are AWS's: 1,000 WCU/s for
# what one partition holds, and 40,000 as the default quota of a table. A new table on demand begins with 4,000.
AWS = Target("AWS", request_latency_secs=0.03, partition_wcu=1_000.0, table_wcu=40_000.0)

# DynamoDB Local's processor time: 0.27 ms an item of 2.5 KB with one binary attribute, between 0.20 ms of 184,000 items
# (`python -m benchmarks --only bare_loop`) and 0.36 ms of 12,800, for Java compiles itself meanwhile; 10 ms one with
# 2,376 numbers in lists (ready bodies in `--only other_writers`: 188 a second on two cores). It limits nothing else.
LOCAL = Target(
    "DynamoDB Local on this machine", request_latency_secs=0.005, item_cpu_secs=0.27e-3, number_cpu_secs=4.2e-6
)


@dataclass(frozen=True)
class Work:
    """What storing one chunk takes in one layout.

    Parameters
    ----------
    worker_cpu_secs : float
        Reading, encoding, framing, signing and sending, all in one process.
    database_cpu_secs : float
        Of a database on the same machine.
    largest_key_wcu : float
        Write units of the hash key that gets most of them.
    overhead_secs : float
        Of the task, whatever its size: the task's own, and its entries in the ledger.
    """

    part: CurvePart
    wcu: float
    requests: int
    worker_cpu_secs: float
    database_cpu_secs: float
    largest_key_wcu: float
    overhead_secs: float = 0.0


@dataclass(frozen=True)
class Pace:
    """How long a run writes, and what it spends most of that time waiting for."""

    seconds: float
    bound_by: str


class _Running:
    """A chunk under way: what part of it is left, and how fast it would go alone, in parts a second."""

    def __init__(self, work: Work, alone_secs: float, bound_by: str) -> None:
        self.work = work
        self.left = 1.0
        self.speed = self.alone = 1.0 / alone_secs
        self.bound_by = self.alone_bound_by = bound_by


def pace(
    works: Sequence[Work],
    target: Target,
    *,
    workers: int,
    cores: int,
    connections: int,
    chunks_a_worker: int = 1,
    max_wcu: float | None = None,
) -> Pace:
    """Let the chunks run, each on the worker that Dask gives it to.

    Parameters
    ----------
    cores : int
        Of the machine on which the workers are.
    connections : int
        Requests that a worker has under way.
    chunks_a_worker : int
        Chunks that a worker stores at the same time.
    max_wcu : float, optional
        Write units a second of the whole run.
    """
    queues, shared = _queues(works, workers, chunks_a_worker)
    busy: list[list[_Running]] = [[] for _ in range(workers)]
    waited_for: Counter[str] = Counter()
    now = 0.0
    while any(queues) or shared or any(busy):
        # One after the other gets a chunk, until none takes one any more.
        for _ in range(chunks_a_worker):
            for queue, mine in zip(queues, busy, strict=True):
                if len(mine) < chunks_a_worker and (queue or shared):
                    mine.append(_start((queue or shared).popleft(), target, connections))
        running = [one for mine in busy for one in mine]
        for one in running:
            # What a chunk waits for alone was found when it started; only sharing changes.
            one.speed, one.bound_by = one.alone, one.alone_bound_by
        for mine in busy:
            _limit(mine, [one.work.worker_cpu_secs for one in mine], 1.0, WORKER_CPU)
            request_secs = [one.work.requests * target.request_latency_secs for one in mine]
            _limit(mine, request_secs, float(connections), LATENCY)
        _share(running, target, cores, max_wcu)
        step = min(one.left / one.speed for one in running)
        now += step
        for one in running:
            one.left -= step * one.speed
            waited_for[one.bound_by] += step  # type: ignore[assignment]
        # What rounding leaves of a chunk is none of it.
        busy = [[one for one in mine if one.left > 1e-9] for mine in busy]
    return Pace(now, max(waited_for, key=lambda name: waited_for[name], default=START_UP))


def _queues(works: Sequence[Work], workers: int, chunks_a_worker: int) -> tuple[list[deque[Work]], deque[Work]]:
    """Divide chunks as Dask's scheduler does: into what each worker has to do, and what goes to whoever is free first.

    Tasks of one name that are more than two a thread wait at the scheduler. Fewer are given to the workers at once,
    each to the one that has the fewest; of these, none moves to a worker that falls idle (tried with distributed
    2026.8). The meta and the first chunk come before any but the first worker is there.
    """
    number_of = Counter(work.part for work in works)
    queues: list[deque[Work]] = [deque() for _ in range(workers)]
    shared: deque[Work] = deque()
    given = [0] * workers
    for number, work in enumerate(works):
        if number_of[work.part] > QUEUED_ABOVE * workers * chunks_a_worker:
            shared.append(work)
            continue
        worker = given.index(min(given)) if number else 0
        # The meta stands before the first chunk.
        given[worker] += 1 if number else 2
        queues[worker].append(work)
    return queues, shared


def _start(work: Work, target: Target, connections: int) -> _Running:
    alone = {
        WORKER_CPU: work.worker_cpu_secs,
        LATENCY: work.requests * target.request_latency_secs / connections,
        PARTITION: work.largest_key_wcu / target.partition_wcu if target.partition_wcu else 0.0,
    }
    bound_by = max(alone, key=lambda name: alone[name])
    return _Running(work, alone[bound_by] + work.overhead_secs, bound_by)


def _share(running: list[_Running], target: Target, cores: int, max_wcu: float | None) -> None:
    """Slow down the chunks that would together take more than there is."""
    _limit(running, [one.work.wcu for one in running], max_wcu, BUDGET)
    for part in {one.work.part for one in running}:
        mine = [one for one in running if one.work.part == part]
        _limit(mine, [one.work.wcu for one in mine], target.table_wcu, TABLE)
        # Chunks of one hash key share its partition; by location, they share the bins that they have in common at most.
        whole = [one for one in mine if one.work.largest_key_wcu >= one.work.wcu]
        _limit(whole, [one.work.wcu for one in whole], target.partition_wcu, PARTITION)
    cpu_secs = [one.work.worker_cpu_secs + one.work.database_cpu_secs for one in running]
    _limit(running, cpu_secs, float(cores), MACHINE_CPU if target.is_on_this_machine else WORKER_CPU)


def _limit(running: list[_Running], amounts: list[float], limit: float | None, name: str) -> None:
    """Hold the sum of `amounts` a second down to `limit`."""
    wanted = sum(one.speed * amount for one, amount in zip(running, amounts, strict=True))
    if limit is not None and wanted > limit:
        for one in running:
            one.speed *= limit / wanted
            one.bound_by = name
