"""What a store tells the Prefect server: its progress while it runs, artifacts when it ends, events on the way.

Reporting must never fail a store, and costs no call a batch: workers tell the ledger how far they are, and one thread
of the flow reads the ledger every few seconds. docs/observing.md describes all of it for who reads it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, ArtifactFilterType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_UI_URL

from flows import artifacts
from flows.artifacts import as_code, slug
from flows.leftovers import end_dead_run
from flows.links import prefilled_run_url
from flows.meter import Meter, Reading
from hazard_store.jobs import ChunkOutcome, Progress, StorePlan, StoreReport
from hazard_store.ledger import Ledger
from hazard_store.names import Part, layout_words
from hazard_store.prices import usd_per_million_wcu
from hazard_store.wording import count

# The UI's reader wants news every ten seconds; a query of the ledger and one request to the server cost some 30 ms.
UPDATE_EVERY_SECS = 5.0

# A server that is gone or hangs must not hold up the end of a store.
REQUEST_TIMEOUT_SECS = 10.0

# Runs that had nothing to do leave a table as well, and are passed over: so more are read than are shown.
EARLIER_TABLES = 50

WITHOUT_DEPLOYMENT = "without-deployment"

CHUNK_STORED = "hazard.chunk.stored"
CHUNK_FAILED = "hazard.chunk.failed"
CALCULATION_STORED = "hazard.calculation.stored"
CALCULATION_INCOMPLETE = "hazard.calculation.incomplete"

RERUN_DEPLOYMENT = "rerun_failed_chunks/rerun-failed-chunks"

MAX_EVENT_ERROR_CHARS = 2_000

RunKind = Literal["store", "rerun"]


class Reporter:
    """Listens to a run, passes on what it hears, and tells the Prefect server.

    ::

        with Reporter(listener) as reporter:    # within a flow run
            reporter.begin(plan)                # from here on a thread reports progress
            reporter.advance(outcome)           # for every chunk: an event
            reporter.end(report)                # artifacts, and an event if the calculation is complete

    Parameters
    ----------
    kind : str
        What its events call the run: an automation that reruns after a store must not do so after a rerun.

    Raises
    ------
    UsageError
        If the price of a write unit, which the environment may give, is no number.
    """

    def __init__(self, listener: Progress, kind: RunKind = "store") -> None:
        self._listener = listener
        self._usd_per_million_wcu = usd_per_million_wcu()
        self._logger = get_run_logger()
        context = FlowRunContext.get()
        flow_run = context.flow_run if context is not None else None
        self._flow_run_id: UUID | None = flow_run.id if flow_run is not None else None
        self._deployment_id: UUID | None = flow_run.deployment_id if flow_run is not None else None
        self._kind = kind
        self._told: set[str] = set()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._progress_id: UUID | None = None
        self._failed: list[str] = []
        self._spans: dict[Part, tuple[float, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled run must end within seconds; the thread dies with it.
        self._stop(2 * REQUEST_TIMEOUT_SECS if kind is None else 1.0)

    def wait(self, holder: str) -> None:
        """Another run holds the lease: whoever watches learns why nothing happens."""
        self._listener.wait(holder)
        self._logger.info("waiting to see whether run %s, which has this calculation's lease, has ended", holder)

    @property
    def origin(self) -> str | None:
        """By what the run is known to the server."""
        return str(self._flow_run_id) if self._flow_run_id is not None else None

    def take_over(self, origin: str) -> None:
        """The run before died with this calculation's lease: the server may not know."""
        with self._harmless("the death of the run before"), self._client() as client:
            end_dead_run(client, UUID(origin))

    def begin(self, plan: StorePlan) -> None:
        """The plan stands: progress is reported from now on."""
        self._listener.begin(plan)
        self._plan = plan
        self._meter = Meter(plan, time.monotonic())
        # Prefect's settings and the run's logger live in context variables, which a thread does not inherit.
        self._thread = threading.Thread(target=copy_context().run, args=(self._watch,), name="progress", daemon=True)
        self._thread.start()

    def advance(self, outcome: ChunkOutcome) -> None:
        """A chunk ended: an event says so."""
        self._listener.advance(outcome)
        now = time.monotonic()
        first, last = self._spans.get(outcome.part, (now, now))
        self._spans[outcome.part] = (min(first, now - outcome.metrics.seconds), max(last, now))
        payload = {"chunk": outcome.chunk_id, "part": outcome.part}
        if outcome.error is not None:
            self._failed.append(outcome.chunk_id)
            self._emit(CHUNK_FAILED, payload | {"error": outcome.error[:MAX_EVENT_ERROR_CHARS]})
        else:
            self._emit(CHUNK_STORED, payload | outcome.metrics.figures())

    def end(self, report: StoreReport) -> None:
        """The run ended, and the ledger knows: the last of the progress, the artifacts, and the event."""
        self._stop(2 * REQUEST_TIMEOUT_SECS)
        if report.complete:
            totals = report.totals()
            self._emit(
                CALCULATION_STORED,
                {
                    "chunks": report.chunks,
                    "chunks_stored": len(report.outcomes),
                    **totals.figures(),
                    "wcu_per_sec": artifacts.per_sec(totals.wcu, report.seconds),
                    "cost_usd": artifacts.cost_usd(totals.wcu, self._usd_per_million_wcu),
                },
            )
        if report.failed:
            encoding, partition = layout_words(report.layout)
            self._emit(
                CALCULATION_INCOMPLETE,
                {"encoding": encoding, "partition": partition, "chunks_failed": [o.chunk_id for o in report.failed]},
            )
        with self._harmless("the artifacts of the run's end"), self._client() as client:
            with self._harmless("progress"):
                self._show_progress(client, ended=artifacts.ending(report))
            if report.failed:
                with self._harmless("the failed chunks"):
                    key = f"failed-chunks-{slug(report.haz_sol_id)}"
                    text = artifacts.failed_chunks_markdown(report, _rerun_link(client, report))
                    self._create(client, key, "markdown", artifacts.ending(report), text)
            with self._harmless("the table and the summary"):
                self._create_summary(client, report)

    def _stop(self, patience_secs: float) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(patience_secs)

    def _watch(self) -> None:
        """Report progress until the run ends; the first time at once, so that the UI has it from the start."""
        with self._harmless("progress"), self._client() as client:
            while not self._ended.is_set():
                with self._harmless("progress"):
                    self._show_progress(client)
                self._ended.wait(UPDATE_EVERY_SECS)

    def _show_progress(self, client: SyncPrefectClient, ended: str | None = None) -> None:
        job = self._plan.job
        records = Ledger(job.settings).chunks(job.haz_sol_id, job.layout)
        reading = self._meter.read(time.monotonic(), records)
        text = ended if ended is not None else self._describe(reading)
        if self._progress_id is None:
            key = f"progress-{slug(job.haz_sol_id)}"
            self._progress_id = self._create(client, key, "progress", text, reading.percent)
        else:
            client.update_artifact(self._progress_id, ArtifactUpdate(data=reading.percent, description=text))

    def _describe(self, reading: Reading) -> str:
        failed = f"{count(len(self._failed), 'chunk')} failed"
        if self._failed:
            # The artifact of the failed chunks names them all at the end.
            failed += f" (the last: {as_code(self._failed[-1])})"
        return f"{as_code(self._plan.job.haz_sol_id)} ({self._plan.job.layout.name}): {reading.describe()}, {failed}"

    def _create_summary(self, client: SyncPrefectClient, report: StoreReport) -> None:
        rows = artifacts.table_rows(report, {part: last - first for part, (first, last) in self._spans.items()})
        name = slug(client.read_deployment(self._deployment_id).name) if self._deployment_id else WITHOUT_DEPLOYMENT
        key = f"throughput-{name}"
        earlier = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]), type=ArtifactFilterType(any_=["table"])),
            sort=ArtifactSort.CREATED_DESC,
            limit=EARLIER_TABLES,
        )
        before = (artifacts.earlier_run(one.data, f"{one.created:%Y-%m-%d %H:%M}") for one in earlier if one.created)
        text = artifacts.summary_markdown(report, rows, (row for row in before if row), self._usd_per_million_wcu)
        self._create(client, key, "table", artifacts.ending(report), json.dumps(rows))
        self._create(client, f"summary-{name}", "markdown", artifacts.ending(report), text)

    def _create(self, client: SyncPrefectClient, key: str, kind: str, description: str, data: object) -> UUID:
        return client.create_artifact(
            ArtifactCreate(key=key, type=kind, description=description, data=data, flow_run_id=self._flow_run_id)
        ).id

    def _emit(self, event: str, payload: dict[str, Any]) -> None:
        job = self._plan.job
        resource = {
            "prefect.resource.id": f"hazard.calculation.{job.haz_sol_id}",
            "prefect.resource.name": job.haz_sol_id,
            "hazard.layout": job.layout.name,
            "hazard.run": self._kind,
        }
        known = {"haz_sol_id": job.haz_sol_id, "layout": job.layout.name, "run_id": job.run_id}
        with self._harmless(f"the event {event}"):
            emit_event(event, resource, payload=known | payload)

    @contextmanager
    def _client(self) -> Iterator[SyncPrefectClient]:
        """A client of our own: with other settings than the run's, Prefect does not share it between threads."""
        with get_client(httpx_settings={"timeout": REQUEST_TIMEOUT_SECS}, sync_client=True) as client:
            yield client

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """Let a store go on when it cannot be told about: a warning the first time, and a line for what else fails."""
        try:
            yield
        except Exception as exc:
            tell = self._logger.info if self._told else self._logger.warning
            if what not in self._told:
                self._told.add(what)
                tell("reporting %s to Prefect failed, the store goes on: %s: %s", what, type(exc).__name__, exc)


def _rerun_link(client: SyncPrefectClient, report: StoreReport) -> str | None:
    """Link to the form that reruns what failed; None where the server has no such deployment."""
    try:
        deployment = client.read_deployment_by_name(RERUN_DEPLOYMENT)
    except ObjectNotFound:
        return None
    return prefilled_run_url(PREFECT_UI_URL.value() or "", deployment.id, artifacts.rerun_parameters(report))
