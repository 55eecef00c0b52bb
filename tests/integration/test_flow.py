"""The flow `store_hazard` on a real Prefect server and real Dask clusters of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, TaskRun

from flows import store_hazard as flow_module
from flows.clusters import cluster_from_name
from flows.store_hazard import run
from hazard_store import chunks as chunks_module
from hazard_store.errors import NotStorableError, UsageError
from hazard_store.jobs import Silent, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import Ledger
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.local.process import free_port
from hazard_store.meta import read_meta
from hazard_store.settings import Settings
from tasks.storing import realisations_task
from tests.integration.fault_proxy import FaultProxy

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(600)]

CUSTOM = "custom_ids.hdf5"
PACKED = LAYOUTS["packed+solution"]


def flow_run_of(haz_sol_id: str) -> tuple[FlowRun, list[TaskRun]]:
    """The run as the server knows it; its last states reach the server a moment after the run ends."""
    with get_client(sync_client=True) as client:
        name = FlowRunFilterName(any_=[f"store {haz_sol_id}"])
        (flow_run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=name))
        return flow_run, client.read_task_runs(flow_run_filter=FlowRunFilter(name=name))


def until(condition: Callable[[], Any], timeout_secs: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout_secs
    while not (result := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.1)
    return result


def test_a_store_runs_on_dask_and_its_task_list_reads_as_a_report(tables: Settings, data_dir: Path) -> None:
    report = run(StoreRequest(str(data_dir / CUSTOM), "FLOW-1"), "local", 2, Silent())
    assert report.complete
    assert read_meta("FLOW-1", tables).complete

    def ended() -> tuple[FlowRun, list[TaskRun]] | None:
        flow_run, task_runs = flow_run_of("FLOW-1")
        done = flow_run.state and all(t.state and t.state.is_completed() for t in task_runs)
        return (flow_run, task_runs) if done and len(task_runs) == 3 else None

    flow_run, task_runs = until(ended)
    assert flow_run.state.is_completed()
    assert {t.name for t in task_runs} == {"meta", "stats:00000-00005", "realisations:00000-00005"}
    messages = {t.name: t.state.message for t in task_runs}
    assert messages["realisations:00000-00005"].startswith("60 items, 60 WCU, ")

    again = run(StoreRequest(str(data_dir / CUSTOM), "FLOW-1"), "none", None, Silent())
    assert (again.complete, again.outcomes) == (True, ())


def test_a_failed_chunk_leaves_the_others_and_the_run_names_it(
    proxy: FaultProxy, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realisations_task, "retry_delay_seconds", [0.1, 0.1])
    proxy.rule = lambda operation, body: (400, "ValidationException") if b'"WLG:00003"' in body else None
    wanted = StoreRequest(str(data_dir / CUSTOM), "FLOW-2")
    report = run(wanted, "local", 1, Silent())
    assert [outcome.chunk_id for outcome in report.failed] == ["realisations:00000-00005"]
    assert not read_meta("FLOW-2", tables).complete
    statuses = {c: r.status for c, r in Ledger(tables).chunks("FLOW-2", PACKED).items()}
    assert statuses == {"meta": "done", "stats:00000-00005": "done", "realisations:00000-00005": "failed"}
    flow_run, _ = flow_run_of("FLOW-2")
    assert flow_run.state is not None
    assert flow_run.state.is_failed()
    assert flow_run.state.message == "1 of 3 chunks failed: realisations:00000-00005"

    proxy.rule = lambda operation, body: None
    report = run(replace(wanted, chunks=("realisations:00000-00005",)), "none", 2, Silent())
    assert report.complete


@pytest.fixture
def scheduler(tables: Settings) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Dask scheduler and two workers, each a process of its own."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], **options)
    ]
    worker = [*dask, "worker", address, "--nthreads", "2", "--no-nanny", "--no-dashboard"]
    processes += [subprocess.Popen(worker, **options) for _ in range(2)]
    try:
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_an_existing_scheduler_is_used_and_the_death_of_a_worker_loses_nothing(
    scheduler: tuple[str, list[subprocess.Popen[bytes]]],
    proxy: FaultProxy,
    tables: Settings,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, workers = scheduler
    until(lambda: _workers(address) == 2)
    assert cluster_from_name(address, None).chunks_a_worker == 2
    killed = []

    def kill_a_worker(operation: str, body: bytes) -> None:
        # The first curves have come from one of the two, which one does not matter: either may be in its chunk.
        if operation == "BatchWriteItem" and not killed:
            killed.append(workers[0])
            os.kill(workers[0].pid, signal.SIGKILL)

    proxy.rule = kill_a_worker
    report = run(StoreRequest(str(data_dir / CUSTOM), "FLOW-3"), address, None, Silent())
    assert killed
    assert report.complete
    assert all(record.status == "done" for record in Ledger(tables).chunks("FLOW-3", PACKED).values())


def _workers(address: str) -> int:
    try:
        return cluster_from_name(address, None).workers
    except UsageError:
        return 0


def test_what_cannot_be_stored_is_refused_before_a_cluster_starts(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotStorableError, match="one code"):
        run(StoreRequest(str(data_dir / "colliding_sites.hdf5"), "FLOW-4"), "local", 1, Silent())


@pytest.mark.parametrize("name", ["loca", "tcp://nowhere", "tcp://127.0.0.1:1", "fargate-xl"])
def test_an_unknown_cluster_is_refused_with_the_choice(name: str) -> None:
    with pytest.raises(UsageError, match=r"choose|HOST:PORT|answers"):
        cluster_from_name(name, 1)


def test_a_run_without_workers_ends_and_says_so(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: PrefectServer
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    monkeypatch.setattr(flow_module, "STALLED_SECS", 3.0)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as alone:
        try:
            address = f"tcp://127.0.0.1:{port}"
            until(lambda: _workers(address) == 1)  # none counts as one share of the budget
            report = run(StoreRequest(str(data_dir / CUSTOM), "FLOW-5"), address, None, Silent())
        finally:
            alone.kill()
    assert len(report.failed) == 3
    assert "is a worker left?" in str(report.failed[0].error)


def test_a_chunk_that_takes_long_is_not_taken_for_lost(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_module, "STALLED_SECS", 3.0)
    monkeypatch.setattr(chunks_module, "RENEW_EVERY_SECS", 0.5)
    report = run(StoreRequest(str(data_dir / CUSTOM), "FLOW-6", max_wcu=6.0), "none", 1, Silent())
    assert report.complete
    assert max(outcome.metrics.seconds for outcome in report.outcomes) > 2 * flow_module.STALLED_SECS


def test_in_location_tables_no_curve_is_written_before_the_meta(proxy: FaultProxy, data_dir: Path) -> None:
    proxy.rule = lambda operation, body: (
        (400, "ValidationException") if operation == "PutItem" and b"HazardStoreMeta" in body else None
    )
    request = StoreRequest(str(data_dir / CUSTOM), "FLOW-7", partition="location")
    report = run(request, "none", 2, Silent())
    assert {outcome.chunk_id.partition(":")[0] for outcome in report.failed} == {"meta", "stats", "realisations"}
    assert "not tried" in str(report.failed[1].error)
    assert "BatchWriteItem" not in proxy.requests
    proxy.rule = lambda operation, body: None
    assert run(request, "none", 2, Silent()).complete
