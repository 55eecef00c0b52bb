"""Deleting calculations from a real DynamoDB: all of one, nothing of another, and again after it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hazard_store import deletion, query
from hazard_store.deletion import delete
from hazard_store.errors import LedgerError, NotStoredError
from hazard_store.fetching import place_of
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.ledger import Ledger
from hazard_store.meta import delete_meta, read_meta
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.removal import remove_items
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from hazard_store.storage.models import MODELS, CalculationMeta, bind, table_name
from hazard_store.storage.reader import Reader
from hazard_store.storage.tables import create_tables
from hazard_store.stored import StoredCurves
from hazard_store.storing import store_in_process
from hazard_store.verification import verify

by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
Dump = dict[str, list[str]]


def store(source: Path, haz_sol_id: str, layout: Layout, settings: Settings, **changes: Any) -> None:
    request = StoreRequest(str(source), haz_sol_id, encoding=layout.encoding.name, partition=layout.partition.name)
    assert store_in_process(replace(request, **changes), settings).complete


def dump(settings: Settings) -> Dump:
    """Everything that all tables hold."""
    client = connect(settings).client
    tables = {}
    for model in MODELS:
        name = table_name(model.table_base, settings)
        pages = client.get_paginator("scan").paginate(TableName=name)
        tables[name] = sorted(repr(sorted(item.items())) for page in pages for item in page["Items"])
    return tables


def is_empty(content: Dump) -> bool:
    return not any(content.values())


@by_layout
def test_a_calculation_goes_whole_and_its_neighbours_stay(layout: Layout, tables: Settings, data_dir: Path) -> None:
    # The same sites, ids that start alike, other layouts: what a careless prefix would take along.
    for neighbour in ("CALC", "CALC-10", "ALC-1"):
        store(data_dir / "sampled_early_latin.hdf5", neighbour, layout, tables)
    before = dump(tables)
    store(data_dir / "bare_coordinates.hdf5", "CALC-1", layout, tables)
    progress: list[tuple[int, int]] = []
    report = delete("CALC-1", on_progress=lambda done, total: progress.append((done, total)))
    assert (report.layouts, report.items) == ((layout.name,), 12 * 19)
    assert report.meta_items == (2 if layout.is_v2 else 1)
    assert report.ledger_entries == 4  # calculation, meta, two parts
    assert progress[-1] == (12 * 19, 12 * 19)
    assert dump(tables) == before
    with pytest.raises(NotStoredError):
        query.curves("CALC-1")
    assert verify(str(data_dir / "sampled_early_latin.hdf5"), "CALC").ok


def test_all_layouts_go_or_the_one_that_is_named(tables: Settings, data_dir: Path) -> None:
    for layout in LAYOUTS.values():
        store(data_dir / "custom_ids.hdf5", "CALC-1", layout, tables)
    named = LAYOUTS["list+location"]
    assert delete("CALC-1", layout=named).layouts == ("list+location",)
    for layout in LAYOUTS.values():
        if layout != named:
            assert verify(str(data_dir / "custom_ids.hdf5"), "CALC-1", layout=layout).ok
    with pytest.raises(NotStoredError, match="list\\+location"):
        delete("CALC-1", layout=named)
    assert set(delete("CALC-1").layouts) == set(LAYOUTS) - {"list+location"}
    assert is_empty(dump(tables))


@by_layout
def test_nothing_stored_is_said(layout: Layout, tables: Settings, stage: str) -> None:
    for named in (None, layout):
        with pytest.raises(NotStoredError, match="NOTHING"):
            delete("NOTHING", layout=named)
    with pytest.raises(NotStoredError):
        delete("NOTHING", settings=replace(tables, stage="NOTABLES"))


@by_layout
def test_what_the_ledger_does_not_know_goes_too(layout: Layout, tables: Settings, data_dir: Path) -> None:
    """Items of an earlier store with other site codes, which no record names any more."""
    source = data_dir / "custom_ids.hdf5"
    store(source, "CALC-1", layout, tables, sites="normalised")
    Ledger(tables).delete("CALC-1", layout)
    store(source, "CALC-1", layout, tables, parts=("meta", "stats"))
    delete("CALC-1")
    assert is_empty(dump(tables))


@by_layout
def test_a_lost_ledger_does_not_matter(layout: Layout, tables: Settings, data_dir: Path) -> None:
    store(data_dir / "custom_ids.hdf5", "CALC-1", layout, tables)
    Ledger(tables).delete("CALC-1", layout)
    assert delete("CALC-1").ledger_entries == 0
    assert is_empty(dump(tables))


@by_layout
@pytest.mark.parametrize("word", ["all is stored", "next to nothing was stored", "another content was stored"])
def test_the_ledgers_word_is_not_taken_for_what_the_tables_hold(
    layout: Layout, word: str, tables: Settings, data_dir: Path
) -> None:
    store(data_dir / "custom_ids.hdf5", "CALC-1", layout, tables)
    ledger = Ledger(tables)
    record = ledger.require_calculation("CALC-1")
    expected = 85
    if word == "all is stored":
        for part in CURVE_PARTS:
            items = StoredCurves("CALC-1", layout, part, tables, Reader(tables))
            places = [place_of(read_meta("CALC-1", tables), site) for site in range(5)]
            sum(remove_items(items, items.everything(places, keys_only=True)))
        expected = 0
    elif word == "next to nothing was stored":
        ledger.delete("CALC-1", layout)
        parts: dict[CurvePart, int] = {"stats": 1}
        ledger.save_calculation(
            replace(record, n_sites=1, curves_per_site=parts, parts=("stats",), items=1, status="failed")
        )
    else:
        ledger.save_calculation(replace(record, identity="another", fingerprint="another", bins=("0.0~0.0",)))
    assert delete("CALC-1").items == expected
    assert is_empty(dump(tables))


@by_layout
@pytest.mark.parametrize("damage", ["lost", "corrupt"])
def test_a_lost_meta_matters_only_where_it_alone_knows_the_bins(
    layout: Layout, damage: str, tables: Settings, data_dir: Path
) -> None:
    source = data_dir / "custom_ids.hdf5"
    store(source, "CALC-1", layout, tables)
    if damage == "lost":
        delete_meta("CALC-1", layout, tables)
    else:
        bind(CalculationMeta, tables)(haz_sol_id="CALC-1", entry=layout.name, payload=b"?", segments=0).save()
    if layout.partition.name == "location":
        before = dump(tables)
        with pytest.raises(LedgerError, match="store it again"):
            delete("CALC-1")
        assert dump(tables) == before, "nothing was forgotten"
        store(source, "CALC-1", layout, tables, chunks=("stats",))  # as the message says
    delete("CALC-1")
    assert is_empty(dump(tables))


def test_the_meta_of_another_layout_knows_the_bins_as_well(tables: Settings, data_dir: Path) -> None:
    for name in ("packed+solution", "packed+location"):
        store(data_dir / "custom_ids.hdf5", "CALC-1", LAYOUTS[name], tables)
    delete_meta("CALC-1", LAYOUTS["packed+location"], tables)
    assert delete("CALC-1").items == 2 * 85
    assert is_empty(dump(tables))


class Killed(BaseException):
    """As if the process had ended here."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls_before: int = 0) -> None:
    original = getattr(owner, name)
    count = 0

    def stub(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls_before:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, stub)


KILLS: dict[str, tuple[Any, str, int]] = {
    "before the readers are stopped": (deletion.meta_room, "mark_complete", 0),
    "before the chunks are forgotten": (Ledger, "delete_chunks", 0),
    "between chunks": (Ledger, "_delete", 1),
    "before the record is written again": (Ledger, "save_calculation", 0),
    "before the first items": (Reader, "delete", 0),
    "between items": (Reader, "delete", 2),
    "before the meta": (deletion.meta_room, "delete_meta", 0),
    "before the record goes": (Ledger, "delete", 0),
}


@by_layout
@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_delete_is_no_whole_calculation_and_can_be_repeated_or_stored_again(
    layout: Layout, moment: str, tables: Settings, data_dir: Path
) -> None:
    source = data_dir / "custom_ids.hdf5"
    for then in ("delete", "store"):
        store(source, "CALC-1", layout, tables)
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at(monkeypatch, *KILLS[moment])
            with pytest.raises(Killed):
                delete("CALC-1")
        if moment not in ("before the readers are stopped", "before the record goes"):
            assert not read_meta("CALC-1", tables).complete
        if then == "delete":
            delete("CALC-1")
            assert is_empty(dump(tables))
        else:
            # Nothing that was deleted counts as stored.
            store(source, "CALC-1", layout, tables)
            report = verify(str(source), "CALC-1")
            assert report.ok, report.summary
            assert report.complete


def test_a_v2_calculation_of_an_older_program_goes(
    stage: str, dynamodb_endpoint: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment()
    create_tables(settings)
    layout = LAYOUTS["list+solution"]
    for haz_sol_id in ("OLD", "OLD2"):
        store(data_dir / "custom_ids.hdf5", haz_sol_id, layout, settings)
        delete_meta(haz_sol_id, layout, settings)
        Ledger(settings).delete(haz_sol_id, layout)
    report = delete("OLD")
    assert (report.layouts, report.items, report.meta_items) == (("list+solution",), 85, 1)
    assert len(query.curves("OLD2")) == 85 * 4
    delete("OLD2")
    assert is_empty(dump(settings))
