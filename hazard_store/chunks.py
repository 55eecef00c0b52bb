"""Storing one chunk: *read a block of sites -> encode its items -> write them -> record the chunk*."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from hazard_store import digest, ledger, meta
from hazard_store.errors import HazardStoreError, LeaseLostError, SourceChangedError, StorageError
from hazard_store.jobs import ChunkOutcome, StoreJob
from hazard_store.layouts import CurveBlock
from hazard_store.lease import LEASE_POLICY
from hazard_store.ledger import META_CHUNK, ChunkRecord, Ledger
from hazard_store.meta_document import calculation_to_document, document_digest
from hazard_store.names import CURVE_PARTS, ChunkId, CurvePart, Part, rlz_to_text
from hazard_store.oq import Calculation, open_calculation
from hazard_store.permit import Permit
from hazard_store.planning import BLOCK_BYTES, Chunk, split_into_blocks
from hazard_store.storage.connection import contact
from hazard_store.storage.control import WriteControl, controls
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.models import table_name
from hazard_store.storage.sender import BYTES_UNDER_WAY, Sender
from hazard_store.storage.spreading import WINDOW_BYTES, spread
from hazard_store.texts import to_message

logger = logging.getLogger(__name__)

# How often a running chunk tells the ledger how far it is: one write unit each time, and nothing for a short chunk.
RENEW_EVERY_SECS = 5.0

# How often it looks whether its run still has the lease, at one read unit: a cancelled run writes hardly longer than
# this (`lease.STOP_SECS`).
LOOK_EVERY_SECS = 2.0

# What a done chunk's record says besides items and write units.
_RECORDED_METRICS = (
    "seconds",
    "reading_secs",
    "encoding_secs",
    "writing_secs",
    "item_bytes",
    "requests",
    "retries",
    "throttles",
    "source_bytes",
)


def open_job(job: StoreJob) -> Calculation:
    """Open a job's calculation and check that it is still the file that was planned.

    Raises
    ------
    SourceChangedError
        If it is not.
    """
    calculation = open_calculation(
        job.source,
        parent=job.parent,
        sites=job.sites,
        trust_imt_order=job.trust_imt_order,
        ranges=job.ranges,
        chunked=job.chunked,
        fingerprint=job.fingerprint,
    )
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


opened_calculation = _OpenCalculation()


def kinds_of(calculation: Calculation, part: CurvePart) -> list[str]:
    """What the range keys of a part's items end with, in stored order."""
    if part == "stats":
        return list(calculation.aggs)
    return [rlz_to_text(rlz) for rlz in range(calculation.number_of("realisations"))]


def store_meta(job: StoreJob) -> Metrics:
    """Write the meta, marked as not complete, and record it as a chunk of its own; raises what ``store_chunk`` does."""
    started = time.monotonic()
    permit = permit_of(job)
    with _recorded(job, META_CHUNK, permit) as (calculation, record):
        if record.status == "done":
            return Metrics(items=1, wcu=record.wcu)
        kinds: dict[CurvePart, list[str]] = {
            part: kinds_of(calculation, part) for part in CURVE_PARTS if calculation.curves[part] is not None
        }
        document = calculation_to_document(calculation, kinds)
        wcu = meta.write_meta(meta.Meta(job.haz_sol_id, job.layout, False, job.parts, document), job.settings)
        seconds = time.monotonic() - started
        metrics = Metrics(items=1, wcu=wcu, seconds=seconds, source_bytes=calculation.take_fetched_bytes())
        permit.check()
        done = ledger.end_chunk(record, status="done", items=1, wcu=wcu, digest=document_digest(document))
        Ledger(job.settings).save_chunk(job.haz_sol_id, job.layout, done)
    return metrics


def store_chunk(job: StoreJob, chunk: Chunk) -> Metrics:
    """Store one chunk: read blocks, encode them, write them, and record it as done once all is acknowledged.

    Storing a chunk twice gives the same items; one that its own run has done already is not written again.

    Raises
    ------
    SourceError, StorageError
        After the ledger has the chunk as failed, with the error.
    LeaseLostError
        If the run has no lease of the calculation: it writes nothing, or stops writing within seconds.
    """
    started = time.monotonic()
    permit = permit_of(job)
    with _recorded(job, chunk.id, permit) as (calculation, record):
        if record.status == "done":
            return _metrics_of(record)
        metrics, content = _write(job, chunk, calculation, record, permit)
        metrics.seconds = time.monotonic() - started
        metrics.source_bytes = calculation.take_fetched_bytes()
        if metrics.items != chunk.items:
            raise HazardStoreError(f"{chunk.id}: {metrics.items} items were acknowledged, planned were {chunk.items}")
        # Leaving the block checks once more that the file did not change; only then is the chunk done.
        calculation.check_unchanged()
        permit.check()
        Ledger(job.settings).save_chunk(
            job.haz_sol_id,
            job.layout,
            ledger.end_chunk(
                record,
                status="done",
                items=metrics.items,
                wcu=metrics.wcu,
                digest=digest.digest_to_text(digest.combine_digests([content])),
                metrics={
                    **{name: getattr(metrics, name) for name in _RECORDED_METRICS},
                    "latency_p50_secs": metrics.latency_secs(0.5),
                    "latency_p95_secs": metrics.latency_secs(0.95),
                },
            ),
        )
    return metrics


def outcome_without_worker(job: StoreJob, chunk_id: ChunkId, part: Part, why: str) -> ChunkOutcome:
    """Say what became of a chunk whose worker did not live to tell.

    One that was killed between recording the chunk and telling so has stored it. A ledger that does not answer knows
    nothing of it.
    """
    try:
        record = Ledger(job.settings, LEASE_POLICY).chunk(job.haz_sol_id, job.layout, chunk_id)
    except HazardStoreError as exc:
        return ChunkOutcome(chunk_id, part, Metrics(), f"{why}; and the ledger does not answer: {exc}")
    if record is not None and (record.status, record.run_id) == ("done", job.run_id):
        return ChunkOutcome(chunk_id, part, _metrics_of(record))
    return ChunkOutcome(chunk_id, part, Metrics(), why)


def _metrics_of(record: ChunkRecord) -> Metrics:
    """What a chunk took when it was stored, without its latencies, of which the ledger has only two."""
    figures = {name: record.metrics[name] for name in _RECORDED_METRICS if name in record.metrics}
    return Metrics(items=record.items, wcu=record.wcu, **figures)


def permit_of(job: StoreJob) -> Permit:
    """Look from here at the lease of a job's run."""
    return Permit.of(job.haz_sol_id, job.layout, job.run_id, job.settings)


def _write(
    job: StoreJob, chunk: Chunk, calculation: Calculation, record: ChunkRecord, permit: Permit
) -> tuple[Metrics, int]:
    """Read, encode and write a chunk's curves; gives what that took, and the sum of their digests."""
    stop = threading.Event()
    table = table_name(job.layout.table_base(chunk.part), job.settings)
    # By bins, a chunk shares what limits it with all others: the table.
    own_limit = not job.layout.is_by_bin
    with controls.of(job.run_id, table, job.max_wcu, job.chunks_under_way, own_limit=own_limit) as control:
        adopt_share(job, permit)
        sender = _sender(job, table, control, stop)
        with _watched(job, record, sender.so_far, permit, stop), sender:
            try:
                timings, content = _put_all(job, chunk, calculation, sender)
            except BaseException:
                # The sender waits for its threads, and they for their turn: no more.
                stop.set()
                raise
    metrics = sender.metrics
    metrics.add(timings)
    return metrics, content


def _put_all(job: StoreJob, chunk: Chunk, calculation: Calculation, sender: Sender) -> tuple[Metrics, int]:
    """Read and encode a chunk's curves, and give them to the sender."""
    timings = Metrics()
    content = 0
    for block in read_blocks(calculation, job.haz_sol_id, chunk, timings, job.block_bytes):
        encoding = time.monotonic()
        content += digest.curves_digest(block.codes, block.kinds, block.poes)
        items = job.layout.encoding.encode(block, job.layout.partition)
        for item in spread(items, WINDOW_BYTES // job.chunks_a_worker):
            sender.put(item)
        timings.encoding_secs += time.monotonic() - encoding
    timings.encoding_secs -= sender.sending_secs
    return timings, content


def _sender(job: StoreJob, table: str, control: WriteControl, stop: threading.Event) -> Sender:
    """Make a chunk's sender, with its share of what a process has."""
    connections = None if job.connections is None else max(1, job.connections // job.chunks_a_worker)
    return Sender(
        table,
        job.settings,
        connections=connections,
        control=control,
        bytes_under_way=BYTES_UNDER_WAY // job.chunks_a_worker,
        cancelled=stop,
    )


def adopt_share(job: StoreJob, permit: Permit) -> None:
    """Use what chunks that have ended leave of the write budget and of the table."""
    if permit.chunks is not None:
        controls.share(job.run_id, permit.chunks)


def read_blocks(
    calculation: Calculation, haz_sol_id: str, chunk: Chunk, timings: Metrics, block_bytes: int = BLOCK_BYTES
) -> Iterator[CurveBlock]:
    """Read a chunk in file order, one slice a block; reading time is added to `timings`."""
    sites = calculation.sites
    imtls = calculation.imtls
    kinds = kinds_of(calculation, chunk.part)
    levels = np.array(list(imtls.values()), np.float64)
    created = created_epoch_secs(calculation.date)
    for block in split_into_blocks(chunk, curve_bytes=4 * levels.size, block_bytes=block_bytes):
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
def _watched(
    job: StoreJob, record: ChunkRecord, so_far: Callable[[], Metrics], permit: Permit, stop: threading.Event
) -> Iterator[None]:
    """Tell the ledger every few seconds how far a chunk is, and set `stop` when its run may not write any more.

    A thread does it, and not a call from the writing: a chunk that waits out throttles shows them while it waits. It
    ends before the block's end is recorded.
    """
    ended = threading.Event()

    def watch() -> None:
        tell_at = time.monotonic() + RENEW_EVERY_SECS
        while not ended.wait(min(LOOK_EVERY_SECS, max(0.0, tell_at - time.monotonic()))):
            try:
                permit.check()
            except LeaseLostError:
                stop.set()
                return
            adopt_share(job, permit)
            if time.monotonic() >= tell_at:
                tell_at = time.monotonic() + RENEW_EVERY_SECS
                _tell_progress(job, record, so_far())

    thread = threading.Thread(target=watch, name=f"watch {record.chunk_id}", daemon=True)
    thread.start()
    try:
        yield
    except HazardStoreError as exc:
        if permit.lost is not None:
            raise LeaseLostError(permit.lost) from exc
        raise
    finally:
        stop.set()
        ended.set()
        thread.join()


def _tell_progress(job: StoreJob, record: ChunkRecord, now: Metrics) -> None:
    figures = {"retries": now.retries, "throttles": now.throttles}
    running = replace(record, items=now.items, wcu=now.wcu, metrics=figures)
    try:
        # Not for long: the thread that tells this looks at the lease as well.
        Ledger(job.settings, LEASE_POLICY).update_chunk(job.haz_sol_id, job.layout, running)
    except HazardStoreError as exc:
        # Only who watches misses something; what the store itself makes of a lost ledger shows at its end.
        logger.warning("%s: the ledger could not be told how far it is: %s", record.chunk_id, exc)


@contextmanager
def _recorded(job: StoreJob, chunk_id: ChunkId, permit: Permit) -> Iterator[tuple[Calculation, ChunkRecord]]:
    """Open the file, mark a chunk as running, and record it as failed, with the error, when anything raises.

    A run without the lease leaves the ledger alone: what it says of the chunk is another run's.
    """
    record: ChunkRecord | None = None
    # Whoever planned the chunk had answers from there, if this process had none yet.
    contact(job.settings).expect()
    try:
        with opened_calculation.of(job) as calculation:
            record = _start(job, chunk_id, permit)
            yield calculation, record
    except BaseException as exc:
        try:
            _record_failure(job, chunk_id, record, permit, exc)
        except HazardStoreError as ledger_error:
            # The store itself may be what failed; its `running` record says as well that the chunk is not done.
            exc.add_note(f"and the ledger could not be told: {ledger_error}")
        raise


def _start(job: StoreJob, chunk_id: ChunkId, permit: Permit) -> ChunkRecord:
    permit.check()
    records = Ledger(job.settings)
    return records.start_chunk(job.haz_sol_id, job.layout, chunk_id, identity=job.identity, run_id=job.run_id)


def _record_failure(
    job: StoreJob, chunk_id: ChunkId, record: ChunkRecord | None, permit: Permit, error: BaseException
) -> None:
    # Whoever stopped the run waits for it.
    records = Ledger(job.settings, None if isinstance(error, Exception) else LEASE_POLICY)
    if record is None:
        if isinstance(error, (LeaseLostError, StorageError)):
            # It did not start, by its lease or for lack of a ledger.
            return
        record = _start(job, chunk_id, permit)
    failed = ledger.end_chunk(record, status="failed", error=to_message(f"{type(error).__name__}: {error}"))
    # Unless the run that has the lease now has stored, or deleted, the chunk meanwhile, or another worker did.
    records.update_chunk(job.haz_sol_id, job.layout, failed)
