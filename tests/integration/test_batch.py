"""Batches as an operator has them: by event, by schedule, again and again, with files that are bad or not finished."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import PrefectHTTPStatusError

from flows.artifacts import slug
from flows.store_batch import store_batch
from hazard_store import storing
from hazard_store.batch.examination import ReaderOptions
from hazard_store.batch.looking import Batch, Look
from hazard_store.batch.naming import DEFAULT_TEMPLATE
from hazard_store.batch.sorting import Finding, Wanted
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import Ledger
from hazard_store.meta import read_meta
from hazard_store.settings import Settings
from hazard_store.sources.prefixes import PREFIXES_VARIABLE
from tests.integration import operator as fixtures
from tests.integration.operator import Operator

services, operator = fixtures.services, fixtures.operator

pytestmark = pytest.mark.timeout(600)

SMALL = "statistics_only.hdf5"
LAYOUT = LAYOUTS["packed+solution"]
WAIT_SECS = 150.0


def runs_of(operator: Operator, prefix: Path) -> list[FlowRun]:
    """The batch runs for a folder, the first one first."""
    deployment = operator.deployment("store-batch")
    found = operator.client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    )
    mine = [run for run in found if run.parameters.get("prefix") == str(prefix)]
    return sorted(mine, key=lambda run: str(run.expected_start_time))


def first_run(operator: Operator, prefix: Path) -> FlowRun:
    deadline = time.monotonic() + WAIT_SECS
    while not (runs := runs_of(operator, prefix)):
        assert time.monotonic() < deadline, f"no run for {prefix}"
        time.sleep(0.5)
    return runs[0]


def children_of(operator: Operator, run: FlowRun) -> list[FlowRun]:
    mine = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    return operator.client.read_flow_runs(flow_run_filter=mine)


def rows_of(text: str) -> dict[str, str]:
    """File to outcome, from the report."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip("| `"): cells[2] for cells in rows}


def test_a_batch_is_stored_by_event_and_by_schedule_and_once(
    operator: Operator, data_dir: Path, tmp_path: Path
) -> None:
    nightly, notified = tmp_path / "nightly", tmp_path / "notified"
    for folder in (nightly, notified):
        folder.mkdir()
    shutil.copy(data_dir / SMALL, nightly / "calc_20.hdf5")
    shutil.copy(data_dir / SMALL, notified / "calc_21.hdf5")
    shutil.make_archive(str(notified / "calc_22"), "zip", data_dir, "custom_ids.hdf5")
    whole = (data_dir / "custom_ids.hdf5").read_bytes()
    (notified / "calc_23.hdf5").write_bytes(whole[: len(whole) // 2])
    (notified / "calc_24.hdf5").write_text("not a datastore")
    (notified / "bad name.hdf5").write_bytes(whole)
    # Finished a while ago: what a run does with younger files is another test's.
    for path in (*nightly.iterdir(), *notified.iterdir()):
        os.utime(path, (time.time() - 600,) * 2)

    deployment = operator.deployment("store-batch")
    # Neither an event nor a schedule gives one, and none is the quickest.
    operator.client.request("PATCH", f"/deployments/{deployment.id}", json={"parameters": {"cluster": "none"}})
    (shipped,) = deployment.schedules
    assert not shipped.active
    bad = {"schedule": {"cron": "every night", "timezone": "UTC"}, "active": True}
    with pytest.raises(PrefectHTTPStatusError) as caught:
        operator.client.request("POST", f"/deployments/{deployment.id}/schedules", json=[bad])
    assert caught.value.response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "every night" in caught.value.response.text

    program = Path(sys.executable).with_name("hazard-store")
    told = subprocess.run(
        [program, "notify-batch", str(notified)], capture_output=True, text=True, timeout=180, check=False
    )
    assert told.returncode == 0, told.stderr
    run = first_run(operator, notified)
    state, message = operator.end(run)
    assert (state, message.partition(";")[0]) == ("FAILED", "2 refused, 2 stored, 1 unfinished"), message
    assert rows_of(operator.artifact(f"batch-{slug(str(notified))}")) == {
        "bad name.hdf5": "refused",
        "calc_21.hdf5": "stored",
        "calc_22.zip": "stored",
        "calc_23.hdf5": "unfinished",
        "calc_24.hdf5": "refused",
    }
    children = children_of(operator, run)
    assert {child.name: child.state_name for child in children} == {
        "store calc_21": "Completed",
        "store calc_22": "Completed",
    }
    for child in children:
        assert child.deployment_id == operator.deployment("store-hazard").id
        items = sum(r.items for r in operator.chunks(child.parameters["haz_sol_id"]).values() if r.chunk_id != "meta")
        assert (child.state.message or "").startswith(f"{items:,} items, "), child.state
    assert read_meta("calc_21", operator.settings).complete

    # With a sixth field: every twenty seconds.
    schedule = {"cron": "* * * * * */20", "timezone": "Pacific/Auckland"}
    changed = {"schedule": schedule, "active": True, "parameters": {"prefix": str(nightly)}}
    path = f"/deployments/{deployment.id}/schedules/{shipped.id}"
    operator.client.request("PATCH", path, json=changed)
    assert isinstance(shipped.schedule, CronSchedule)

    # Again, when the rest of a file has come: only that one is stored, and what was refused is no failure any more.
    (notified / "calc_23.hdf5").write_bytes(whole)
    again: Any = store_batch(prefix=str(notified), settle_secs=0, cluster="none", return_state=True)
    assert (again.type.value, again.message) == ("COMPLETED", "2 refused, 2 stored before, 1 stored"), again.message
    run = operator.client.read_flow_run(again.state_details.flow_run_id)
    assert [child.name for child in children_of(operator, run)] == ["store calc_23"]

    scheduled = first_run(operator, nightly)
    deadline = time.monotonic() + WAIT_SECS
    while (state_now := operator.client.read_flow_run(scheduled.id).state) is None or state_now.is_scheduled():
        assert time.monotonic() < deadline, "the schedule starts nothing"
        time.sleep(0.5)
    # The next one would run beside other tests.
    operator.client.request("PATCH", path, json={"active": False})
    state, message = operator.end(scheduled)
    assert (state, message, scheduled.auto_scheduled) == ("COMPLETED", "1 stored", True), message
    assert read_meta("calc_20", operator.settings).complete


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"prefix": "/"}, "'/' is the whole machine: "),
        ({"prefix": "/no/such/folder"}, "there is no folder /no/such/folder: "),
        ({"prefix": " "}, "the prefix is empty: "),
        ({"prefix": ".", "haz_sol_id_template": "{name}"}, "the id template '{name}' may hold {stem}, "),
        ({"prefix": ".", "manifest": "ids.csv"}, "the manifest "),
        ({"prefix": ".", "store_deployment": "store_hazard/gone"}, "there is no deployment 'store_hazard/gone'"),
    ],
)
def test_bad_parameters_are_refused_in_one_sentence(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    state: Any = store_batch(**parameters, return_state=True)
    assert (state.type.value, state.message.startswith(sentence)) == ("FAILED", True), state.message
    assert "\n" not in state.message


def test_a_forbidden_prefix_is_refused(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIXES_VARIABLE, "/srv/openquake")
    state: Any = store_batch(prefix=str(tmp_path), return_state=True)
    assert state.message.startswith(f"{tmp_path} lies outside the folders that may be read here (/srv/openquake): ")
    with pytest.raises(PrefectHTTPStatusError) as caught:
        operator.start("store-batch", prefix="")
    assert "prefix" in caught.value.response.json()["detail"]


def look_at(folder: Path, settings: Settings, settle_secs: float = 0.0) -> Look:
    wanted = Wanted(LAYOUT, ReaderOptions())
    batch = Batch.of(
        str(folder), wanted, patterns=("*.hdf5",), template=DEFAULT_TEMPLATE, manifest=None, settle_secs=settle_secs
    )
    return Look(batch, settings)


def test_what_is_still_being_written_is_left_out(tables: Settings, data_dir: Path, tmp_path: Path) -> None:
    shutil.copy(data_dir / SMALL, tmp_path / "calc_1.hdf5")
    growing = tmp_path / "calc_2.hdf5"
    shutil.copy(data_dir / SMALL, growing)
    look = look_at(tmp_path, tables, settle_secs=30)

    def sleep(secs: float) -> None:
        assert 0 < secs <= 30
        with growing.open("ab") as file:
            file.write(b"more")

    look.settle(time.time(), sleep)
    assert [(f.file.name, f.fate) for f in look.findings] == [("calc_2.hdf5", "being written")]
    assert [file.name for file, _ in look.unread] == ["calc_1.hdf5"]
    (unread,) = look.unread

    # And one that is another by the time it has been read.
    os.utime(unread[0].path, ns=(1, 1))
    finding, _ = look.read(*unread)
    assert finding.fate == "being written"


def test_what_fails_in_three_runs_is_given_up_and_that_is_said_once(
    tables: Settings, data_dir: Path, tmp_path: Path
) -> None:
    shutil.copy(data_dir / SMALL, tmp_path / "calc_1.hdf5")
    fates = []
    for run in range(3):
        look = look_at(tmp_path, tables)
        ((file, haz_sol_id),) = look.unread
        _, examination = look.read(file, haz_sol_id)
        failed = Finding(file, haz_sol_id, "failed", f"reason {run}", is_news=True)
        finding = look.remember_failure(failed, examination)
        fates.append((finding.fate, finding.is_news))
    assert fates == [("failed", True), ("failed", True), ("given up", True)]
    look = look_at(tmp_path, tables)
    assert not look.unread
    (finding,) = look.findings
    assert (finding.fate, finding.is_news) == ("given up", False)
    assert finding.reason == "3 runs failed to store it, the last one: reason 2"


def test_of_a_thousand_calculations_only_the_new_ones_are_opened(
    tables: Settings, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(data_dir / SMALL, tmp_path / "calc_0.hdf5")
    for number in range(1, 1000):
        # Links: the thousand files need no room, and each is a path and a stamp of its own all the same.
        os.link(tmp_path / "calc_0.hdf5", tmp_path / f"calc_{number}.hdf5")
    report = storing.store_in_process(StoreRequest(str(tmp_path / "calc_0.hdf5"), "calc_0"), tables)
    assert report.complete
    ledger = Ledger(tables)
    record = ledger.require_calculation("calc_0", LAYOUT)
    for number in range(1, 990):
        ledger.save_calculation(
            replace(record, haz_sol_id=f"calc_{number}", source=str(tmp_path / f"calc_{number}.hdf5"))
        )

    began = time.monotonic()
    look = look_at(tmp_path, tables)
    secs = time.monotonic() - began
    assert sorted(file.name for file, _ in look.unread) == [f"calc_{number}.hdf5" for number in range(990, 1000)]
    assert len(look.findings) == 990
    assert all(finding.fate == "stored before" for finding in look.findings)
    with capsys.disabled():
        print(f"\n1,000 calculations looked at in {secs:.2f} s")
    # A second and less on a machine of its own; to open all files would take minutes.
    assert secs < 60


def test_the_runs_that_a_batch_started_end_with_it(operator: Operator, data_dir: Path, tmp_path: Path) -> None:
    shutil.copy(data_dir / SMALL, tmp_path / "calc_30.hdf5")
    shutil.copy(data_dir / SMALL, tmp_path / "calc_31.hdf5")
    stuck = threading.Event()

    def rule(name: str, body: bytes) -> tuple[int, str] | None:
        if name != "BatchWriteItem":
            return None
        stuck.set()
        return 500, "InternalServerError"

    operator.proxy.rule = rule
    run = operator.start("store-batch", prefix=str(tmp_path), settle_secs=0, cluster="none")
    assert stuck.wait(WAIT_SECS)
    (child,) = children_of(operator, run)
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    operator.client.request("POST", f"/flow_runs/{run.id}/set_state", json={"state": cancelling})
    assert operator.end(run)[0] == "CANCELLED"
    assert operator.end(child)[0] == "CANCELLED"
    # The other file is the next run's.
    assert [one.id for one in children_of(operator, run)] == [child.id]
    operator.proxy.rule = lambda name, body: None
    next_run: Any = store_batch(prefix=str(tmp_path), settle_secs=0, cluster="none", return_state=True)
    assert (next_run.type.value, next_run.message) == ("COMPLETED", "2 stored"), next_run.message
