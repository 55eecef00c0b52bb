"""What passes between the steps of a store: requests, jobs, plans, outcomes, reports. Small, frozen, picklable."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol

from hazard_store.layouts import Layout
from hazard_store.lease import Share
from hazard_store.ledger import CalculationRecord
from hazard_store.names import ChunkId, CurvePart, HazSolId, Part
from hazard_store.planning import BLOCK_BYTES, Chunk
from hazard_store.settings import Settings
from hazard_store.sources import SourceStamp
from hazard_store.sources.reading import AUTO, Reading
from hazard_store.storage.metrics import Metrics

SiteCodes = Literal["auto", "normalised"]


@dataclass(frozen=True)
class StoreRequest:
    """What a user asks for.

    Parameters
    ----------
    parts : tuple of str
        Empty for all that the file holds.
    chunks : tuple of str
        Ids or parts; empty for all. Named chunks are stored even if the ledger has them as done.
    replace : bool
        Remove what an earlier content left behind: sites, statistics, realisations and parts that this one has not.
    max_wcu : float, optional
        Write units per second of the whole run, however many workers share it.
    connections : int, optional
        Requests that one worker has under way at most; None for as many as their latency asks for.
    origin : str, optional
        How whoever started the run calls it; see ``Lease``.
    """

    source: str
    haz_sol_id: str
    parts: tuple[Part, ...] = ()
    chunks: tuple[str, ...] = ()
    encoding: str = "packed"
    partition: str = "solution"
    sites: SiteCodes = "auto"
    parent: str | None = None
    trust_imt_order: bool = False
    replace: bool = False
    max_wcu: float | None = None
    connections: int | None = None
    origin: str | None = None


@dataclass(frozen=True)
class StoreJob:
    """What every task of a run needs to know; small, frozen, and the same for all of them.

    `chunks_under_way` at most share `max_wcu` when the run starts; what becomes of that, the run's lease says. A worker
    stores `chunks_a_worker` at the same time, which share its memory and connections. It reads an object on S3 by
    `ranges`, or whole; `chunked` tells it how its curves are stored.
    """

    source: str
    stamp: SourceStamp
    fingerprint: str
    haz_sol_id: HazSolId
    layout: Layout
    parts: tuple[Part, ...]
    settings: Settings
    sites: SiteCodes = "auto"
    parent: str | None = None
    trust_imt_order: bool = False
    max_wcu: float | None = None
    connections: int | None = None
    run_id: str = ""
    chunks_under_way: int = 1
    chunks_a_worker: int = 1
    reading: Reading = AUTO
    ranges: bool = False
    chunked: bool = False

    @property
    def identity(self) -> str:
        """What a done chunk must have been stored from to be skipped."""
        return f"{self.fingerprint}/{self.sites}"

    @property
    def block_bytes(self) -> int:
        """What a chunk holds of the file at a time."""
        return BLOCK_BYTES // self.chunks_a_worker


@dataclass(frozen=True)
class StorePlan:
    """A run: its job, its chunks, and which of them are left to do; it stays in the process that runs it.

    `todo` is in the order in which the chunks are best stored. `lost` is set when another run took the lease over: this
    one must not write any more. `share` takes how many chunks are under way at most while the run goes on. `removed`
    counts items of an earlier content that the run removed before it began to write. `tables_made` says of each part
    when its table was made: what was stored before that is gone.
    """

    job: StoreJob
    record: CalculationRecord
    chunks: tuple[Chunk, ...]
    todo: tuple[Chunk, ...]
    meta_todo: bool
    warnings: tuple[str, ...]
    tables_made: Mapping[CurvePart, datetime] = field(default_factory=dict, compare=False)
    lost: threading.Event = field(default_factory=threading.Event, compare=False)
    share: Share = field(default_factory=Share, compare=False)
    removed: int = 0

    def job_of(self, workers: int, chunks_a_worker: int = 1) -> StoreJob:
        """Give the job as it is done by so many workers that store so many chunks each at the same time."""
        under_way = max(1, min(workers * chunks_a_worker, len(self.steps())))
        job = replace(self.job, chunks_under_way=under_way, chunks_a_worker=chunks_a_worker)
        items = sum(chunk.items for chunk in self.chunks)
        share = self.items_todo / items if items else 0.0
        ranges = job.reading.by_ranges(
            job.stamp.size, share, min(workers, under_way), job.block_bytes, chunked=job.chunked
        )
        return replace(job, ranges=ranges)

    def steps(self) -> list[Chunk | None]:
        """What is left to do, None for the meta."""
        return [*([None] if self.meta_todo else []), *self.todo]

    @property
    def items_todo(self) -> int:
        """Items that the run writes."""
        return sum(chunk.items for chunk in self.todo)


@dataclass(frozen=True)
class ChunkOutcome:
    """How a chunk of this run ended: with its metrics, or with an error; `worker` is the process that stored it."""

    chunk_id: ChunkId
    part: Part
    metrics: Metrics
    error: str | None = None
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}/{os.getpid()}", compare=False)


@dataclass(frozen=True)
class StoreReport:
    """How a run ended."""

    haz_sol_id: HazSolId
    layout: str
    run_id: str
    complete: bool
    chunks: int
    skipped: int
    outcomes: tuple[ChunkOutcome, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    removed: int = 0

    @property
    def failed(self) -> tuple[ChunkOutcome, ...]:
        """The chunks that a rerun takes as its parameter."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    def source_bytes(self) -> dict[str, int]:
        """Bytes that each worker read from S3; empty for a file of this machine."""
        read: Counter[str] = Counter()
        for outcome in self.outcomes:
            read[outcome.worker] += outcome.metrics.source_bytes
        return {worker: size for worker, size in read.items() if size}

    def totals(self, part: Part | None = None) -> Metrics:
        """Metrics of a part, or of all curves with the run's wall time; the meta is no curve."""
        total = Metrics()
        for outcome in self.outcomes:
            if outcome.part == part or (part is None and outcome.part != "meta"):
                total.add(outcome.metrics)
        if part is None:
            total.seconds = self.seconds
        return total


class Progress(Protocol):
    """What a run tells about itself while it goes on."""

    def wait(self, holder: str) -> None:
        """Run `holder` has the calculation's lease; it has to be seen whether it is alive."""

    def begin(self, plan: StorePlan) -> None:
        """The plan stands and writing starts."""

    def advance(self, outcome: ChunkOutcome) -> None:
        """A chunk ended."""


class Silent:
    """Tells nothing."""

    def wait(self, holder: str) -> None:
        """Nothing."""

    def begin(self, plan: StorePlan) -> None:
        """Nothing."""

    def advance(self, outcome: ChunkOutcome) -> None:
        """Nothing."""
