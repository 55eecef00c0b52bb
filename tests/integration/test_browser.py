"""The Prefect UI as a person uses it, in a real browser: forms, runs, artifacts, and the link to a rerun."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import expect

from deployments.local.browser import PrefectUi, open_ui, table_rows
from deployments.local.chromium import ensure_chromium
from deployments.local.prefect_worker import CHECKOUT
from flows.artifacts import rerun_parameters
from flows.links import prefilled_run_url
from hazard_store import storing
from hazard_store.errors import LocalServiceError
from hazard_store.jobs import StoreRequest
from hazard_store.local.prefect_server import PrefectServer
from tests.integration import operator as fixtures
from tests.integration.operator import Operator

services, operator = fixtures.services, fixtures.operator

pytestmark = pytest.mark.timeout(600)

DEPLOYMENTS: list[str] = [
    entry["name"] for entry in yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
]
CUSTOM = "custom_ids.hdf5"
FAILED_CHUNK = "realisations:00000-00005"


@pytest.fixture(scope="module")
def browser(prefect_server: PrefectServer) -> Iterator[PrefectUi]:
    try:
        ensure_chromium()
    except LocalServiceError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
    with open_ui(prefect_server.ui_url) as opened:
        yield opened


@pytest.fixture
def ui(browser: PrefectUi, operator: Operator, prefect_server: PrefectServer) -> PrefectUi:
    browser.page.goto(prefect_server.ui_url)
    return browser


def words(text: str) -> str:
    """A text as it is compared with what a page shows: one line, and no marks of Markdown."""
    return " ".join(re.sub(r"[`*]", "", text).split())


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_deployment_opens_as_a_form(ui: PrefectUi, operator: Operator, name: str) -> None:
    ui.open_form(name)
    fields = operator.deployment(name).parameter_openapi_schema["properties"]
    for field in fields:
        expect(ui.label(field)).to_be_visible()
    shown = words(ui.page.get_by_role("main").first.inner_text())
    assert [field for field, schema in fields.items() if words(schema["description"]) not in shown] == []


def test_a_calculation_stored_from_the_form(ui: PrefectUi, operator: Operator, data_dir: Path) -> None:
    ui.open_form("store-hazard")
    ui.fill(source=str(data_dir / CUSTOM), haz_sol_id="UI-1", cluster="none")
    ui.submit()
    assert ui.end_of_run() == "Completed"

    curves = [record for chunk_id, record in operator.chunks("UI-1").items() if chunk_id != "meta"]
    items, wcu = sum(record.items for record in curves), sum(record.wcu for record in curves)
    assert items == 85
    run_page = ui.page.url
    rows = {row["part"]: row for row in table_rows(ui.open_artifact("throughput-store-hazard").get_by_role("table"))}
    assert set(rows) == {"meta", "stats", "realisations", "all"}
    assert rows["all"]["calculation"] == "UI-1"
    assert (float(rows["all"]["items"]), float(rows["all"]["WCU"])) == (items, wcu)
    ui.page.goto(run_page)
    summary = ui.open_artifact("summary-store-hazard")
    expect(summary).to_contain_text(f"{items:,} items and {wcu:,.0f} WCU")
    expect(summary).to_contain_text("UI-1 (packed+solution): complete")


def test_a_bad_id_is_refused_in_the_form(ui: PrefectUi, operator: Operator) -> None:
    before = operator.client.count_flow_runs()
    ui.open_form("store-hazard")
    ui.fill(source="calc_12.hdf5", haz_sol_id="a:b", cluster="none")
    form = ui.page.url
    ui.remember_notifications()
    ui.page.get_by_role("button", name="Submit").click()
    # Once at the field, once in the notification that no run was made.
    expect(ui.page.get_by_role("paragraph").filter(has_text=re.compile("^'a:b' does not match"))).to_be_visible()
    ui.wait_for_notification("Validation failed for field 'haz_sol_id'")
    assert ui.page.url == form
    assert operator.client.count_flow_runs() == before


def test_a_link_opens_the_rerun_with_its_form_filled_in(
    ui: PrefectUi, operator: Operator, prefect_server: PrefectServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "CHUNK_RETRY_DELAYS_SECS", ())
    operator.proxy.rule = lambda operation, body: (400, "ValidationException") if b'"WLG:00003"' in body else None
    report = storing.store_in_process(StoreRequest(str(data_dir / CUSTOM), "UI-2"), operator.settings)
    operator.proxy.rule = lambda operation, body: None
    assert operator.chunks("UI-2")[FAILED_CHUNK].status == "failed"

    parameters: dict[str, Any] = rerun_parameters(report) | {"cluster": "none"}
    deployment = operator.deployment("rerun-failed-chunks")
    ui.page.goto(prefilled_run_url(prefect_server.ui_url, deployment.id, parameters))
    ui.wait_for_form()
    expect(ui.field("haz_sol_id")).to_have_value("UI-2")
    expect(ui.field("cluster")).to_have_value("none")
    ui.wait_for_value(FAILED_CHUNK)
    assert "failed" not in ui.values(), "what the link says takes the place of the form's default"
    ui.submit()
    assert ui.end_of_run() == "Completed"
    assert operator.chunks("UI-2")[FAILED_CHUNK].status == "done"
