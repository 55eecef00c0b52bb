"""Storing a calculation: *read a block of sites -> encode its items -> write them -> record the chunk*.

The steps are functions of small frozen values, so that the same ones run in this process (``store_in_process``) and as
Prefect tasks on a Dask cluster (``flows/store_hazard.py``)::

    with started(request) as plan:          # reads, checks, refuses; from here on ledger and meta say: being stored
        plan.share.set(4)                   # where chunks are stored elsewhere: how many at once; `end()` when none is
        store_meta(plan.job)
        store_chunk(plan.job, chunk)        # for every chunk of plan.todo, in any order, anywhere
        report = finish(plan, outcomes)     # the meta says complete if the ledger has every chunk
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from hazard_store import lease, ledger, meta
from hazard_store.checking import Checked, check_request
from hazard_store.chunks import opened_calculation, permit_of, store_chunk, store_meta
from hazard_store.errors import (
    CorruptItemError,
    CredentialsError,
    HazardStoreError,
    LeaseLostError,
    NotStoredError,
    SourceChangedError,
    StorageError,
    StoreUnreachableError,
    TableMissingError,
)
from hazard_store.fetching import place_of
from hazard_store.inventory import Inventory
from hazard_store.jobs import ChunkOutcome, Progress, Silent, StoreJob, StorePlan, StoreReport, StoreRequest
from hazard_store.ledger import META_CHUNK, CalculationRecord, Ledger
from hazard_store.names import CURVE_PARTS, Part, parts_in_order
from hazard_store.planning import Chunk, spread_chunks
from hazard_store.removal import remove_leftovers
from hazard_store.settings import Settings
from hazard_store.standing import is_done, is_stored
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.reader import Reader
from hazard_store.stored import Place, StoredCurves
from hazard_store.v2_meta import delete_v2_meta, write_v2_meta

# When one chunk meets these, every other one would: none is tried twice, and in this process the rest are not tried.
# The tasks of a flow find it out one by one, each with its first request.
HOPELESS = (CredentialsError, TableMissingError, StoreUnreachableError, SourceChangedError, LeaseLostError)

CHUNK_RETRY_DELAYS_SECS = (2.0, 10.0)

_LEFT_BEHIND = (
    "another content was stored under {id} before: what it had and this one has not (sites, codes, realisations) stays "
    "in the tables, where readers that do not ask the meta find it; `hazard-store store --replace` removes it"
)

_NOT_RECORDED = "the worker said that it was stored, but the ledger does not: rerun it"

# What of a calculation's record may differ without the meta being another.
_NOT_IN_META = (
    "source",
    "source_size",
    "source_mtime_ns",
    "source_etag",
    "status",
    "items",
    "bins",
    "run_id",
    "created",
    "updated",
)


@contextmanager
def started(
    request: StoreRequest,
    settings: Settings,
    on_wait: Callable[[str], None] = lambda holder: None,
    on_takeover: Callable[[str], None] = lambda origin: None,
) -> Iterator[StorePlan]:
    """Begin a run: check, take the calculation's lease, plan, and say in ledger and meta that a store is under way.

    The block stores the chunks of the plan and ends with ``finish``; the lease is given back behind it. When the block
    is left by an error or a signal instead, the ledger says that the run failed, and the lease is given back at once:
    by that, chunks that are still being written elsewhere stop, for which the next run waits.

    Parameters
    ----------
    on_wait : callable
        Told the run that holds the lease, when it has to be seen whether that run is alive.
    on_takeover : callable
        Told the origin of the dead run from which the lease was taken over, if it had one.

    Raises
    ------
    LeaseHeldError
        If another run is storing or deleting the calculation.
    SourceError, UsageError, StorageError
        As ``prepare``.
    """
    checked = check_request(request, settings)
    job = checked.job
    share = lease.Share()
    with lease.held(
        job.haz_sol_id, job.layout, job.run_id, settings, on_wait, share, request.origin, on_takeover
    ) as lost:
        plan = replace(_plan(request, checked), lost=lost, share=share)
        try:
            _begin(plan)
            if request.replace:
                plan = _replaced(plan, checked)
            yield plan
        except BaseException as exc:
            if not lost.is_set() and not isinstance(exc, LeaseLostError):
                _interrupt(plan, exc)
            raise


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
    return _plan(request, check_request(request, settings))


def _plan(request: StoreRequest, checked: Checked) -> StorePlan:
    job, records_of = checked.job, Ledger(checked.job.settings)
    earlier = records_of.calculation(job.haz_sol_id, job.layout)
    same = earlier is not None and earlier.identity == job.identity
    wanted_before = earlier.parts if same and earlier is not None else ()
    chunks = checked.chunks
    records = records_of.chunks(job.haz_sol_id, job.layout) if same else {}
    if request.chunks:
        todo = checked.named
    else:
        todo = [chunk for chunk in chunks if not is_stored(chunk, records, job.identity, checked.tables_made)]
    record = CalculationRecord(
        haz_sol_id=job.haz_sol_id,
        layout=job.layout.name,
        source=job.source,
        fingerprint=job.fingerprint,
        identity=job.identity,
        n_sites=len(checked.places),
        curves_per_site={part: len(kinds) for part, kinds in checked.kinds.items()},
        parts=parts_in_order((*job.parts, *wanted_before)),
        status="storing",
        sites=request.sites,
        parent=request.parent,
        trust_imt_order=request.trust_imt_order,
        source_size=job.stamp.size,
        source_mtime_ns=job.stamp.mtime_ns,
        source_etag=job.stamp.etag,
        run_id=job.run_id,
    )
    record = replace(record, items=sum(chunk.items for chunk in record.plan()))
    if same and earlier is not None:
        record = replace(record, created=earlier.created)
    leaves_behind = earlier is not None and not same and not request.replace
    # The ledger may have the meta as done, and the meta be lost or damaged since.
    stored_meta = _stored_meta(job)
    meta_stands = is_done(records.get(META_CHUNK), job.identity) and stored_meta is not None
    record = replace(record, bins=_other_bins(job, checked.places, stored_meta, earlier))
    meta_as_before = replace(record, **{name: getattr(earlier, name) for name in _NOT_IN_META}) if earlier else None
    return StorePlan(
        job=replace(job, parts=record.parts),
        record=record,
        chunks=tuple(chunks),
        todo=tuple(spread_chunks(todo)),
        meta_todo=META_CHUNK in request.chunks or meta_as_before != earlier or not meta_stands,
        tables_made=checked.tables_made,
        warnings=(*checked.warnings, *([_LEFT_BEHIND.format(id=job.haz_sol_id)] if leaves_behind else [])),
    )


def _other_bins(
    job: StoreJob, places: tuple[Place, ...], stored: meta.Meta | None, earlier: CalculationRecord | None
) -> tuple[str, ...]:
    """Give the bins of the contents that were stored before, which only their metas know, and those are overwritten."""
    if not job.layout.is_by_bin:
        return ()

    def bins_of(some: Iterable[Place]) -> set[str]:
        return {job.layout.partition.hash_key(job.haz_sol_id, place.lat, place.lon) for place in some}

    before = set(() if earlier is None else earlier.bins)
    if stored is not None:
        before |= bins_of(place_of(stored, site) for site in range(len(stored.codes)))
    return tuple(sorted(before - bins_of(places)))


def _stored_meta(job: StoreJob) -> meta.Meta | None:
    try:
        return meta.read_meta(job.haz_sol_id, job.settings, job.layout)
    except (NotStoredError, CorruptItemError):
        return None


def _begin(plan: StorePlan) -> None:
    """Say in ledger and meta that a store is under way; a V2 meta of an earlier content goes.

    The ledger first: a run that ends in between leaves whole what is stored, and a rerun that finds work to do. The
    other way round the ledger would call complete what no reader finds any more.
    """
    job = plan.job
    Ledger(job.settings).save_calculation(plan.record)
    if plan.todo or plan.meta_todo:
        meta.mark_complete(job.haz_sol_id, job.layout, job.settings, complete=False)
        if job.layout.is_v2:
            delete_v2_meta(job.haz_sol_id, job.settings)


def _replaced(plan: StorePlan, checked: Checked) -> StorePlan:
    """Remove what an earlier content left behind, before anything of the new one is written.

    The ledger's record says in which bins that is until it is gone, so that a run that ends in between is repeated.
    """
    job, records = plan.job, Ledger(plan.job.settings)
    reader = Reader(job.settings)

    def check() -> None:
        if plan.lost.is_set():
            raise lease.lost_error(job.haz_sol_id)

    inventories = [
        Inventory(
            StoredCurves(job.haz_sol_id, job.layout, part, job.settings, reader, plan.record.bins),
            checked.places,
            checked.kinds.get(part, []) if part in plan.record.parts else [],
        )
        for part in CURVE_PARTS
    ]
    removed = remove_leftovers(inventories, check)
    check()
    records.delete_chunks(job.haz_sol_id, job.layout, keep={META_CHUNK, *(chunk.id for chunk in plan.record.plan())})
    record = replace(plan.record, bins=())
    records.save_calculation(record)
    return replace(plan, record=record, removed=removed)


def _interrupt(plan: StorePlan, error: BaseException) -> None:
    """Say in the ledger that no run is under way any more, for this run's lease is about to be given back."""
    job = plan.job
    # Whoever stopped the run waits for it, and the store may be what failed.
    records = Ledger(job.settings, lease.LEASE_POLICY)
    why = f"the run ended before the chunk: {type(error).__name__}: {error}".rstrip(": ")
    try:
        now = records.calculation(job.haz_sol_id, job.layout)
        if now is None or (now.run_id, now.status) != (job.run_id, "storing"):
            return
        records.save_calculation(replace(now, status="failed", updated=ledger.now_text()))
        for record in records.chunks(job.haz_sol_id, job.layout).values():
            # A chunk on a worker that lives until it finds the lease gone says itself how it ended.
            if (record.run_id, record.status) == (job.run_id, "running"):
                records.update_chunk(
                    job.haz_sol_id, job.layout, ledger.end_chunk(record, status="failed", error=why[:2000])
                )
    except HazardStoreError as ledger_error:
        error.add_note(f"and the ledger could not be told: {ledger_error}")


def finish(plan: StorePlan, outcomes: Sequence[ChunkOutcome], seconds: float) -> StoreReport:
    """End a run: the meta says complete if the ledger has every chunk of everything that was asked for."""
    job = plan.job
    if plan.lost.is_set():
        # What this run stored is in the ledger, but whether the calculation is whole is the other run's to say.
        raise lease.lost_error(job.haz_sol_id)
    permit_of(job).check()
    warnings = list(plan.warnings)
    try:
        outcomes, complete = _settle(plan, outcomes, warnings)
    except StorageError as exc:
        if not any(outcome.error for outcome in outcomes):
            raise
        # What ended the chunks keeps us from the ledger as well: their names are what the next run needs.
        complete = False
        warnings.append(f"the ledger could not be told that the run failed: {exc}")
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
        removed=plan.removed,
    )


def _settle(
    plan: StorePlan, outcomes: Sequence[ChunkOutcome], warnings: list[str]
) -> tuple[Sequence[ChunkOutcome], bool]:
    """Say in meta and ledger how a run ended; gives its outcomes, and whether the calculation is complete."""
    job = plan.job
    records = Ledger(job.settings)
    done = records.chunks(job.haz_sol_id, job.layout)
    # The ledger's word counts. What it has not, nobody may take for stored, whatever a worker said.
    recorded = {c.id for c in plan.todo if is_stored(c, done, job.identity, plan.tables_made, run_id=job.run_id)}
    recorded |= {META_CHUNK} if is_done(done.get(META_CHUNK), job.identity) else set()
    outcomes = [
        outcome if outcome.error is not None or outcome.chunk_id in recorded else replace(outcome, error=_NOT_RECORDED)
        for outcome in outcomes
    ]
    failed = any(outcome.error for outcome in outcomes)
    complete = is_done(done.get(META_CHUNK), job.identity) and all(
        is_stored(chunk, done, job.identity, plan.tables_made, run_id=job.run_id) for chunk in plan.record.plan()
    )
    # A run that had nothing left to do finishes one that died after its last chunk: then the meta is not complete yet.
    if complete and not (stored := meta.read_meta(job.haz_sol_id, job.settings, job.layout)).complete:
        if job.layout.is_v2 and (left_out := write_v2_meta(stored, job.settings)):
            warnings.append(f"the V2 meta item would exceed 400 KB: {', '.join(left_out)} left out of it")
        meta.mark_complete(job.haz_sol_id, job.layout, job.settings, complete=True)
    status: ledger.CalculationStatus = "complete" if complete else "failed" if failed else "storing"
    records.save_calculation(replace(plan.record, status=status, updated=ledger.now_text()))
    return outcomes, complete


def store_in_process(request: StoreRequest, settings: Settings, progress: Progress | None = None) -> StoreReport:
    """Store a calculation in this process, without Prefect or Dask, chunk by chunk."""
    progress = progress or Silent()
    outcomes: list[ChunkOutcome] = []
    hopeless: HazardStoreError | None = None
    with started(request, settings, on_wait=progress.wait) as plan:
        job, began = plan.job_of(workers=1), time.monotonic()
        progress.begin(plan)
        try:
            for chunk in plan.steps():
                outcome, error = _attempt(job, chunk, hopeless)
                # In `location` tables nothing but the meta says in which bins a calculation's items are: one that was
                # killed before it had a meta would leave items that no delete finds.
                lost = isinstance(error, HOPELESS) or (chunk is None and job.layout.is_by_bin)
                hopeless = hopeless or (error if lost else None)
                outcomes.append(outcome)
                progress.advance(outcome)
        finally:
            opened_calculation.release()
        return finish(plan, outcomes, time.monotonic() - began)


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
