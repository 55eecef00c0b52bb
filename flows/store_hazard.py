"""Flow `store_hazard`: store one calculation, its chunks mapped over a Dask cluster."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Crashed
from prefect.task_runners import TaskRunner

from flows import progress
from flows.clusters import Cluster, cluster_from_name
from flows.endings import RunFailedError, failed, refused
from flows.fargate import FARGATE, end_cluster
from flows.forking import prepare_cluster
from flows.leftovers import end_leftovers, force_state
from flows.parameters import (
    ChunkName,
    ClusterName,
    Encoding,
    HazSolIdText,
    NamedSourceText,
    Partition,
    SourceText,
    WcuPerSec,
    Workers,
)
from flows.reporting import Reporter, RunKind
from flows.server import some_server, without_heartbeats
from flows.settings_once import settings_once
from hazard_store import storing
from hazard_store.chunks import outcome_without_worker
from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.jobs import ChunkOutcome, Progress, StoreJob, StorePlan, StoreReport, StoreRequest
from hazard_store.lease import LEASE_POLICY
from hazard_store.ledger import META_CHUNK, Ledger
from hazard_store.names import ChunkId, CurvePart, Part
from hazard_store.planning import Chunk
from hazard_store.settings import Settings
from hazard_store.storage.metrics import Metrics
from hazard_store.texts import holds_secrets, to_message
from tasks.sources import use_credentials_block
from tasks.storing import meta_task, realisations_task, stats_task

# A chunk tells the ledger every few seconds how far it is, and its retries take two minutes each at most. When nothing
# at all went on for so long, no worker is left, and a future without a worker never completes.
STALLED_SECS = 900.0
LOOKS = 10

_CURVE_TASKS: dict[CurvePart, Any] = {"stats": stats_task, "realisations": realisations_task}


@flow(
    name="store_hazard",
    flow_run_name="store {haz_sol_id}",
    persist_result=False,
    on_cancellation=[end_leftovers, end_cluster],
    on_crashed=[end_leftovers, end_cluster],
)
def store_hazard(
    source: NamedSourceText,
    haz_sol_id: HazSolIdText,
    parts: list[Part] | None = None,
    encoding: Encoding = "packed",
    partition: Partition = "solution",
    cluster: ClusterName = "local",
    workers: Workers | None = None,
    max_wcu: WcuPerSec | None = None,
    sites: Literal["auto", "normalised"] = "auto",
    parent: SourceText | None = None,
    trust_imt_order: bool = False,
    replace: bool = False,
    chunks: list[ChunkName] | None = None,
) -> State[StoreReport]:
    """Store one OpenQuake calculation in DynamoDB.

    Args:
        source: Path of the datastore (calc_N.hdf5) or of a zip archive that holds one.
        haz_sol_id: The id under which it is stored.
        parts: What to store: meta, stats, realisations. Empty for all that the file holds.
        encoding: packed (compact, lossless) or list (the V2 form).
        partition: solution (one query a calculation) or location (0.5 degree bins).
        cluster: local (worker processes on this machine), none (in this process), fargate (on AWS), or the
            tcp://HOST:PORT of a Dask scheduler.
        workers: Workers of a local cluster (empty for one a core) or on Fargate (empty for as many as have work).
        max_wcu: Write units per second that the whole run may use; empty for no limit.
        sites: auto (the job's custom_site_id where there is one) or normalised ([lat~lon] for all).
        parent: The parent calculation's file, for one that was started with --hc.
        trust_imt_order: Store a file of engine 3.17 or 3.18 although its IMT labels are suspect.
        replace: Remove what an earlier content of this id left in these tables (sites, statistics, realisations, parts
            that this one has not).
        chunks: Only these chunks, by id or part, even if they are stored already. Empty for all that are missing.
    """
    request = StoreRequest(
        source=source,
        haz_sol_id=haz_sol_id,
        parts=tuple(parts or ()),
        chunks=tuple(chunks or ()),
        encoding=encoding,
        partition=partition,
        sites=sites,
        parent=parent,
        trust_imt_order=trust_imt_order,
        replace=replace,
        max_wcu=max_wcu,
    )
    return store(request, cluster, workers)


def store(request: StoreRequest, cluster: str, workers: int | None, kind: RunKind = "store") -> State[StoreReport]:
    """Store within a flow run, and give the state in which the run ends; what is refused becomes its message."""
    try:
        return _store(request, cluster, workers, kind)
    except HazardStoreError as exc:
        return refused(exc)


def _store(request: StoreRequest, cluster: str, workers: int | None, kind: RunKind) -> State[StoreReport]:
    logger = get_run_logger()
    reporter = Reporter(progress.of_this_run(), kind)
    settings = Settings.from_environment()
    use_credentials_block()
    where = cluster_from_name(cluster, workers or settings.workers)
    # The order matters when the run is cancelled: first the lease is given back, which stops the writing on all workers
    # within seconds, and only then is there time to close a cluster. That starts with the first chunk.
    request = dataclasses.replace(request, origin=reporter.origin)
    started = storing.started(request, settings, on_wait=reporter.wait, on_takeover=reporter.take_over)
    with where.runner as runner, reporter, started as plan:
        for warning in plan.warnings:
            logger.warning("%s", warning)
        logger.info(
            "%s: %d chunks with %d items to store, %d chunks stored before",
            plan.job.layout.name,
            len(plan.todo),
            plan.items_todo,
            len(plan.chunks) - len(plan.todo),
        )
        if plan.removed:
            logger.info("%d items of an earlier content removed", plan.removed)
        began = time.monotonic()
        reporter.begin(plan)
        outcomes = []
        for outcome in run_chunks(plan, where, runner):
            outcomes.append(outcome)
            reporter.advance(outcome)
            if outcome.error:
                logger.error("%s failed: %s", outcome.chunk_id, outcome.error)
        report = storing.finish(plan, outcomes, time.monotonic() - began)
    reporter.end(report)
    totals = report.totals()
    logger.info("%s", totals.summary())
    if report.failed:
        return failed(failure_message(report), report)
    return Completed(message=totals.summary(), data=report)


def run_chunks(plan: StorePlan, where: Cluster, runner: TaskRunner[Any]) -> Iterator[ChunkOutcome]:
    """Map the plan's steps over the cluster, and give their outcomes as they end."""
    job, steps = plan.job_of(where.workers, where.chunks_a_worker), plan.steps()
    plan.share.set(job.chunks_under_way)
    ended, alive, unstored = 0, False, None
    for group in _groups(job, steps):
        if unstored is not None:
            yield from (_not_tried(step, unstored) for step in group)
            continue
        for outcome, has_ended in _Group(job, runner).run(group):
            ended += 1
            alive = alive or not has_ended
            unstored = unstored or (outcome.error if outcome.part == "meta" else None)
            # What can still be under way shares the budget: workers do not see each other's spending.
            plan.share.set(max(1, min(job.chunks_under_way, len(steps) - ended)))
            yield outcome
    if not alive:
        plan.share.end()


def _groups(job: StoreJob, steps: list[Chunk | None]) -> list[list[Chunk | None]]:
    """Give the steps in groups, each of which begins when the one before it has ended.

    In `location` tables nothing but the meta says in which bins a calculation's items are: one that was killed before
    it had a meta would leave items that no delete finds.
    """
    return [steps[:1], steps[1:]] if None in steps and job.layout.is_by_bin else [steps]


def _not_tried(step: Chunk | None, why: str) -> ChunkOutcome:
    assert step is not None, "the meta comes first"
    return ChunkOutcome(step.id, step.part, Metrics(), f"not tried: the meta was not stored ({why})")


def failure_message(report: StoreReport) -> str:
    """Name the failed chunks as ``rerun --chunk`` takes them."""
    names = ", ".join(outcome.chunk_id for outcome in report.failed)
    return f"{len(report.failed)} of {len(report.outcomes)} chunks failed: {names}"


class _Group:
    """Chunks that are mapped over the cluster together, and what becomes of them."""

    def __init__(self, job: StoreJob, runner: TaskRunner[Any]) -> None:
        self._job = job
        self._runner = runner
        self._under_way: dict[PrefectFuture[Any], tuple[ChunkId, Part]] = {}
        self._ended: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()

    def run(self, steps: list[Chunk | None]) -> Iterator[tuple[ChunkOutcome, bool]]:
        """Give the outcome of each step as it ends, and whether its worker said so; a failure does not stop the others.

        All are submitted at once, but with a write budget no more than share it: a worker that joins the cluster later
        would else take a share that nobody has left for it.
        """
        waiting = deque(steps)
        at_once = len(steps) if self._job.max_wcu is None else self._job.chunks_under_way
        while waiting or self._under_way:
            if waiting and len(self._under_way) < at_once:
                with settings_once():
                    while waiting and len(self._under_way) < at_once:
                        self._submit(waiting.popleft())
            future = self._next()
            if future is None:
                why = f"no chunk went on for {STALLED_SECS:g} s: is a worker left?"
                for future, (chunk_id, part) in self._under_way.items():
                    yield _without_worker(self._job, future, chunk_id, part, why), False
                for step in waiting:
                    chunk_id, part = (META_CHUNK, "meta") if step is None else (step.id, step.part)
                    yield ChunkOutcome(chunk_id, part, Metrics(), f"not tried: {why}"), True
                return
            yield self._outcome(future)

    def _submit(self, step: Chunk | None) -> None:
        if step is None:
            future = self._runner.submit(meta_task, parameters={"job": self._job})
            self._under_way[future] = (META_CHUNK, "meta")
        else:
            future = self._runner.submit(_CURVE_TASKS[step.part], parameters={"job": self._job, "chunk": step})
            self._under_way[future] = (step.id, step.part)
        # Prefect's as_completed has one time limit for all of them. Asked anew after each that ended, it would leave
        # a callback for each pair of futures: 3 GB for ten million items.
        future.add_done_callback(self._ended.put)

    def _next(self) -> PrefectFuture[Any] | None:
        """Wait until a chunk ends; gives None when none has ended or gone on for too long."""
        began, before = time.monotonic(), dict[ChunkId, tuple[object, ...]]()
        while time.monotonic() - began < STALLED_SECS:
            try:
                return self._ended.get(timeout=STALLED_SECS / LOOKS)
            except Empty:
                if (now := self._progress()) != before:
                    began, before = time.monotonic(), now
        return None

    def _progress(self) -> dict[ChunkId, tuple[object, ...]]:
        """Read how far the ledger has the run's chunks; one that does not answer knows of no progress."""
        try:
            records = Ledger(self._job.settings, LEASE_POLICY).chunks(self._job.haz_sol_id, self._job.layout)
        except HazardStoreError:
            return {}
        return {
            chunk_id: (record.status, record.attempts, record.items)
            for chunk_id, record in records.items()
            if record.run_id == self._job.run_id
        }

    def _outcome(self, future: PrefectFuture[Any]) -> tuple[ChunkOutcome, bool]:
        chunk_id, part = self._under_way.pop(future)
        has_ended = True
        try:
            outcome: ChunkOutcome = future.result()
        except Exception as exc:
            why = to_message(f"{exc}") or type(exc).__name__
            has_ended = type(exc).__name__ not in ("KilledWorker", "FutureCancelledError", "CancelledError")
            if has_ended:
                outcome = ChunkOutcome(chunk_id, part, Metrics(), why)
            else:
                outcome = _without_worker(self._job, future, chunk_id, part, why)
        # A result that is held makes Dask compute it anew when the worker that has it dies (Prefect issue 15442).
        if (held := getattr(future, "wrapped_future", None)) is not None and hasattr(held, "release"):
            held.release()
        return outcome, has_ended


def _without_worker(job: StoreJob, future: PrefectFuture[Any], chunk_id: ChunkId, part: Part, why: str) -> ChunkOutcome:
    """Give the outcome of a chunk whose task run never got to say how it ended; in the UI it would run for ever."""
    outcome = outcome_without_worker(job, chunk_id, part, why)
    state: State[Any]
    if outcome.error is None:
        state = Completed(message="stored; the worker was lost before it could say so")
    else:
        state = Crashed(message=to_message(why))
    with get_client(sync_client=True) as client:
        force_state(client, future.task_run_id, state)
    return outcome


def run(request: StoreRequest, cluster: str, workers: int | None, listener: Progress) -> StoreReport:
    """Run the flow in this process, for the command line.

    Raises
    ------
    HazardStoreError
        What the flow refused before any chunk was tried.
    """
    for path in (request.source, request.parent):
        # Before Prefect sees it: the server would keep it among the run's parameters.
        if path is not None and holds_secrets(path):
            raise UsageError(f"{path} is a URL with a user, a password or a signature, which the run would show to all")
    if cluster == FARGATE and not PREFECT_API_URL.value():
        # The server that would start here is reached on this machine alone.
        raise UsageError("--cluster fargate needs a Prefect server that the workers reach: set PREFECT_API_URL")
    prepare_cluster(cluster)
    token = progress.current.set(listener)
    try:
        with some_server(), without_heartbeats():
            state: State[Any] = store_hazard(
                source=request.source,
                haz_sol_id=request.haz_sol_id,
                parts=list(request.parts) or None,
                encoding=request.encoding,
                partition=request.partition,
                cluster=cluster,
                workers=workers,
                max_wcu=request.max_wcu,
                sites=request.sites,
                parent=request.parent,
                trust_imt_order=request.trust_imt_order,
                replace=request.replace,
                chunks=list(request.chunks) or None,
                return_state=True,
            )
            result: Any = state.result(raise_on_failure=False)
    finally:
        progress.current.reset(token)
    outcome: Any = result.outcome if isinstance(result, RunFailedError) else result
    if isinstance(outcome, BaseException):
        raise outcome
    report: StoreReport = outcome
    return report
