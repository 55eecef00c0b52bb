"""Runs that are cancelled, interrupted or killed: the writing stops everywhere, and what was done stays done."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.states import Cancelling

from benchmarks.synthetic import write_calculation
from deployments.local.prefect_worker import PrefectWorker
from hazard_store import chunks, lease
from hazard_store.jobs import Silent, StorePlan, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import ChunkRecord, Ledger
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.local.process import free_port
from hazard_store.meta import read_meta
from hazard_store.names import ChunkId
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables
from hazard_store.storing import store_in_process
from tests.integration.fault_proxy import FaultProxy
from tests.integration.operator import running

pytestmark = pytest.mark.timeout(600)

PACKED = LAYOUTS["packed+solution"]
# Two chunks of realisations for two workers. At this budget the shorter one takes 48 s, so that it is under way for
# longer than a lease that is not renewed.
N_SITES, MAX_WCU = 700, 100
SLOW_CHUNKS = {ChunkId("realisations:00000-00500"), ChunkId("realisations:00500-00700")}
DONE_BEFORE = ChunkId("stats:00000-00700")
# What the machine may take beyond the promise, as it has other work; the chunks would go on for half a minute and more.
SLACK_SECS = 8.0


def until(condition: Callable[[], Any], timeout_secs: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout_secs
    while not (result := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.3)
    return result


class ShortWait(Silent):
    """A run that gave its lease back is known not to live: only its workers are waited for, if it ended just now."""

    def __init__(self) -> None:
        self.made = time.monotonic()

    def begin(self, plan: StorePlan) -> None:
        assert time.monotonic() - self.made < lease.STOP_SECS + SLACK_SECS < lease.LEASE_SECS


class Writes:
    """The moments at which batches of curves came to the proxy."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self._lock = threading.Lock()

    def rule(self, operation: str, body: bytes) -> None:
        if operation == "BatchWriteItem":
            with self._lock:
                self.moments.append(time.monotonic())

    def secs_after(self, moment: float) -> float:
        """How long after a moment the last one came."""
        return max(0.0, max(self.moments) - moment)


@dataclass(frozen=True)
class Stage:
    """A store behind a proxy, with half of a calculation in it, and a Prefect server with a worker."""

    settings: Settings
    direct: Settings  # past the proxy, which takes as long as the rest where nothing is counted
    proxy: FaultProxy
    client: SyncPrefectClient
    worker: PrefectWorker
    source: Path
    haz_sol_id: str
    writes: Writes

    def request(self) -> StoreRequest:
        return StoreRequest(str(self.source), self.haz_sol_id)

    def start(self, cluster: str) -> FlowRun:
        """Start a slow store by the worker, and give the run when chunks are being written and the meta is done."""
        deployment = self.client.read_deployment_by_name("store_hazard/store-hazard")
        parameters = {"source": str(self.source), "haz_sol_id": self.haz_sol_id, "max_wcu": MAX_WCU}
        parameters |= {"cluster": cluster} | ({"workers": 2} if cluster == "local" else {})
        run = self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        self.wait_until_under_way()
        return run

    def wait_until_under_way(self) -> None:
        def under_way() -> bool:
            states = {chunk_id: record.status for chunk_id, record in self.chunks().items()}
            running = {chunk_id for chunk_id, status in states.items() if status == "running"}
            return running == SLOW_CHUNKS and states.get(ChunkId("meta")) == "done"

        until(under_way)
        written = len(self.writes.moments)
        until(lambda: len(self.writes.moments) >= written + 4)

    def end(self, run: FlowRun) -> str:
        def ended() -> str | None:
            state = self.client.read_flow_run(run.id).state
            return state.type.value if state is not None and state.is_final() else None

        return str(until(ended))

    def task_runs(self, run: FlowRun) -> list[TaskRun]:
        return self.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))

    def chunks(self) -> dict[ChunkId, ChunkRecord]:
        return Ledger(self.settings).chunks(self.haz_sol_id, PACKED)

    def processes(self) -> set[int]:
        """All that the worker has started."""
        return {one.pid for one in psutil.Process(self.worker.pid).children(recursive=True)}

    def engine(self) -> psutil.Process:
        """The process in which the one run's flow is."""
        found = [
            one
            for one in psutil.Process(self.worker.pid).children(recursive=True)
            if any("prefect.flow_engine" in word or "prefect.engine" in word for word in one.cmdline())
        ]
        assert len(found) == 1, [one.cmdline() for one in found]
        return found[0]

    def progress_of(self, run: FlowRun) -> str:
        """What the run's progress artifact says."""
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), type=ArtifactFilterType(any_=["progress"])
        )
        (found,) = self.client.read_artifacts(artifact_filter=wanted)
        return str(found.description)

    def check_what_is_left(self, status: str) -> None:
        """What was done is done, and storing it again stores what is left."""
        records = self.chunks()
        assert {chunk_id for chunk_id, record in records.items() if record.status == "done"} == {"meta", DONE_BEFORE}
        assert {chunk_id for chunk_id, record in records.items() if record.status == "failed"} == SLOW_CHUNKS
        (record,) = Ledger(self.settings).calculations(self.haz_sol_id)
        assert not read_meta(self.haz_sol_id, self.settings).complete
        assert record.status == status
        report = store_in_process(self.request(), self.direct, ShortWait() if status == "failed" else None)
        assert report.complete
        assert {outcome.chunk_id for outcome in report.outcomes} == SLOW_CHUNKS

    def check_task_runs(self, run: FlowRun) -> None:
        """None is left running, and the meta's did end."""
        until(lambda: all(one.state is not None and one.state.is_final() for one in self.task_runs(run)))
        ended = {one.name: one.state.type.value for one in self.task_runs(run) if one.state is not None}
        assert set(ended) == {"meta", *SLOW_CHUNKS}
        assert ended.pop("meta") == "COMPLETED"
        assert set(ended.values()) <= {"CANCELLED", "CRASHED", "FAILED"}, ended


@pytest.fixture(scope="module")
def services(
    dynamodb_endpoint: str, deployed_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, FaultProxy, PrefectWorker, Path]]:
    home = tmp_path_factory.mktemp("cancel")
    source = home / "calc_1.hdf5"
    write_calculation(source, N_SITES, n_imts=2, n_levels=5)
    with running(dynamodb_endpoint, deployed_server, home, LOCAL_CREDENTIALS) as (settings, proxy, worker):
        yield settings, proxy, worker, source


@pytest.fixture
def stage(
    services: tuple[Settings, FaultProxy, PrefectWorker, Path],
    dynamodb_endpoint: str,
    own_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    settings, proxy, worker, source = services
    for name, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HAZARD_STORE_ENDPOINT", str(settings.endpoint))
    monkeypatch.setenv("HAZARD_STORE_STAGE", settings.stage)
    direct = replace(settings, endpoint=dynamodb_endpoint)
    create_tables(direct)
    with get_client(sync_client=True) as client:
        made = Stage(settings, direct, proxy, client, worker, source, f"CANCEL-{uuid.uuid4().hex[:6]}", Writes())
        store_in_process(StoreRequest(str(source), made.haz_sol_id, parts=("stats",)), direct)
        proxy.rule = made.writes.rule
        yield made


@contextmanager
def dask_cluster() -> Iterator[str]:
    """A Dask scheduler and two workers, each a process of its own; gives the address."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, **quiet) for command in (scheduler, worker, worker)]
    try:
        with Client(address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        yield address
        assert [process.poll() for process in processes] == [None] * 3
    finally:
        for process in processes:
            process.kill()
            process.wait()


def is_idle(address: str) -> bool:
    """Whether both workers are there and neither has a chunk."""
    with Client(address, set_as_default=False) as client:
        executing = client.run(lambda dask_worker: len(dask_worker.state.executing))
        return list(executing.values()) == [0, 0]


@pytest.mark.parametrize("cluster", ["local", "external"])
def test_a_run_that_is_cancelled_stops_on_all_workers(stage: Stage, cluster: str) -> None:
    before = stage.processes()
    with dask_cluster() if cluster == "external" else contextlib.nullcontext("local") as address:
        run = stage.start(address)
        asked = time.monotonic()
        stage.client.set_flow_run_state(run.id, Cancelling())
        lease_of = lease.Lease(stage.haz_sol_id, PACKED, "nobody", stage.settings)
        until(lambda: (entry := lease_of.read()) is None or entry.ended)
        given_back = time.monotonic()
        assert stage.end(run) == "CANCELLED"
        ended = time.monotonic()
        # Then nobody is left who could write.
        until(lambda: stage.processes() <= before)
        if cluster == "external":
            until(lambda: is_idle(address))
        assert stage.writes.secs_after(given_back) < chunks.LOOK_EVERY_SECS + SLACK_SECS
        print(
            f"{cluster}: {given_back - asked:.1f} s after the request the lease was given back, "
            f"{ended - asked:.1f} s after it the run was Cancelled; the last batch came "
            f"{stage.writes.secs_after(asked):.1f} s after the request"
        )
        stage.check_task_runs(run)
        assert stage.progress_of(run).startswith("cancelled; ")
    stage.check_what_is_left("failed")


def test_chunks_of_a_run_whose_process_was_killed_stop_when_its_lease_has_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stage.processes()
    with dask_cluster() as address:
        run = stage.start(address)
        stage.engine().kill()
        killed = time.monotonic()
        assert stage.end(run) == "CRASHED"
        crashed = time.monotonic()
        limit = lease.LEASE_SECS + chunks.LOOK_EVERY_SECS + SLACK_SECS
        until(lambda: all(record.status != "running" for record in stage.chunks().values()), limit + 5)
        until(lambda: is_idle(address))
        assert 0 < stage.writes.secs_after(killed) < limit
        print(
            f"killed: Crashed {crashed - killed:.1f} s after, last batch {stage.writes.secs_after(killed):.1f} s after"
        )
        stage.check_task_runs(run)
        assert stage.progress_of(run).startswith("crashed; ")
    until(lambda: stage.processes() <= before)
    assert all("has not renewed its lease" in str(stage.chunks()[chunk_id].error) for chunk_id in SLOW_CHUNKS)
    # It is dead, as was just seen; the next run need not wait as long again.
    monkeypatch.setattr(lease, "RENEW_SECS", 0.2)
    monkeypatch.setattr(lease, "LEASE_SECS", 3.0)
    stage.check_what_is_left("storing")


def test_ctrl_c_ends_a_store_on_a_local_cluster_within_seconds(
    stage: Stage, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PREFECT_HOME"] = str(tmp_path)
    # Whoever has stored before has the server's database, which takes many seconds to make.
    database = prefect_server.log_path.with_name("prefect.db")
    with closing(sqlite3.connect(database)) as there, closing(sqlite3.connect(tmp_path / database.name)) as here:
        there.backup(here)
    words = ["store", str(stage.source), "--id", stage.haz_sol_id, "--workers", "2", "--max-wcu", str(MAX_WCU)]
    with subprocess.Popen(
        [sys.executable, "-m", "hazard_store", *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            stage.wait_until_under_way()
            children = psutil.Process(process.pid).children(recursive=True)
            pressed = time.monotonic()
            # A terminal sends it to the whole group, and so to the workers.
            os.killpg(process.pid, signal.SIGINT)
            said = process.communicate(timeout=120)[1]
            took = time.monotonic() - pressed
        finally:
            process.kill()
    print(f"Ctrl-C: {took:.1f} s, last batch {stage.writes.secs_after(pressed):.1f} s after\n{said}")
    assert process.returncode == 130
    assert took < 20
    assert said.splitlines()[-1].startswith("error: interrupted: what is stored stays")
    assert "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=60)[1]
    stage.check_what_is_left("failed")
