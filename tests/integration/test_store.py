"""Storing in this process: what the tables and the ledger hold afterwards, whatever went wrong on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store import chunks, jobs, storing
from hazard_store.chunks import outcome_without_worker, store_chunk, store_meta
from hazard_store.errors import NotStorableError, SourceChangedError, TableMissingError, UsageError
from hazard_store.jobs import ChunkOutcome, StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.ledger import Ledger
from hazard_store.meta import read_meta
from hazard_store.oq import open_calculation
from hazard_store.rerunning import plan_rerun
from hazard_store.settings import Settings
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.models import CalculationMeta, PackedStats, V2Meta, V2Rlzs, V2Stats, bind
from hazard_store.storage.tables import create_tables, drop_tables
from hazard_store.storing import started, store_in_process
from hazard_store.v2_fetching import find_calculation
from tests.integration.fault_proxy import FaultProxy

CUSTOM = "custom_ids.hdf5"


def request(data_dir: Path, name: str = CUSTOM, **changes: Any) -> StoreRequest:
    return replace(StoreRequest(str(data_dir / name), "CALC-1"), **changes)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "CHUNK_RETRY_DELAYS_SECS", (0.01,))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sites a chunk of realisations, so that a small file has several."""
    monkeypatch.setattr("hazard_store.planning.ITEMS_PER_CHUNK", 24)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_store_is_complete_and_running_it_again_writes_nothing(
    layout: Layout, tables: Settings, data_dir: Path
) -> None:
    wanted = request(data_dir, encoding=layout.encoding.name, partition=layout.partition.name)
    first = store_in_process(wanted, tables)
    assert (first.complete, first.failed, first.skipped) == (True, (), 0)
    meta = read_meta("CALC-1", tables, layout)
    assert meta.complete
    items = len(meta.codes) * (len(meta.kinds("stats")) + len(meta.kinds("realisations")))
    assert first.totals().items == items
    assert first.totals().wcu >= items

    again = store_in_process(wanted, tables)
    assert (again.complete, again.skipped, again.outcomes) == (True, first.chunks, ())
    assert read_meta("CALC-1", tables, layout).complete


def test_the_v2_tables_read_through_pynamodb_hold_the_files_bits(tables: Settings, data_dir: Path) -> None:
    store_in_process(request(data_dir, encoding="list"), tables)
    (meta,) = bind(V2Meta, tables).query("ToshiOpenquakeHazardMeta")
    with open_calculation(data_dir / CUSTOM) as calculation:
        assert (meta.haz_sol_id, meta.locs, meta.imts) == (
            "CALC-1",
            set(calculation.sites.codes),
            set(calculation.imtls),
        )
        for model, part, kinds in (
            (V2Stats, "stats", calculation.aggs),
            (V2Rlzs, "realisations", [f"{r:05d}" for r in range(calculation.number_of("realisations"))]),
        ):
            poes = calculation.read(part, 0, len(calculation.sites.codes))
            items = list(bind(model, tables).query("CALC-1"))
            assert len(items) == poes.shape[0] * poes.shape[1]
            for item in items:
                site = calculation.sites.codes.index(item.loc)
                kind = list(kinds).index(item.agg if part == "stats" else item.rlz)
                assert [entry.imt for entry in item.values] == list(calculation.imtls)
                stored = np.array([entry.vals for entry in item.values], np.float32)
                np.testing.assert_array_equal(stored.view(np.uint32), poes[site, kind].view(np.uint32))
                assert [entry.lvls for entry in item.values] == [v.tolist() for v in calculation.imtls.values()]
                assert (item.lat, item.lon) == (calculation.sites.lat[site], calculation.sites.lon[site])


def test_parts_are_stored_alone_and_add_up(tables: Settings, data_dir: Path) -> None:
    report = store_in_process(request(data_dir, parts=("stats",)), tables)
    assert report.complete
    assert read_meta("CALC-1", tables).parts == ("stats",)
    # DynamoDB counts the meta's item by started kilobytes.
    item = bind(CalculationMeta, tables).get("CALC-1", "packed+solution")
    assert report.totals("meta").wcu >= len(item.payload) / 1_024
    report = store_in_process(request(data_dir, parts=("realisations",)), tables)
    assert report.complete
    assert read_meta("CALC-1", tables).parts == ("realisations", "stats")
    assert {o.part for o in report.outcomes} == {"meta", "realisations"}
    record = Ledger(tables).calculation("CALC-1", LAYOUTS["packed+solution"])
    assert record is not None
    assert record.items == 85


def test_a_failed_chunk_is_named_the_others_are_stored_and_a_rerun_mends_it(
    proxy: FaultProxy, tables: Settings, data_dir: Path, small_chunks: None
) -> None:
    behind = replace(tables, endpoint=proxy.endpoint)
    proxy.rule = lambda operation, body: (400, "ValidationException") if b'"WLG:00003"' in body else None
    report = store_in_process(request(data_dir), behind)
    (failed,) = report.failed
    assert failed.chunk_id.startswith("realisations:")
    assert "injected" in str(failed.error)
    assert not report.complete
    assert not read_meta("CALC-1", tables).complete
    statuses = {c: r.status for c, r in Ledger(tables).chunks("CALC-1", LAYOUTS["packed+solution"]).items()}
    assert {chunk for chunk, status in statuses.items() if status != "done"} == {failed.chunk_id}

    proxy.rule = lambda operation, body: None
    report = store_in_process(request(data_dir), behind)
    assert report.complete
    assert [o.chunk_id for o in report.outcomes] == [failed.chunk_id]
    record = Ledger(tables).chunks("CALC-1", LAYOUTS["packed+solution"])[failed.chunk_id]
    assert (record.status, record.attempts) == ("done", 3)


def test_in_location_tables_no_curve_is_written_before_the_meta(
    proxy: FaultProxy, tables: Settings, data_dir: Path
) -> None:
    proxy.rule = lambda operation, body: (
        (400, "ValidationException") if operation == "PutItem" and b"HazardStoreMeta" in body else None
    )
    wanted = request(data_dir, partition="location")
    report = store_in_process(wanted, replace(tables, endpoint=proxy.endpoint))
    assert [outcome.chunk_id for outcome in report.failed] == ["meta", *plan_ids(report)]
    assert "not tried" in str(report.failed[1].error)
    assert "BatchWriteItem" not in proxy.requests
    proxy.rule = lambda operation, body: None
    assert store_in_process(wanted, tables).complete


def plan_ids(report: StoreReport) -> list[str]:
    return [outcome.chunk_id for outcome in report.outcomes if outcome.part != "meta"]


@pytest.mark.parametrize("late", ["fails", "tells how far it is"])
def test_an_attempt_that_was_taken_for_dead_does_not_undo_what_its_successor_stored(
    tables: Settings, data_dir: Path, late: str
) -> None:
    layout = LAYOUTS["packed+solution"]
    with started(request(data_dir), tables) as plan:
        job, chunk = plan.job, plan.todo[0]
        permit = chunks.permit_of(job)
        first = Ledger(tables).start_chunk("CALC-1", layout, chunk.id, identity=job.identity, run_id=job.run_id)
        outcomes = [ChunkOutcome("meta", "meta", store_meta(job))]
        outcomes += [ChunkOutcome(chunk.id, chunk.part, store_chunk(job, chunk)) for chunk in plan.todo]
        if late == "fails":
            chunks._record_failure(job, chunk.id, first, permit, RuntimeError("cut off"))
        else:
            chunks._tell_progress(job, first, Metrics(items=1))
        report = storing.finish(plan, outcomes, 1.0)
    assert report.complete
    record = Ledger(tables).chunks("CALC-1", layout)[chunk.id]
    assert (record.status, record.attempts) == ("done", 2)


def test_a_chunk_that_the_ledger_has_not_is_failed_whatever_its_worker_said(tables: Settings, data_dir: Path) -> None:
    with started(request(data_dir), tables) as plan:
        outcomes = [ChunkOutcome("meta", "meta", store_meta(plan.job))]
        *stored, forgotten = plan.todo
        outcomes += [ChunkOutcome(chunk.id, chunk.part, store_chunk(plan.job, chunk)) for chunk in stored]
        outcomes.append(ChunkOutcome(forgotten.id, forgotten.part, Metrics(items=forgotten.items)))
        report = storing.finish(plan, outcomes, 1.0)
    assert not report.complete
    assert [outcome.chunk_id for outcome in report.failed] == [forgotten.id]


@pytest.mark.parametrize("step", ["save_calculation", "mark_complete"])
def test_a_run_that_ends_as_it_begins_takes_nothing_away_that_a_rerun_does_not_find(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    wanted = request(data_dir, encoding="list")
    assert store_in_process(wanted, tables).complete

    def killed(*args: object, **kwargs: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(storing, "_interrupt", lambda plan, error: None)
        patched.setattr(Ledger if step == "save_calculation" else storing.meta, step, killed)
        with pytest.raises(SystemExit), started(replace(wanted, chunks=("stats",)), tables):
            pytest.fail("it began")
    found = plan_rerun("CALC-1", tables).request is not None
    assert found or (read_meta("CALC-1", tables).complete and find_calculation("CALC-1", tables) is not None)
    assert found == (step == "mark_complete")


def test_what_stood_in_a_table_that_was_made_anew_is_missing(tables: Settings, data_dir: Path) -> None:
    assert store_in_process(request(data_dir), tables).complete
    bind(PackedStats, tables).delete_table()
    assert not plan_rerun("CALC-1", tables).standing.is_complete
    create_tables(tables)
    rerun = plan_rerun("CALC-1", tables)
    assert not rerun.standing.is_complete
    assert rerun.chunks == tuple(chunk.id for chunk in storing.prepare(request(data_dir), tables).todo)
    assert {chunk.partition(":")[0] for chunk in rerun.chunks} == {"stats"}


def test_throttles_and_server_errors_pass_by_and_are_counted(
    proxy: FaultProxy, tables: Settings, data_dir: Path
) -> None:
    faults = [(400, "ProvisionedThroughputExceededException"), (500, "InternalServerError"), (503, "Unavailable")]
    proxy.rule = lambda operation, body: faults.pop() if faults and operation == "BatchWriteItem" else None
    report = store_in_process(request(data_dir), replace(tables, endpoint=proxy.endpoint))
    assert report.complete
    assert (report.totals().retries, report.totals().throttles) == (3, 1)


def test_a_chunk_that_is_named_is_stored_though_it_is_done(tables: Settings, data_dir: Path) -> None:
    store_in_process(request(data_dir), tables)
    for name in ("meta", "stats:00000-00005"):
        report = store_in_process(request(data_dir, chunks=(name,)), tables)
        assert [outcome.chunk_id for outcome in report.outcomes] == [name]
        assert report.complete


def test_a_changed_file_is_stored_anew(tables: Settings, data_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(data_dir / CUSTOM, tmp_path))
    store_in_process(request(tmp_path), tables)
    with h5py.File(copy, "r+") as file:
        file["hcurves-rlzs"][0, 0, 0, 0] = 0.125
    report = store_in_process(request(tmp_path), tables)
    assert (report.complete, report.skipped) == (True, 0)
    assert "another content was stored under CALC-1" in report.warnings[0]


def test_a_file_that_changes_under_a_running_store_is_an_error(
    tables: Settings, data_dir: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copy(data_dir / CUSTOM, tmp_path))
    plan = storing.prepare(request(tmp_path), tables)
    with h5py.File(copy, "r+") as file:
        file["hcurves-rlzs"][0, 0, 0, 0] = 0.125
    with pytest.raises(SourceChangedError):
        store_chunk(plan.job, plan.chunks[0])


def test_the_ledger_has_a_foreign_error_in_one_line_without_secrets(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("a\x1b[31m\nb https://bucket/calc_1.hdf5?X-Amz-Signature=5ec7e7 x-amz-security-token: 5ec7e7")

    monkeypatch.setattr(chunks, "read_blocks", fail)
    with storing.started(request(data_dir), tables) as plan, pytest.raises(ValueError, match="X-Amz-Signature"):
        store_chunk(plan.job, plan.chunks[0])
    record = Ledger(tables).chunks("CALC-1", plan.job.layout)[plan.chunks[0].id]
    assert record.status == "failed"
    assert record.error == "ValueError: a?[31m b https://bucket/calc_1.hdf5?*** x-amz-security-token: ***"


def test_the_same_file_zipped_is_the_same_calculation(tables: Settings, data_dir: Path, tmp_path: Path) -> None:
    zipped = shutil.make_archive(str(tmp_path / "archive"), "zip", data_dir, CUSTOM)
    store_in_process(request(data_dir), tables)
    report = store_in_process(request(data_dir, source=zipped), tables)
    assert (report.complete, report.skipped) == (True, report.chunks)


def test_storing_a_chunk_twice_gives_the_same_items(tables: Settings, data_dir: Path) -> None:
    def everything() -> dict[str, dict[str, Any]]:
        items = [item for model in (V2Stats, V2Rlzs) for item in bind(model, tables).scan()]
        return {str(item.to_dynamodb_dict()): item.to_dynamodb_dict() for item in items}

    store_in_process(request(data_dir, encoding="list"), tables)
    before = everything()
    store_in_process(request(data_dir, encoding="list", chunks=("stats", "realisations")), tables)
    assert everything() == before


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"haz_sol_id": "a:b"}, UsageError, "reserve"),
        ({"encoding": "zip"}, UsageError, "packed or list"),
        ({"parts": ("curves",)}, UsageError, "unknown part"),
        ({"chunks": ("realisations:99990-99999",)}, UsageError, "no chunk"),
        ({"max_wcu": 0.0}, UsageError, "max-wcu"),
        ({"name": "statistics_only.hdf5", "parts": ("realisations",)}, UsageError, "individual_rlzs"),
        ({"name": "colliding_sites.hdf5"}, NotStorableError, "one code"),
        ({"name": "preclassical.hdf5"}, NotStorableError, "preclassical"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    changes: dict[str, Any], error: type[Exception], says: str, proxy: FaultProxy, tables: Settings, data_dir: Path
) -> None:
    with pytest.raises(error, match=says):
        store_in_process(request(data_dir, **changes), replace(tables, endpoint=proxy.endpoint))
    assert not {"PutItem", "UpdateItem", "BatchWriteItem"} & set(proxy.requests)


def test_a_missing_table_names_the_command_that_makes_it(tables: Settings, data_dir: Path) -> None:
    drop_tables(tables)
    with pytest.raises(TableMissingError, match="hazard-store tables create"):
        store_in_process(request(data_dir), tables)


def test_memory_stays_bounded_by_the_block(tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hazard_store.oq import Calculation

    sizes: list[int] = []
    read: Callable[..., Any] = Calculation.read

    def measured(self: Calculation, *where: Any) -> Any:
        poes = read(self, *where)
        sizes.append(poes.nbytes)
        return poes

    monkeypatch.setattr(Calculation, "read", measured)
    monkeypatch.setattr(jobs, "BLOCK_BYTES", 1_000)
    store_in_process(request(data_dir), tables)
    assert max(sizes) <= 1_000
    assert len(sizes) > 10


def test_a_chunk_that_its_run_has_done_is_not_written_again(proxy: FaultProxy, data_dir: Path) -> None:
    settings = Settings.from_environment()
    with started(StoreRequest(str(data_dir / "custom_ids.hdf5"), "ONCE"), settings) as plan:
        first = [store_meta(plan.job), store_chunk(plan.job, plan.todo[0])]
        records = Ledger(settings).chunks("ONCE", plan.job.layout)
        proxy.requests.clear()
        again = [store_meta(plan.job), store_chunk(plan.job, plan.todo[0])]
        assert "BatchWriteItem" not in proxy.requests
        assert Ledger(settings).chunks("ONCE", plan.job.layout) == records
    assert [(m.items, m.wcu) for m in again] == [(m.items, m.wcu) for m in first]
    assert again[1].figures()["requests"] == first[1].figures()["requests"]


@pytest.mark.usefixtures("small_chunks")
def test_the_ledger_says_what_became_of_a_chunk_whose_worker_was_lost(tables: Settings, data_dir: Path) -> None:
    with started(request(data_dir), tables) as plan:
        stored, other = plan.todo[:2]
        metrics = store_chunk(plan.job, stored)
        outcomes = [outcome_without_worker(plan.job, chunk.id, chunk.part, "lost") for chunk in (stored, other)]
    assert [outcome.error for outcome in outcomes] == [None, "lost"]
    assert outcomes[0].metrics.items == metrics.items == stored.items
