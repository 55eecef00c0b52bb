"""What a store tells a real Prefect server while it runs on Dask and when it ends, against what the ledger has."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from benchmarks.synthetic import write_calculation
from flows import reporting
from flows.artifacts import slug
from flows.store_hazard import run, store_hazard
from hazard_store.jobs import Silent, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import ChunkRecord, Ledger
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.names import ChunkId
from hazard_store.prices import VARIABLE
from hazard_store.settings import Settings
from tasks.storing import realisations_task
from tests.integration.fault_proxy import FaultProxy

pytestmark = pytest.mark.timeout(600)

CUSTOM = "custom_ids.hdf5"
PACKED = LAYOUTS["packed+solution"]


def until(condition: Callable[[], Any], timeout_secs: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout_secs
    while not (result := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.2)
    return result


class Api:
    """The server's API, asked as any program would, from any thread."""

    def __init__(self, server: PrefectServer) -> None:
        self._url = server.api_url

    def post(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self._url}/{path}/filter", json=body, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def flow_run(self, haz_sol_id: str) -> dict[str, Any]:
        (found,) = self.post("flow_runs", flow_runs={"name": {"any_": [f"store {haz_sol_id}"]}})
        return dict(found)

    def artifacts(self, haz_sol_id: str) -> dict[str, dict[str, Any]]:
        """Of a calculation's one run, by the first word of their keys."""
        run_id = self.flow_run(haz_sol_id)["id"]
        found = self.post("artifacts", artifacts={"flow_run_id": {"any_": [run_id]}, "key": {"exists_": True}})
        return {artifact["key"].partition("-")[0]: artifact for artifact in found}

    def events(self, haz_sol_id: str, number: int) -> list[dict[str, Any]]:
        """At least `number` of them; they travel apart from the run."""
        since = (datetime.now(tz=UTC) - timedelta(hours=1)).isoformat()
        wanted = {"resource": {"id": [f"hazard.calculation.{haz_sol_id}"]}, "occurred": {"since": since}}

        def arrived() -> list[dict[str, Any]] | None:
            found = list(self.post("events", filter=wanted, limit=50)["events"])
            return found if len(found) >= number else None

        return until(arrived)

    def logs(self, haz_sol_id: str) -> list[dict[str, Any]]:
        """All of them, the last one included; they travel apart from the run."""
        run_id = self.flow_run(haz_sol_id)["id"]

        def arrived() -> list[dict[str, Any]] | None:
            found = list(self.post("logs", logs={"flow_run_id": {"any_": [run_id]}}, limit=200))
            ended = [one for one in found if one["name"] == "prefect.flow_runs" and "Finished in" in one["message"]]
            return found if ended else None

        return until(arrived)

    def task_messages(self, haz_sol_id: str) -> dict[str, str]:
        run_id = self.flow_run(haz_sol_id)["id"]
        task_runs = self.post("task_runs", flow_runs={"id": {"any_": [run_id]}})
        return {one["name"]: one["state"]["message"] for one in task_runs}


@pytest.fixture
def api(prefect_server: PrefectServer) -> Api:
    return Api(prefect_server)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sites a chunk of realisations, so that a small file has several."""
    monkeypatch.setattr("hazard_store.planning.ITEMS_PER_CHUNK", 24)


@contextmanager
def watched(api: Api, haz_sol_id: str) -> Iterator[list[dict[str, Any]]]:
    """Every version of the progress artifact that could be seen while the block ran."""
    seen: list[dict[str, Any]] = []
    ended = threading.Event()

    def watch() -> None:
        key = {"any_": [f"progress-{slug(haz_sol_id)}"]}
        while not ended.wait(0.2):
            for artifact in api.post("artifacts", artifacts={"key": key}):
                if not seen or artifact["updated"] != seen[-1]["updated"]:
                    seen.append(artifact)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_a_slow_store_shows_where_it_is_and_what_it_was(
    api: Api, proxy: FaultProxy, tables: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1 <= reporting.UPDATE_EVERY_SECS <= 10
    monkeypatch.setattr(reporting, "UPDATE_EVERY_SECS", 2.0)
    monkeypatch.setenv(VARIABLE, "1000")
    write_calculation(tmp_path / "calc_1.hdf5", 60, n_imts=2, n_levels=5, with_stats=False)
    throttles = [(400, "ThrottlingException")] * 3

    def at_first(operation: str, body: bytes) -> tuple[int, str] | None:
        return throttles.pop() if throttles and operation == "BatchWriteItem" else None

    proxy.rule = at_first
    with watched(api, "NZ_slow/1") as seen:
        request = StoreRequest(str(tmp_path / "calc_1.hdf5"), "NZ_slow/1", max_wcu=90)
        report = run(request, "local", 1, Silent())
    assert report.complete
    records = Ledger(tables).chunks("NZ_slow/1", PACKED)
    (chunk_id,) = (k for k in records if k != "meta")

    # While the one chunk ran: within it, with the rates, at most every second and at least every ten.
    amid = [one for one in seen if 0 < one["data"] < 100]
    assert amid, [one["description"] for one in seen]
    text = r"`NZ_slow/1` \(packed\+solution\): \d+ of 720 items, [1-9]\d* items/s, [1-9]\d* WCU/s, ETA 0:\d\d, "
    assert re.fullmatch(text + r"3 throttles, 1 chunk under way, 0 chunks failed", amid[-1]["description"])
    times = [datetime.fromisoformat(one["updated"]) for one in seen]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times[:-1])]
    assert gaps
    assert all(1 <= gap <= 10 for gap in gaps), gaps

    # At its end: the ledger's figures.
    found = api.artifacts("NZ_slow/1")
    assert found["progress"]["data"] == 100
    rows = {row["part"]: row for row in json.loads(found["throughput"]["data"])}
    assert set(rows) == {"meta", "realisations", "all"}
    assert_row_is(rows["realisations"], records[chunk_id])
    assert rows["all"]["WCU"] == rows["realisations"]["WCU"]
    assert rows["all"]["throttles"] == 3
    wcu = records[chunk_id].wcu
    assert f"Cost: **{wcu / 1000:,.4f} USD** at 1000 USD a million write units." in found["summary"]["data"]

    # The task list, the events and the logs.
    message = api.task_messages("NZ_slow/1")[chunk_id]
    assert re.fullmatch(r"720 items, .* WCU, .* items/s, 3 retries, 3 throttles", message)
    events = {e["event"]: e for e in api.events("NZ_slow/1", 3)}
    assert events["hazard.chunk.stored"]["resource"]["prefect.resource.name"] == "NZ_slow/1"
    stored = events["hazard.calculation.stored"]["payload"]
    assert (stored["items"], stored["wcu"], stored["chunks"]) == (720, wcu, 1)
    assert stored["cost_usd"] == pytest.approx(wcu / 1000)
    logs = api.logs("NZ_slow/1")
    messages = [one["message"] for one in logs]
    assert messages.count(f"{chunk_id}: storing 720 items") == 1
    assert sum(message.startswith(f"{chunk_id}: stored 720 items, ") for message in messages) == 1
    assert {one["name"] for one in logs} <= {"prefect.flow_runs", "prefect.task_runs", "prefect.task_runner.dask"}
    assert len(messages) == len({(one["name"], one["message"], one["task_run_id"]) for one in logs})


def assert_row_is(row: dict[str, Any], record: ChunkRecord) -> None:
    figures = record.metrics
    assert (row["items"], row["WCU"]) == (record.items, round(record.wcu, 1))
    assert row["MB"] == round(figures["item_bytes"] / 1e6, 3)
    for name in ("requests", "retries", "throttles"):
        assert row[name] == figures[name]
    for step in ("reading", "encoding", "writing"):
        assert row[f"{step} s"] == round(figures[f"{step}_secs"], 2)
    for column, name in (("p50 ms", "latency_p50_secs"), ("p95 ms", "latency_p95_secs")):
        assert row[column] == round(1e3 * figures[name], 1)
    assert row["items/s a worker"] == round(record.items / figures["seconds"], 1)


def test_failed_chunks_are_named_with_what_mends_them(
    api: Api,
    proxy: FaultProxy,
    tables: Settings,
    data_dir: Path,
    small_chunks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(realisations_task, "retry_delay_seconds", [0.1, 0.1])
    proxy.rule = lambda operation, body: (400, "ValidationException") if b'"WLG:00003"' in body else None
    report = run(StoreRequest(str(data_dir / CUSTOM), "NZ-FAILS", encoding="list"), "local", 1, Silent())
    failed = [outcome.chunk_id for outcome in report.failed]
    assert len(failed) == 1
    assert len(report.outcomes) > 3

    found = api.artifacts("NZ-FAILS")
    text = found["failed"]["data"]
    assert found["failed"]["key"] == f"failed-chunks-{slug('NZ-FAILS')}"
    parameters = json.loads(text.split("```json\n")[1].split("\n```")[0])
    expected = {"haz_sol_id": "NZ-FAILS", "encoding": "list", "partition": "solution", "chunks": failed}
    assert parameters == expected
    rerun = f"hazard-store rerun NZ-FAILS --encoding list --partition solution --chunk {failed[0]}"
    assert f"```sh\n{rerun}\n```" in text
    assert "injected" in text
    rows = json.loads(found["throughput"]["data"])
    assert (rows[-1]["part"], rows[-1]["failed"]) == ("all", 1)
    assert "1 of " in found["progress"]["description"]
    assert 0 < found["progress"]["data"] < 100
    assert "injected" in api.task_messages("NZ-FAILS")[failed[0]]

    events = api.events("NZ-FAILS", len(report.outcomes) + 1)
    wrong = [e["payload"] for e in events if e["event"] == "hazard.chunk.failed"]
    assert [(e["chunk"], e["part"]) for e in wrong] == [(failed[0], "realisations")]
    assert "injected" in wrong[0]["error"]
    (left,) = (e for e in events if e["event"] == "hazard.calculation.incomplete")
    assert left["resource"]["hazard.run"] == "store"
    assert (left["payload"]["encoding"], left["payload"]["chunks_failed"]) == ("list", failed)
    assert {e["event"] for e in events} == {"hazard.chunk.failed", "hazard.chunk.stored", left["event"]}

    proxy.rule = lambda operation, body: None
    again = StoreRequest(str(data_dir / CUSTOM), **{**parameters, "chunks": tuple(map(ChunkId, parameters["chunks"]))})
    mended = run(again, "none", 1, Silent())
    assert mended.complete
    assert [outcome.chunk_id for outcome in mended.outcomes] == failed


def test_a_summary_shows_the_runs_before(api: Api, tables: Settings, data_dir: Path) -> None:
    for number in range(6):
        assert run(StoreRequest(str(data_dir / CUSTOM), f"before-{number}"), "none", 1, Silent()).complete
    assert run(StoreRequest(str(data_dir / CUSTOM), "before-5"), "none", 1, Silent()).outcomes == ()
    summaries = api.post("artifacts", artifacts={"key": {"any_": ["summary-without-deployment"]}}, sort="CREATED_DESC")
    idle, last, *_ = (re.findall(r"\| `(before-\d)` \|", one["data"]) for one in summaries)
    assert last == [f"before-{number}" for number in (5, 4, 3, 2, 1, 0)]
    # A run that had nothing to do shows five others, and none shows it.
    assert idle == [f"before-{number}" for number in (5, 5, 4, 3, 2, 1)]


def test_runs_of_a_deployment_have_a_history_of_their_own(
    api: Api, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(store_hazard), "Every night")
    # As a worker would start it.
    given = property(lambda self: deployment, lambda self, value: None)
    monkeypatch.setattr(reporting.Reporter, "_deployment_id", given, raising=False)
    assert run(StoreRequest(str(data_dir / CUSTOM), "of-a-deployment"), "none", 1, Silent()).complete
    found = api.artifacts("of-a-deployment")
    assert found["throughput"]["key"] == f"throughput-{slug('Every night')}"
    assert "No earlier run to compare with" in found["summary"]["data"]


@pytest.mark.parametrize("broken", ["create_artifact", "read_artifacts"])
def test_a_store_goes_on_when_reporting_fails_and_says_so_once(
    broken: str, api: Api, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(SyncPrefectClient, broken, refuse)
    monkeypatch.setattr(reporting, "UPDATE_EVERY_SECS", 0.05)
    name = f"unheard-{broken}"
    assert run(StoreRequest(str(data_dir / CUSTOM), name), "none", 1, Silent()).complete
    assert api.flow_run(name)["state"]["type"] == "COMPLETED"
    warnings = [one for one in api.logs(name) if one["level"] == 30]
    assert len(warnings) == 1
    assert "the store goes on: ConnectError: nobody there" in warnings[0]["message"]
