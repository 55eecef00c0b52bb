"""The trials of `benchmark_layouts`: one store for each layout and number of workers, on tables of the run's own.

The same tasks on the same clusters as a store's, without its reporting: the artifacts of a benchmark are its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect import Flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging.loggers import flow_run_logger
from prefect.states import Completed
from prefect.task_runners import TaskRunner

from flows.clusters import Cluster, cluster_from_name
from flows.endings import failed, refused
from flows.layout_report import REPORT_KEY, TABLE_KEY, Trial, report_to_markdown, trial_to_row, verdict
from flows.store_hazard import run_chunks
from hazard_store import storing
from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.estimation import Estimate, estimate, target_of
from hazard_store.jobs import StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.names import SCHEDULER_SCHEMES, CurvePart, Part
from hazard_store.oq.trial import open_tried
from hazard_store.planning import ITEMS_PER_CHUNK, Chunk
from hazard_store.prices import usd_per_million_wcu
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables, list_tables
from hazard_store.trial_tables import drop_trial_tables, trial_settings
from hazard_store.wording import count

# So many chunks a worker and part, most of which it stores at once; a store of a whole calculation has more.
CHUNKS_A_WORKER = 3

# Items of a part that are encoded for the budget: enough for a few percent, few enough for a second.
BUDGET_SAMPLE_ITEMS = 400

# Ids of the trials: as long as usual ones, for their length counts in every item.
_TRIAL_ID = "BENCHMARK-{workers:02d}"
_WARM_UP_ID = "BENCHMARK-00"


@dataclass(frozen=True)
class Wanted:
    """What the benchmark is asked for."""

    source: str
    layouts: tuple[str, ...]
    workers: tuple[int, ...]
    max_usd: float
    max_sites: int | None
    max_wcu: float | None
    cluster: str


@dataclass(frozen=True)
class _Subject:
    """The calculation, as far as it is stored."""

    n_sites: int
    of_sites: int
    estimate: Estimate


def benchmark(wanted: Wanted) -> State[list[Trial]]:
    """Run all trials within a flow run, and give the state in which it ends; its tables are gone then."""
    try:
        if not wanted.layouts or not wanted.workers:
            raise UsageError("nothing to compare: name at least one layout and one number of workers")
        price = usd_per_million_wcu()
        settings = trial_settings(Settings.from_environment(), _run_id())
        wanted = replace(wanted, workers=_worker_counts(wanted))
        subject = _examine(wanted, settings, price)
        _require_budget(wanted, subject)
        # A store that does not answer is found here, where no table needs dropping.
        list_tables(settings)
    except HazardStoreError as exc:
        return refused(exc)
    trials: list[Trial] = []
    problems: list[str] = []
    left: list[str] = []
    try:
        create_tables(settings)
        for trial in _trials(wanted, subject, settings):
            trials.append(trial)
            if trial.report.failed:
                problems.append(_failure_of(trial))
                break
    except HazardStoreError as exc:
        problems.append(str(exc))
    finally:
        left = drop_trial_tables(settings)
    if left:
        problems.append(f"these tables could not be dropped and are left: {', '.join(left)}")
    rows = [trial_to_row(trial, price) for trial in trials]
    message = verdict(rows)
    create_table_artifact(rows, key=TABLE_KEY, description=message)
    text = report_to_markdown(wanted.source, subject.n_sites, subject.of_sites, rows, price, problems)
    create_markdown_artifact(text, key=REPORT_KEY, description=message)
    if problems:
        return failed("; ".join(problems), trials)
    return Completed(message=message, data=trials)


def drop_tables_of_run(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Drop the tables of a run that was cancelled or killed before it could."""
    left = drop_trial_tables(trial_settings(Settings.from_environment(), flow_run.id.hex))
    if left:
        flow_run_logger(flow_run, flow).error("tables that could not be dropped and are left: %s", ", ".join(left))


def _worker_counts(wanted: Wanted) -> tuple[int, ...]:
    """Give the numbers of workers to try; those of a cluster that is there are as they are."""
    if wanted.cluster.startswith(SCHEDULER_SCHEMES):
        return (cluster_from_name(wanted.cluster, None).workers,)
    return tuple(dict.fromkeys(wanted.workers))


def _examine(wanted: Wanted, settings: Settings, price: float) -> _Subject:
    with open_tried(wanted.source) as calculation:
        found = estimate(
            calculation,
            _WARM_UP_ID,
            target=target_of(settings),
            workers=max(wanted.workers),
            max_wcu=wanted.max_wcu,
            layouts=wanted.layouts,
            usd_per_million_wcu=price,
            max_sites=wanted.max_sites,
            max_sampled_items=BUDGET_SAMPLE_ITEMS,
        )
        of_sites = len(calculation.sites)
    return _Subject(min(of_sites, wanted.max_sites or of_sites), of_sites, found)


def _require_budget(wanted: Wanted, subject: _Subject) -> None:
    """Refuse before any table is made what would cost more than it may.

    Raises
    ------
    UsageError
        With the estimate, and how many sites the budget pays for.
    """
    price = subject.estimate.usd_per_million_wcu
    units = sum(one.wcu_all for one in subject.estimate.layouts.values())
    books = sum(one.bookkeeping_wcu for one in subject.estimate.layouts.values())
    # Warming up stores a site a worker and part in the first layout.
    warm_up = sum(wanted.workers) * units / (len(wanted.layouts) * subject.n_sites)
    usd = ((units + books) * len(wanted.workers) + warm_up) * price / 1e6
    if usd > wanted.max_usd:
        a_site = usd / subject.n_sites
        enough = math.floor(wanted.max_usd / a_site)
        hint = f"max_sites {enough} would do, or a larger max_usd" if enough else "raise max_usd"
        raise UsageError(
            f"nothing was written: {count(len(wanted.layouts) * len(wanted.workers), 'trial')} of "
            f"{count(subject.n_sites, 'site')} would cost about {usd:.4f} USD, more than max_usd {wanted.max_usd:g}: "
            f"{hint}"
        )


def _trials(wanted: Wanted, subject: _Subject, settings: Settings) -> Iterator[Trial]:
    """Store with each number of workers in each layout, on one cluster for all layouts."""
    for workers in wanted.workers:
        where = cluster_from_name(wanted.cluster, workers)
        with where.runner as runner:
            # The first tasks of a worker wait for its imports and its first connection, which would count against the
            # layout that happens to be the first.
            sites = range(min(workers, subject.n_sites))
            warm_up = [chunk for site in sites for chunk in _chunks(subject, site + 1, 1, site)]
            trial = _store(wanted, wanted.layouts[0], _WARM_UP_ID, warm_up, settings, where, runner, workers)
            if trial.report.failed:
                yield trial
                return
            for layout in wanted.layouts:
                chunks = _chunks(subject, subject.n_sites, _sites_a_chunk(wanted, subject))
                name = _TRIAL_ID.format(workers=workers)
                yield _store(wanted, layout, name, chunks, settings, where, runner, workers)


def _sites_a_chunk(wanted: Wanted, subject: _Subject) -> int:
    """Sites of a chunk, the same in all trials, so that they differ in what is compared alone."""
    return max(1, math.ceil(subject.n_sites / (CHUNKS_A_WORKER * max(wanted.workers))))


def _chunks(subject: _Subject, stop: int, sites_a_chunk: int, start: int = 0) -> list[Chunk]:
    chunks = []
    for part, per_site in _curves_per_site(subject).items():
        step = min(sites_a_chunk, max(1, ITEMS_PER_CHUNK // per_site))
        chunks += [Chunk(part, i, min(i + step, stop), per_site) for i in range(start, stop, step)]
    return chunks


def _curves_per_site(subject: _Subject) -> dict[CurvePart, int]:
    return {chunk.part: chunk.curves_per_site for chunk in subject.estimate.chunks}


def _store(
    wanted: Wanted,
    layout: str,
    haz_sol_id: str,
    chunks: Sequence[Chunk],
    settings: Settings,
    where: Cluster,
    runner: TaskRunner[Any],
    workers: int,
) -> Trial:
    """Store some chunks as any store does; the calculation stays incomplete, and the ledger says so."""
    encoding, partition = LAYOUTS[layout].encoding.name, LAYOUTS[layout].partition.name
    request = StoreRequest(wanted.source, haz_sol_id, encoding=encoding, partition=partition, max_wcu=wanted.max_wcu)
    spans: dict[Part, tuple[float, float]] = {}
    outcomes = []
    with storing.started(request, settings) as plan:
        plan = replace(plan, chunks=tuple(chunks), todo=tuple(chunks))
        began = time.monotonic()
        for outcome in run_chunks(plan, where, runner):
            now = time.monotonic()
            first, last = spans.get(outcome.part, (now, now))
            spans[outcome.part] = (min(first, now - outcome.metrics.seconds), max(last, now))
            outcomes.append(outcome)
        report: StoreReport = storing.finish(plan, outcomes, time.monotonic() - began)
    get_run_logger().info("%s, %s: %s", layout, count(workers, "worker"), report.totals().summary())
    return Trial(layout, workers, report, {part: last - first for part, (first, last) in spans.items()})


def _failure_of(trial: Trial) -> str:
    first = trial.report.failed[0]
    return f"{trial.layout} with {count(trial.workers, 'worker')} failed at {first.chunk_id}: {first.error}"


def _run_id() -> str:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise UsageError("the trials need the flow run that they are in: their tables have its id")
    return context.flow_run.id.hex
