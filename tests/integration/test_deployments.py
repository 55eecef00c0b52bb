"""The deployments of `prefect.yaml` as an operator has them: deployed, run by a process worker, refused, rerun."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError

from deployments.local.prefect_worker import CHECKOUT, WORK_POOL
from flows.delete_hazard import delete_hazard
from flows.rerun_failed_chunks import rerun_failed_chunks
from flows.verify_hazard import verify_hazard
from hazard_store import storing
from hazard_store.jobs import StoreRequest
from hazard_store.ledger import Ledger
from hazard_store.meta import read_meta
from tests.integration import operator as fixtures
from tests.integration.operator import RUN_SECS, Operator

services, operator = fixtures.services, fixtures.operator

pytestmark = pytest.mark.timeout(600)

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
NAMES = {
    "store-hazard",
    "store-batch",
    "rerun-failed-chunks",
    "verify-hazard",
    "delete-hazard",
    "benchmark-layouts",
}
CUSTOM = "custom_ids.hdf5"
FAILED_CHUNK = "realisations:00000-00005"


def here(flow: Flow[..., Any], **parameters: Any) -> tuple[str, str]:
    """Run a flow in this process, which takes a second where a worker's run takes ten, and give its end."""
    state: State[Any] = flow(**parameters, return_state=True)
    return state.type.value, state.message or ""


def test_the_file_has_the_deployments() -> None:
    assert {d["name"] for d in DEPLOYMENTS} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_deployment_opens_as_a_form(operator: Operator, name: str) -> None:
    (expected,) = [d for d in DEPLOYMENTS if d["name"] == name]
    deployed = operator.deployment(name)
    assert deployed.enforce_parameter_schema
    assert deployed.work_pool_name == WORK_POOL
    assert deployed.tags == expected["tags"]
    assert deployed.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(CHECKOUT)}}]
    schema = deployed.parameter_openapi_schema
    properties = schema["properties"]
    assert all(field.get("description") for field in properties.values()), properties
    assert all("default" in field for key, field in properties.items() if key not in schema["required"])
    assert set(schema["required"]) <= {"source", "haz_sol_id", "confirm", "prefix"}
    assert "haz_sol_id" not in properties or "pattern" in properties["haz_sol_id"]


def test_a_store_started_on_the_command_line_is_run_by_the_worker(operator: Operator, data_dir: Path) -> None:
    parameters = {"source": str(data_dir / CUSTOM), "haz_sol_id": "DEP-1", "workers": 1}
    command = [sys.executable, "-m", "prefect", "deployment", "run", "store_hazard/store-hazard", "--watch"]
    command += ["--params", json.dumps(parameters)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=RUN_SECS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Completed" in done.stdout
    assert read_meta("DEP-1", operator.settings).complete

    state, message = here(verify_hazard, haz_sol_id="DEP-1")
    assert (state, message.endswith("compared with the file, all the same")) == ("COMPLETED", True), message
    assert "The same" in operator.artifact("verification")
    for mode, told in (("digest", "ledger's digests"), ("sample", "drawn at random"), ("scientific", "each mean")):
        state, message = here(verify_hazard, haz_sol_id="DEP-1", mode=mode, curves=9)
        assert (state, told in message, message.endswith("all the same")) == ("COMPLETED", True, True), message
    state, message = here(verify_hazard, haz_sol_id="DEP-1", source=str(data_dir / "bare_coordinates.hdf5"))
    assert (state, "items missing" in message) == ("FAILED", True), message
    assert "| meta |" in operator.artifact("verification")


@pytest.mark.parametrize(
    ("name", "parameters", "named"),
    [
        ("store-hazard", {"source": "x.hdf5", "haz_sol_id": "a:b"}, "haz_sol_id"),
        ("store-hazard", {"haz_sol_id": "A"}, "source"),
        ("store-hazard", {"source": "x.hdf5", "haz_sol_id": "A", "cluster": "fargat"}, "cluster"),
        ("store-hazard", {"source": "x.hdf5", "haz_sol_id": "A", "encoding": "zip"}, "encoding"),
        ("store-hazard", {"source": "x.hdf5", "haz_sol_id": "A", "max_wcu": 0}, "max_wcu"),
        ("rerun-failed-chunks", {"haz_sol_id": "A", "chunks": ["realisation:0-5"]}, "chunks"),
        ("verify-hazard", {"haz_sol_id": "A", "mode": "half"}, "mode"),
        ("verify-hazard", {"haz_sol_id": "A", "mode": "sample", "curves": 0}, "curves"),
        ("delete-hazard", {"haz_sol_id": "A"}, "confirm"),
    ],
)
def test_what_the_form_can_see_is_refused_before_a_run_exists(
    operator: Operator, name: str, parameters: dict[str, Any], named: str
) -> None:
    with pytest.raises(PrefectHTTPStatusError) as caught:
        operator.start(name, **parameters)
    assert caught.value.response.status_code == 409
    assert named in caught.value.response.json()["detail"]


def test_what_only_the_run_can_see_ends_it_in_its_first_second(operator: Operator) -> None:
    wanted = [
        (
            operator.start("store-hazard", source="/no/such.hdf5", haz_sol_id="BAD-1", cluster="tcp://127.0.0.1:1"),
            "no Dask scheduler answers at tcp://127.0.0.1:1: ",
        ),
        (operator.start("rerun-failed-chunks", haz_sol_id="BAD-2"), "nothing is stored under 'BAD-2' at stage "),
    ]
    for run, sentence in wanted:
        state, message = operator.end(run)
        assert state == "FAILED", message
        assert message.startswith(sentence)
        assert "Traceback" not in message
        ended = operator.client.read_flow_run(run.id)
        # Under one second on a machine of its own; two runs start at once here, beside other tests. A run that waited
        # for what does not come would take half a minute.
        assert ended.total_run_time.total_seconds() < 20
    state, message = here(verify_hazard, haz_sol_id="BAD-3")
    assert (state, message.startswith("nothing is stored under 'BAD-3' at stage ")) == ("FAILED", True), message
    assert here(delete_hazard, haz_sol_id="BAD-4", confirm="BAD") == (
        "FAILED",
        "nothing was deleted: confirm must be the id BAD-4, not 'BAD'",
    )


def test_a_rerun_stores_what_failed_and_no_more(
    operator: Operator, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "CHUNK_RETRY_DELAYS_SECS", ())
    operator.proxy.rule = lambda operation, body: (400, "ValidationException") if b'"WLG:00003"' in body else None
    first_place = shutil.copy(data_dir / CUSTOM, tmp_path / "before.hdf5")
    report = storing.store_in_process(StoreRequest(str(first_place), "DEP-2"), operator.settings)
    assert [outcome.chunk_id for outcome in report.failed] == [FAILED_CHUNK]
    operator.proxy.rule = lambda operation, body: None
    before = operator.chunks("DEP-2")
    first_place.rename(tmp_path / "after.hdf5")

    parameters: dict[str, Any] = {"haz_sol_id": "DEP-2", "cluster": "none"}
    state, message = here(rerun_failed_chunks, **parameters, source=str(data_dir / "bare_coordinates.hdf5"))
    assert (state, "the file is not the one that DEP-2 was stored from" in message) == ("FAILED", True), message

    parameters["source"] = str(tmp_path / "after.hdf5")
    operator.proxy.requests.clear()
    assert here(rerun_failed_chunks, **parameters, dry_run=True) == (
        "COMPLETED",
        f"dry run, nothing was written: 1 of 3 chunks of DEP-2 (packed+solution) to store: {FAILED_CHUNK}",
    )
    assert not [operation for operation in operator.proxy.requests if "Write" in operation or "Put" in operation]
    assert operator.chunks("DEP-2") == before
    table = operator.artifact("rerun-plan")
    assert re.search(r"\| realisations.*\| failed \| .*injected", table), table

    state, message = operator.end(operator.start("rerun-failed-chunks", **parameters))
    assert (state, message.startswith("60 items, 60 WCU, ")) == ("COMPLETED", True), message
    after = operator.chunks("DEP-2")
    assert after.pop(FAILED_CHUNK).status == "done"
    assert after == {chunk_id: record for chunk_id, record in before.items() if chunk_id != FAILED_CHUNK}
    assert read_meta("DEP-2", operator.settings).complete

    assert here(rerun_failed_chunks, haz_sol_id="DEP-2") == (
        "COMPLETED",
        "nothing to do: 2 chunks of DEP-2 (packed+solution) and its meta are stored",
    )
    state, message = here(rerun_failed_chunks, haz_sol_id="DEP-2", chunks=["stats:00005-00010"])
    assert (state, message) == (
        "FAILED",
        "this calculation has no chunk 'stats:00005-00010'; `hazard-store status ID` lists them",
    )
    state, message = here(delete_hazard, haz_sol_id="DEP-2", confirm="DEP-2")
    assert (state, message.startswith("deleted DEP-2 from packed+solution: 85 items")) == ("COMPLETED", True), message
    assert not Ledger(operator.settings).calculations("DEP-2")
