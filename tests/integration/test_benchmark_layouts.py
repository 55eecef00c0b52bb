"""The flow `benchmark_layouts` in this process: its figures, its budget, and its tables, which are always gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State

from flows import layout_trials
from flows.benchmark_layouts import benchmark_layouts
from flows.layout_report import COLUMNS, PUBLISHED, Trial
from hazard_store import trial_tables
from hazard_store.errors import UsageError
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import Ledger
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from hazard_store.storage.tables import create_tables
from hazard_store.trial_tables import drop_trial_tables, trial_settings
from tests.integration.fault_proxy import FaultProxy

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(240)]

CUSTOM = "custom_ids.hdf5"


def table_names(settings: Settings) -> set[str]:
    """Of this test's stage, and of stages that begin with it."""
    names, start = set(), {}
    client = connect(settings).client
    while True:
        page = client.list_tables(**start)
        names |= {name for name in page["TableNames"] if settings.stage in name}
        if "LastEvaluatedTableName" not in page:
            return names
        start = {"ExclusiveStartTableName": page["LastEvaluatedTableName"]}


def run(**parameters: Any) -> State[Any]:
    state: State[Any] = benchmark_layouts(**parameters, return_state=True)
    return state


def artifacts_of(state: State[Any]) -> dict[str, Any]:
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    with get_client(sync_client=True) as client:
        mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return {one.key or "": one.data for one in client.read_artifacts(artifact_filter=mine)}


def test_the_figures_are_those_of_the_stores_and_the_tables_are_gone(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table_names(tables)
    ledgers: list[dict[str, float]] = []
    drop = trial_tables.drop_trial_tables

    def look_then_drop(settings: Settings) -> list[str]:
        assert table_names(settings)
        for name in LAYOUTS:
            for workers in (1, 2):
                records = Ledger(settings).chunks(f"BENCHMARK-{workers:02d}", LAYOUTS[name])
                curves = [record for key, record in records.items() if key != "meta"]
                ledgers.append({"items": sum(r.items for r in curves), "WCU": sum(r.wcu for r in curves)})
        return drop(settings)

    monkeypatch.setattr(layout_trials, "drop_trial_tables", look_then_drop)
    state = run(source=str(data_dir / CUSTOM), cluster="none", max_sites=4)
    assert state.is_completed(), state.message
    assert table_names(tables) == before
    trials: list[Trial] = state.result()
    assert len(trials) == 8

    artifacts = artifacts_of(state)
    rows = artifacts["layouts"] if isinstance(artifacts["layouts"], list) else json.loads(artifacts["layouts"])
    assert [list(row) for row in rows] == [list(COLUMNS)] * 8
    # Trials come by number of workers, the ledgers here by layout.
    by_layout = sorted(rows, key=lambda row: list(LAYOUTS).index(f"{row['encoding']}+{row['partition']}"))
    assert [{"items": row["items"], "WCU": row["WCU"]} for row in by_layout] == ledgers
    assert all(row["items"] == 4 * (5 + 12) for row in rows)
    for row, trial in zip(rows, trials, strict=True):
        totals = trial.report.totals()
        assert (row["workers"], row["WCU"], row["throttles"]) == (trial.workers, totals.wcu, totals.throttles)
        assert row["items/s"] == pytest.approx(totals.items / trial.report.seconds, abs=0.1)
        assert row["USD"] == pytest.approx(totals.wcu * 0.625e-6, abs=1e-6)
        assert min(row[f"{part} s"] for part in ("meta", "stats", "realisations")) > 0
    text = artifacts["layouts-report"]
    assert "4 of 5 sites" in text
    assert f"**{state.message}**" in text
    assert str(state.message).startswith("Fastest: ")
    assert "Cheapest: packed+solution and packed+location" in str(state.message)
    assert all(f"{rate:,}" in text for _, _, rate in PUBLISHED)


def test_a_cluster_of_local_processes_stores_in_the_runs_own_tables(tables: Settings, data_dir: Path) -> None:
    before = table_names(tables)
    state = run(source=str(data_dir / CUSTOM), layouts=["packed+location"], workers=[2], max_sites=2)
    assert state.is_completed(), state.message
    assert table_names(tables) == before
    (trial,) = state.result()
    assert (trial.layout, trial.workers, trial.report.totals().items) == ("packed+location", 2, 2 * 17)
    assert not Ledger(tables).calculations()


def test_what_costs_too_much_is_refused_before_any_table_exists(proxy: FaultProxy, data_dir: Path) -> None:
    proxy.requests.clear()
    state = run(source=str(data_dir / CUSTOM), max_usd=2e-4, cluster="none")
    assert state.is_failed()
    message = str(state.message)
    assert message.startswith("nothing was written: 8 trials of 5 sites would cost about 0.000")
    assert "more than max_usd 0.0002: " in message
    assert proxy.requests == []
    assert artifacts_of(state) == {}


def test_a_run_that_fails_in_the_middle_leaves_no_tables(proxy: FaultProxy, tables: Settings, data_dir: Path) -> None:
    before = table_names(tables)
    proxy.rule = lambda operation, body: (
        (400, "ValidationException") if operation == "BatchWriteItem" and b"CurveRlzsV2" in body else None
    )
    layouts = ["packed+solution", "list+solution", "list+location"]
    state = run(source=str(data_dir / CUSTOM), layouts=layouts, workers=[1], max_sites=1, cluster="none")
    assert state.is_failed()
    assert str(state.message).startswith("list+solution with 1 worker failed at realisations:00000-00001: ")
    assert table_names(tables) == before
    artifacts = artifacts_of(state)
    assert "list\\+solution with 1 worker failed" in artifacts["layouts-report"]
    rows = artifacts["layouts"] if isinstance(artifacts["layouts"], list) else json.loads(artifacts["layouts"])
    assert [row["encoding"] for row in rows] == ["packed", "list"]


def test_tables_that_cannot_be_dropped_are_named(
    proxy: FaultProxy, tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table_names(tables)
    monkeypatch.setattr(trial_tables, "DROP_ATTEMPTS", 1)
    proxy.rule = lambda operation, body: (
        (400, "AccessDeniedException") if operation == "DeleteTable" and b"Ledger" in body else None
    )
    state = run(source=str(data_dir / CUSTOM), layouts=["packed+solution"], workers=[1], max_sites=1, cluster="none")
    (left,) = table_names(tables) - before
    assert state.is_failed()
    assert state.message == f"these tables could not be dropped and are left: {left}"
    assert left.startswith(f"HazardStoreLedger-{tables.stage}-BENCH-")


def test_a_run_that_was_killed_is_cleared_by_its_hook(tables: Settings) -> None:
    class Killed:
        id = type("Id", (), {"hex": "0" * 24 + "0123abcd"})

    settings = trial_settings(tables, Killed.id.hex)
    assert settings.stage == f"{tables.stage}-BENCH-0123abcd"
    create_tables(settings)
    layout_trials.drop_tables_of_run(benchmark_layouts, Killed(), None)  # type: ignore[arg-type]
    assert not [name for name in table_names(tables) if "BENCH" in name]
    with pytest.raises(UsageError, match="not the stage of a trial"):
        drop_trial_tables(tables)


def test_what_cannot_be_stored_ends_it_in_one_sentence(tables: Settings, data_dir: Path) -> None:
    state = run(source=str(data_dir / "preclassical.hdf5"))
    assert state.is_failed()
    assert "makes no hazard curves" in str(state.message)
    state = run(source=str(data_dir / CUSTOM), layouts=[])
    assert str(state.message).startswith("nothing to compare: ")
