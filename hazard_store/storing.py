"""Storing a calculation: *read a block of sites -> encode its items -> write them -> record the chunk*.

The steps are functions of small frozen values, so that the same ones run in this process (``store_in_process``) and as
Prefect tasks on a Dask cluster (``flows/store_hazard.py``)::

    plan = prepare(request)         # reads, checks and refuses; writes nothing
    begin(plan)                     # from here on the ledger and the meta say: being stored
    store_meta(plan.job)
    store_chunk(plan.job, chunk)    # for every chunk of plan.todo, in any order, anywhere
    report = finish(plan, outcomes) # the meta says complete if the ledger has every chunk
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

import numpy as np

from hazard_store import digest, ledger, meta
from hazard_store.errors import (
    CorruptItemError,
    CredentialsError,
    HazardStoreError,
    NotStoredError,
    SourceChangedError,
    TableMissingError,
    UsageError,
)
from hazard_store.layouts import CurveBlock, Layout, layout_from_names
from hazard_store.ledger import META_CHUNK, CalculationRecord, ChunkRecord, Ledger
from hazard_store.names import CURVE_PARTS, PARTS, ChunkId, CurvePart, HazSolId, Part, haz_sol_id_from_text, rlz_to_text
from hazard_store.oq import Calculation, SourceStamp, open_calculation
from hazard_store.planning import Chunk, plan_chunks, select_chunks, split_into_blocks
from hazard_store.settings import Settings
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.models import CalculationMeta, LedgerEntry, V2Meta, table_name
from hazard_store.storage.rate import WcuBudget
from hazard_store.storage.sender import DEFAULT_CONNECTIONS, Sender
from hazard_store.storage.tables import require_tables

SiteCodes = Literal["auto", "normalised"]

# When one chunk meets these, every other one would: the rest are not tried, and the run says so.
HOPELESS = (CredentialsError, TableMissingError, SourceChangedError)

CHUNK_RETRY_DELAYS_SECS = (2.0, 10.0)

# What of a calculation's record may differ without the meta being another.
_NOT_IN_META = ("source", "status", "items", "run_id", "created", "updated")


@dataclass(frozen=True)
class StoreRequest:
    """What a user asks for.

    Parameters
    ----------
    parts : tuple of str
        Empty for all that the file holds.
    chunks : tuple of str
        Ids or parts; empty for all. Named chunks are stored even if the ledger has them as done.
    max_wcu : float, optional
        Write units per second of the whole run, however many workers share it.
    connections : int
        Requests that one worker has under way.
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
    max_wcu: float | None = None
    connections: int = DEFAULT_CONNECTIONS


@dataclass(frozen=True)
class StoreJob:
    """What every task of a run needs to know; small, frozen, and the same for all of them."""

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
    connections: int = DEFAULT_CONNECTIONS
    run_id: str = ""

    @property
    def identity(self) -> str:
        """What a done chunk must have been stored from to be skipped."""
        return f"{self.fingerprint}/{self.sites}"


@dataclass(frozen=True)
class StorePlan:
    """A run: its job, its chunks, and which of them are left to do."""

    job: StoreJob
    record: CalculationRecord
    chunks: tuple[Chunk, ...]
    todo: tuple[Chunk, ...]
    meta_todo: bool
    warnings: tuple[str, ...]

    def steps(self) -> list[Chunk | None]:
        """What is left to do, None for the meta."""
        return [*([None] if self.meta_todo else []), *self.todo]

    @property
    def items_todo(self) -> int:
        """Items that the run writes."""
        return sum(chunk.items for chunk in self.todo)


@dataclass(frozen=True)
class ChunkOutcome:
    """How a chunk of this run ended: with its metrics, or with an error."""

    chunk_id: ChunkId
    part: Part
    metrics: Metrics
    error: str | None = None


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

    @property
    def failed(self) -> tuple[ChunkOutcome, ...]:
        """The chunks that a rerun takes as its parameter."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    def totals(self, part: Part | None = None) -> Metrics:
        """Metrics of a part or of all, with the run's wall time for all."""
        total = Metrics()
        for outcome in self.outcomes:
            if part in (None, outcome.part):
                total.add(outcome.metrics)
        if part is None:
            total.seconds = self.seconds
        return total


class Progress(Protocol):
    """What a run tells about itself while it goes on."""

    def begin(self, plan: StorePlan) -> None:
        """The plan stands and writing starts."""

    def advance(self, outcome: ChunkOutcome) -> None:
        """A chunk ended."""


class Silent:
    """Tells nothing."""

    def begin(self, plan: StorePlan) -> None:
        """Nothing."""

    def advance(self, outcome: ChunkOutcome) -> None:
        """Nothing."""


def open_job(job: StoreJob) -> Calculation:
    """Open a job's calculation and check that it is still the file that was planned.

    Raises
    ------
    SourceChangedError
        If it is not.
    """
    calculation = open_calculation(job.source, parent=job.parent, sites=job.sites, trust_imt_order=job.trust_imt_order)
    if calculation.stamp != job.stamp:
        calculation.close()
        raise SourceChangedError(
            "the file is not the one that was planned (its size or time changed): store it again", source=job.source
        )
    return calculation


class _OpenCalculation:
    """The calculation that this process read last, kept open: the next chunk is nearly always of the same one.

    A calculation that another takes the place of is not closed but let go, so that a thread that still reads from it
    can end; its file closes with its last reader.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[StoreJob, Calculation] | None = None

    @contextmanager
    def of(self, job: StoreJob) -> Iterator[Calculation]:
        with self._lock:
            if self._last is None or self._last[0] != job:
                self._last = (job, open_job(job))
            calculation = self._last[1]
        calculation.check_unchanged()
        yield calculation
        calculation.check_unchanged()

    def release(self) -> None:
        """Let go of the file; an unpacked one gives its disk space back."""
        with self._lock:
            self._last = None


_opened = _OpenCalculation()


def kinds_of(calculation: Calculation, part: CurvePart) -> list[str]:
    """What the range keys of a part's items end with, in stored order."""
    if part == "stats":
        return list(calculation.aggs)
    return [rlz_to_text(rlz) for rlz in range(calculation.number_of("realisations"))]


def prepare(request: StoreRequest, settings: Settings) -> StorePlan:
    """Read and check a calculation, and plan what is left to store of it. Nothing is written.

    Raises
    ------
    SourceError
        If it cannot be read rightly.
    UsageError
        If the id, a part, a chunk or the layout means nothing.
    StorageError
        If the store cannot be reached or a table is missing.
    """
    haz_sol_id = haz_sol_id_from_text(request.haz_sol_id)
    layout = layout_from_names(request.encoding, request.partition)
    if request.max_wcu is not None and request.max_wcu <= 0:
        raise UsageError(f"--max-wcu must be above 0, not {request.max_wcu:g}")
    unknown = set(request.parts) - set(PARTS)
    if unknown:
        raise UsageError(f"unknown part {min(unknown)!r}: choose {', '.join(PARTS)}")
    with open_calculation(
        request.source, parent=request.parent, sites=request.sites, trust_imt_order=request.trust_imt_order
    ) as calculation:
        curves_per_site: dict[CurvePart, int] = {
            part: calculation.number_of(part) for part in CURVE_PARTS if calculation.curves[part] is not None
        }
        for part in request.parts:
            if part != "meta" and part not in curves_per_site:
                raise UsageError(_missing_part(part, calculation))
        calculation.check_curves()
        parts = meta.asked_parts(request.parts or ("meta", *curves_per_site))
        tables = {CalculationMeta.table_base, LedgerEntry.table_base, *(layout.table_base(p) for p in curves_per_site)}
        require_tables(tables | ({V2Meta.table_base} if layout.is_v2 else set()), settings)
        job = StoreJob(
            source=calculation.source,
            stamp=calculation.stamp,
            fingerprint=calculation.fingerprint,
            haz_sol_id=haz_sol_id,
            layout=layout,
            parts=parts,
            settings=settings,
            sites=request.sites,
            parent=request.parent,
            trust_imt_order=request.trust_imt_order,
            max_wcu=request.max_wcu,
            connections=request.connections,
            run_id=uuid.uuid4().hex[:12],
        )
        calculation.check_unchanged()
        n_sites, warnings = len(calculation.sites.codes), calculation.warnings

    earlier = Ledger(settings).calculation(haz_sol_id, layout)
    same = earlier is not None and earlier.identity == job.identity
    wanted_before = earlier.parts if same and earlier is not None else ()
    chunks = plan_chunks(n_sites, {p: n for p, n in curves_per_site.items() if p in parts})
    records = Ledger(settings).chunks(haz_sol_id, layout) if same else {}
    if request.chunks:
        todo = select_chunks(chunks, [name for name in request.chunks if name != META_CHUNK])
    else:
        todo = [chunk for chunk in chunks if not is_done(records.get(chunk.id), job.identity)]
    record = CalculationRecord(
        haz_sol_id=haz_sol_id,
        layout=layout.name,
        source=job.source,
        fingerprint=job.fingerprint,
        identity=job.identity,
        n_sites=n_sites,
        curves_per_site=curves_per_site,
        parts=meta.asked_parts((*parts, *wanted_before)),
        status="storing",
        sites=request.sites,
        parent=request.parent,
        trust_imt_order=request.trust_imt_order,
        items=sum(chunk.items for chunk in chunks),
        run_id=job.run_id,
    )
    if same and earlier is not None:
        record = replace(record, created=earlier.created)
    # The ledger may have the meta as done, and the meta be lost or damaged since.
    meta_stands = is_done(records.get(META_CHUNK), job.identity) and _stored_meta(job) is not None
    meta_as_before = replace(record, **{name: getattr(earlier, name) for name in _NOT_IN_META}) if earlier else None
    return StorePlan(
        job=replace(job, parts=record.parts),
        record=record,
        chunks=tuple(chunks),
        todo=tuple(todo),
        meta_todo=meta_as_before != earlier or not meta_stands,
        warnings=warnings,
    )


def _stored_meta(job: StoreJob) -> meta.Meta | None:
    try:
        return meta.read_meta(job.haz_sol_id, job.settings, job.layout)
    except (NotStoredError, CorruptItemError):
        return None


def is_done(record: ChunkRecord | None, identity: str) -> bool:
    """Whether the ledger has a chunk as stored from this very content."""
    return record is not None and record.status == "done" and record.identity == identity


def _missing_part(part: Part, calculation: Calculation) -> str:
    setting = "individual_rlzs = true" if part == "realisations" else "mean = true, or quantiles"
    return f"{calculation.source} holds no {part}: run the job with `{setting}` to have them"


def begin(plan: StorePlan) -> None:
    """Say in ledger and meta that a store is under way; a V2 meta of an earlier content goes first."""
    job = plan.job
    if plan.todo or plan.meta_todo:
        meta.mark_incomplete(job.haz_sol_id, job.layout, job.settings)
        if job.layout.is_v2:
            meta.delete_v2_meta(job.haz_sol_id, job.settings)
    Ledger(job.settings).save_calculation(plan.record)


def store_meta(job: StoreJob) -> Metrics:
    """Write the meta, marked as not complete, and record it as a chunk of its own."""
    started = time.monotonic()
    records = Ledger(job.settings)
    record = records.start_chunk(job.haz_sol_id, job.layout, META_CHUNK, identity=job.identity, run_id=job.run_id)
    with _recorded(job, record), _opened.of(job) as calculation:
        kinds: dict[CurvePart, list[str]] = {
            part: kinds_of(calculation, part) for part in CURVE_PARTS if calculation.curves[part] is not None
        }
        document = meta.calculation_to_document(calculation, kinds)
        meta.write_meta(meta.Meta(job.haz_sol_id, job.layout, False, job.parts, document), job.settings)
        metrics = Metrics(items=1, seconds=time.monotonic() - started)
        records.save_chunk(job.haz_sol_id, job.layout, ledger.end_chunk(record, status="done", items=1))
    return metrics


def store_chunk(job: StoreJob, chunk: Chunk, cancelled: threading.Event | None = None) -> Metrics:
    """Store one chunk: read blocks, encode them, write them, and record it as done once all is acknowledged.

    Storing a chunk twice gives the same items.

    Raises
    ------
    SourceError, StorageError
        After the ledger has the chunk as failed, with the error.
    """
    started = time.monotonic()
    records = Ledger(job.settings)
    record = records.start_chunk(job.haz_sol_id, job.layout, chunk.id, identity=job.identity, run_id=job.run_id)
    table = table_name(job.layout.table_base(chunk.part), job.settings)
    content = 0
    budget = WcuBudget(job.max_wcu) if job.max_wcu else None
    with _recorded(job, record), _opened.of(job) as calculation:
        with Sender(table, job.settings, connections=job.connections, budget=budget, cancelled=cancelled) as sender:
            timings = Metrics()
            for block in read_blocks(calculation, job.haz_sol_id, chunk, timings):
                encoding = time.monotonic()
                content += digest.curves_digest(block.codes, block.kinds, block.poes)
                for item in job.layout.encoding.encode(block, job.layout.partition):
                    sender.put(item)
                timings.encoding_secs += time.monotonic() - encoding
        metrics = sender.metrics
        metrics.add(timings)
        metrics.seconds = time.monotonic() - started
        if metrics.items != chunk.items:
            raise HazardStoreError(f"{chunk.id}: {metrics.items} items were acknowledged, planned were {chunk.items}")
        # Leaving the block checks once more that the file did not change; only then is the chunk done.
        calculation.check_unchanged()
        records.save_chunk(
            job.haz_sol_id,
            job.layout,
            ledger.end_chunk(
                record,
                status="done",
                items=metrics.items,
                wcu=metrics.wcu,
                digest=digest.digest_to_text(digest.combine_digests([content])),
                metrics={
                    "seconds": metrics.seconds,
                    "reading_secs": metrics.reading_secs,
                    "encoding_secs": metrics.encoding_secs,
                    "writing_secs": metrics.writing_secs,
                    "item_bytes": metrics.item_bytes,
                    "requests": metrics.requests,
                    "retries": metrics.retries,
                    "throttles": metrics.throttles,
                    "latency_p50_secs": metrics.latency_secs(0.5),
                    "latency_p95_secs": metrics.latency_secs(0.95),
                },
            ),
        )
    return metrics


def read_blocks(calculation: Calculation, haz_sol_id: str, chunk: Chunk, timings: Metrics) -> Iterator[CurveBlock]:
    """Read a chunk in file order, one slice a block; reading time is added to `timings`."""
    sites = calculation.sites
    imtls = calculation.imtls
    kinds = kinds_of(calculation, chunk.part)
    levels = np.array(list(imtls.values()), np.float64)
    created = created_epoch_secs(calculation.date)
    for block in split_into_blocks(chunk, curve_bytes=4 * levels.size):
        reading = time.monotonic()
        poes = calculation.read(chunk.part, block.start, block.stop, block.first, block.last)
        timings.reading_secs += time.monotonic() - reading
        yield CurveBlock(
            part=chunk.part,
            haz_sol_id=haz_sol_id,
            codes=sites.codes[block.start : block.stop],
            lat=sites.lat[block.start : block.stop],
            lon=sites.lon[block.start : block.stop],
            kinds=kinds[block.first : block.last],
            imts=tuple(imtls),
            levels=levels,
            poes=poes,
            created=created,
        )


def created_epoch_secs(date: str | None) -> int:
    """Give the moment of the calculation, which `list` items carry: the same however often they are stored."""
    if not date:
        return 0
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


@contextmanager
def _recorded(job: StoreJob, record: ChunkRecord) -> Iterator[None]:
    """Record a chunk as failed, with the error, when the block raises."""
    try:
        yield
    except BaseException as exc:
        failed = ledger.end_chunk(record, status="failed", error=f"{type(exc).__name__}: {exc}"[:2000])
        try:
            Ledger(job.settings).save_chunk(job.haz_sol_id, job.layout, failed)
        except HazardStoreError as ledger_error:
            # The store itself may be what failed; its `running` record says as well that the chunk is not done.
            exc.add_note(f"and the ledger could not be told: {ledger_error}")
        raise


def finish(plan: StorePlan, outcomes: Sequence[ChunkOutcome], seconds: float) -> StoreReport:
    """End a run: the meta says complete if the ledger has every chunk of everything that was asked for."""
    job = plan.job
    records = Ledger(job.settings)
    done = records.chunks(job.haz_sol_id, job.layout)
    needed = [META_CHUNK, *(chunk.id for chunk in plan.record.plan())]
    complete = all(is_done(done.get(chunk_id), job.identity) for chunk_id in needed)
    warnings = list(plan.warnings)
    # A run that had nothing left to do finishes one that died after its last chunk: then the meta is not complete yet.
    if complete and not (stored := meta.read_meta(job.haz_sol_id, job.settings, job.layout)).complete:
        if job.layout.is_v2 and (left_out := meta.write_v2_meta(stored, job.settings)):
            warnings.append(f"the V2 meta item would exceed 400 KB: {', '.join(left_out)} left out of it")
        meta.write_meta(replace(stored, complete=True), job.settings)
    failed = any(outcome.error for outcome in outcomes)
    status: ledger.CalculationStatus = "complete" if complete else "failed" if failed else "storing"
    records.save_calculation(replace(plan.record, status=status, updated=ledger.now_text()))
    return StoreReport(
        haz_sol_id=job.haz_sol_id,
        layout=job.layout.name,
        run_id=job.run_id,
        complete=complete,
        chunks=len(plan.chunks),
        skipped=len(plan.chunks) - len(plan.todo),
        outcomes=tuple(outcomes),
        seconds=seconds,
        warnings=tuple(warnings),
    )


def store_in_process(request: StoreRequest, settings: Settings, progress: Progress | None = None) -> StoreReport:
    """Store a calculation in this process, without Prefect or Dask, chunk by chunk."""
    progress = progress or Silent()
    plan = prepare(request, settings)
    started = time.monotonic()
    begin(plan)
    progress.begin(plan)
    outcomes: list[ChunkOutcome] = []
    hopeless: HazardStoreError | None = None
    try:
        for chunk in plan.steps():
            outcome, error = _attempt(plan.job, chunk, hopeless)
            hopeless = hopeless or (error if isinstance(error, HOPELESS) else None)
            outcomes.append(outcome)
            progress.advance(outcome)
    finally:
        _opened.release()
    return finish(plan, outcomes, time.monotonic() - started)


def _attempt(
    job: StoreJob, chunk: Chunk | None, hopeless: HazardStoreError | None
) -> tuple[ChunkOutcome, HazardStoreError | None]:
    """Store a chunk, or the meta for None, with retries; an error becomes part of the outcome."""
    chunk_id = META_CHUNK if chunk is None else chunk.id
    part: Part = "meta" if chunk is None else chunk.part
    if hopeless is not None:
        return ChunkOutcome(chunk_id, part, Metrics(), f"not tried: {hopeless}"), hopeless
    for delay_secs in (*CHUNK_RETRY_DELAYS_SECS, None):
        try:
            metrics = store_meta(job) if chunk is None else store_chunk(job, chunk)
        except HazardStoreError as exc:
            if delay_secs is None or isinstance(exc, HOPELESS):
                return ChunkOutcome(chunk_id, part, Metrics(), str(exc)), exc
            time.sleep(delay_secs)
        else:
            return ChunkOutcome(chunk_id, part, metrics), None
    raise AssertionError("unreachable: the last attempt returns")
