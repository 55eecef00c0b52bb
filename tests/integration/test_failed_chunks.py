"""Three chunks of a store fail: the run names them, what it publishes mends just them, and the result is whole."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun

from benchmarks.synthetic import write_calculation
from flows.artifacts import slug
from flows.rerun_failed_chunks import rerun_failed_chunks
from hazard_store import storing
from hazard_store.jobs import StoreRequest
from hazard_store.meta import read_meta
from hazard_store.oq import open_calculation
from hazard_store.verification import verify
from tests.integration import operator as fixtures
from tests.integration.operator import Operator

services, operator = fixtures.services, fixtures.operator
pytestmark = pytest.mark.timeout(600)

FAILING = ("stats:00000-01100", "realisations:00000-00500", "realisations:01000-01100")


def test_the_automation_reruns_once(operator: Operator, data_dir: Path) -> None:
    (automation,) = operator.client.request("GET", "/automations/related-to/" + rerun_resource(operator)).json()
    assert (automation["name"], automation["enabled"]) == ("hazard-store-rerun-once", False)
    switch = f"/automations/{automation['id']}"
    operator.client.request("PATCH", switch, json={"enabled": True})
    try:
        # Under this code a chunk is not tried again, so that both runs fail at once.
        operator.proxy.rule = lambda name, body: (400, "ResourceNotFoundException") if b'"WLG:00003"' in body else None
        source = str(data_dir / "custom_ids.hdf5")
        run = operator.start("store-hazard", source=source, haz_sol_id="once", cluster="none")
        assert operator.end(run)[0] == "FAILED"
        while not (reruns := reruns_of(operator, "once")):
            time.sleep(0.2)  # until the timeout of this test
        (first,) = reruns
        # The store is still broken: it fails as well, and is not followed by another.
        assert first.parameters == {"haz_sol_id": "once", "encoding": "packed", "partition": "solution"}
        assert operator.end(first)[0] == "FAILED"
        operator.proxy.rule = lambda name, body: None
        told = operator.start("verify-hazard", haz_sol_id="once")
        assert operator.end(told)[0] == "FAILED"
        assert [run.id for run in reruns_of(operator, "once")] == [first.id]
    finally:
        operator.client.request("PATCH", switch, json={"enabled": False})


def reruns_of(operator: Operator, haz_sol_id: str) -> list[FlowRun]:
    return [run for run in operator.runs("rerun-failed-chunks") if run.parameters["haz_sol_id"] == haz_sol_id]


def rerun_resource(operator: Operator) -> str:
    return f"prefect.deployment.{operator.deployment('rerun-failed-chunks').id}"


def test_three_chunks_fail_and_are_mended(operator: Operator, dynamodb_endpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "calc_1.hdf5"
    write_calculation(path, 1100, n_imts=2, n_levels=3)
    with open_calculation(path) as calculation:
        codes = calculation.sites.codes
    # One item of each chunk, by its range key.
    marked = [f"{codes[700]}:mean", f"{codes[200]}:00003", f"{codes[1099]}:00011"]
    needles = [f'"{key}"'.encode() for key in marked]
    lock, hit = threading.Lock(), set[bytes]()

    def rule(name: str, body: bytes) -> tuple[int, str] | None:
        for needle in needles:
            if name == "BatchWriteItem" and needle in body:
                with lock:
                    hit.add(needle)
                return 400, "ValidationException"
        return None

    operator.proxy.rule = rule
    state, message = operator.end(operator.start("store-hazard", source=str(path), haz_sol_id="three", workers=2))
    assert hit == set(needles)
    assert state == "FAILED", message
    named = re.fullmatch(r"3 of 5 chunks failed: (.+)", message)
    assert named, message
    assert set(named[1].split(", ")) == set(FAILING)
    records = operator.chunks("three")
    assert {chunk for chunk, record in records.items() if record.status == "failed"} == set(FAILING)
    assert not read_meta("three", operator.settings).complete

    assert f"/v2/deployments/deployment/{operator.deployment('rerun-failed-chunks').id}/run?parameters=%7B" in (
        operator.artifact(f"failed-chunks-{slug('three')}")
    )
    published = re.search(r"```json\n(.+?)\n```", operator.artifact(f"failed-chunks-{slug('three')}"), re.DOTALL)
    assert published
    parameters: dict[str, Any] = json.loads(published[1])
    assert set(parameters["chunks"]) == set(FAILING)
    operator.proxy.rule = lambda name, body: None
    state, message = operator.end(operator.start("rerun-failed-chunks", **parameters))
    assert (state, message.startswith("11,600 items, ")) == ("COMPLETED", True), message
    after = operator.chunks("three")
    assert {chunk for chunk in after if after[chunk] != records[chunk]} == set(FAILING)
    assert read_meta("three", operator.settings).complete

    direct = replace(operator.settings, endpoint=dynamodb_endpoint)
    undisturbed = storing.store_in_process(StoreRequest(str(path), "undisturbed"), direct)
    assert undisturbed.complete
    digests = {chunk: record.digest for chunk, record in operator.chunks("undisturbed").items()}
    assert {chunk: record.digest for chunk, record in after.items()} == digests
    report = verify(str(path), "three", settings=direct)
    assert (report.ok, report.checked_items) == (True, 17_600)

    again: Any = rerun_failed_chunks(haz_sol_id="three", return_state=True)
    assert (again.type.value, again.message) == (
        "COMPLETED",
        "nothing to do: 4 chunks of three (packed+solution) and its meta are stored",
    )
