"""`store --replace`: what an earlier content of the id left behind goes, and nothing else, also after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hazard_store import removal, storing
from hazard_store.deletion import delete
from hazard_store.inventory import places_of
from hazard_store.jobs import StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.ledger import Ledger
from hazard_store.meta import read_meta
from hazard_store.names import CURVE_PARTS
from hazard_store.oq import open_calculation
from hazard_store.settings import Settings
from hazard_store.storage.reader import Reader
from hazard_store.stored import StoredCurves
from hazard_store.storing import store_in_process
from hazard_store.verification import verify
from tests.integration.test_delete import Killed, dump, is_empty, kill_at
from tests.integration.test_proof import fewer_sites

by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
HAZ_SOL_ID = "CALC-1"
LEFT = 2 * 17  # two sites more, five statistics and twelve realisations


def store(source: Path, layout: Layout, settings: Settings, **changes: Any) -> StoreReport:
    request = StoreRequest(str(source), HAZ_SOL_ID, encoding=layout.encoding.name, partition=layout.partition.name)
    report = store_in_process(replace(request, **changes), settings)
    assert report.complete
    return report


# One file for all tests: a process tries each file once, which takes longer than to store it.
@pytest.fixture(scope="module")
def larger(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sites, each in a bin of its own."""
    return fewer_sites(data_dir / "custom_ids.hdf5", tmp_path_factory.mktemp("larger") / "calc_1.hdf5", 5)


@pytest.fixture(scope="module")
def smaller(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first three of them."""
    return fewer_sites(data_dir / "custom_ids.hdf5", tmp_path_factory.mktemp("smaller") / "calc_1.hdf5", 3)


@by_layout
def test_what_was_left_behind_goes_and_neighbours_stay(
    layout: Layout, tables: Settings, larger: Path, smaller: Path
) -> None:
    for neighbour in ("CALC", "CALC-10"):
        store(larger, layout, tables, haz_sol_id=neighbour)
    neighbours = dump(tables)
    store(larger, layout, tables)
    report = store(smaller, layout, tables, replace=True)
    assert (report.removed, report.warnings) == (LEFT, ())
    found = verify(str(smaller), HAZ_SOL_ID)
    assert (found.ok, found.complete, found.checked_items) == (True, True, 3 * 17), found.summary
    delete(HAZ_SOL_ID)
    assert dump(tables) == neighbours


@by_layout
def test_without_it_a_store_warns_and_a_later_one_still_finds_what_was_left(
    layout: Layout, tables: Settings, larger: Path, smaller: Path
) -> None:
    store(larger, layout, tables)
    report = store(smaller, layout, tables)
    assert report.removed == 0
    assert "hazard-store store --replace" in report.warnings[0]
    assert verify(str(smaller), HAZ_SOL_ID).extra == LEFT
    # Everything is stored, so there is nothing to do but this; and the next time, not even this.
    report = store(smaller, layout, tables, replace=True)
    assert (report.removed, report.outcomes, report.complete) == (LEFT, (), True)
    assert verify(str(smaller), HAZ_SOL_ID).ok
    assert store(smaller, layout, tables, replace=True).removed == 0


@by_layout
def test_a_delete_finds_what_was_left_behind(layout: Layout, tables: Settings, larger: Path, smaller: Path) -> None:
    store(larger, layout, tables)
    store(smaller, layout, tables)
    assert delete(HAZ_SOL_ID).items == 5 * 17
    assert is_empty(dump(tables))


@by_layout
def test_statistics_realisations_and_parts_that_are_no_more_go_as_well(
    layout: Layout, tables: Settings, data_dir: Path
) -> None:
    store(data_dir / "bare_coordinates.hdf5", layout, tables)
    report = store(data_dir / "custom_ids.hdf5", layout, tables, parts=("meta", "stats"), replace=True)
    assert report.removed == 12 * 19
    found = verify(str(data_dir / "custom_ids.hdf5"), HAZ_SOL_ID)
    assert (found.ok, found.checked_items) == (True, 5 * 5), found.summary
    # The part that is stored later belongs to the same content: nothing is left behind.
    report = store(data_dir / "custom_ids.hdf5", layout, tables, parts=("realisations",), replace=True)
    assert report.removed == 0
    assert verify(str(data_dir / "custom_ids.hdf5"), HAZ_SOL_ID).checked_items == 5 * 17
    chunks = Ledger(tables).chunks(HAZ_SOL_ID, layout)
    assert sorted(chunks) == ["meta", "realisations:00000-00005", "stats:00000-00005"]


KILLS: dict[str, tuple[Any, str, int]] = {
    "before the record": (Ledger, "save_calculation", 0),
    "before the meta says so": (storing.meta, "mark_complete", 0),
    "before anything is removed": (storing, "remove_leftovers", 0),
    "between batches": (Reader, "delete", 1),
    "before the chunks are forgotten": (Ledger, "delete_chunks", 0),
    "before the record forgets the bins": (Ledger, "save_calculation", 1),
    "before the new meta": (storing, "store_meta", 0),
    "before the first chunk": (storing, "store_chunk", 0),
    "between chunks": (storing, "store_chunk", 1),
    "before the end": (storing, "finish", 0),
}


def stored_keys(source: Path, layout: Layout, settings: Settings, n_sites: int) -> set[tuple[str, str]]:
    """Keys of all curves that are there of the first sites of a file."""
    with open_calculation(source) as calculation:
        places = places_of(calculation)
    codes = {place.code for place in places[:n_sites]}
    parts = [StoredCurves(HAZ_SOL_ID, layout, part, settings, Reader(settings)) for part in CURVE_PARTS]
    items = [item for stored in parts for item in stored.everything(places, keys_only=True)]
    return {(item.hash_key, item.range_key) for item in items if item.code in codes}


@pytest.mark.parametrize("layout", [LAYOUTS["packed+solution"], LAYOUTS["list+location"]], ids=lambda each: each.name)
@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_one_is_no_whole_calculation_and_is_repaired_by_a_repeat(
    layout: Layout, moment: str, tables: Settings, larger: Path, smaller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "MAX_DELETE_KEYS", 10)
    monkeypatch.setattr(removal, "CONNECTIONS", 1)
    store(larger, layout, tables)
    assert len(stored_keys(larger, layout, tables, 5)) == 5 * 17
    with pytest.MonkeyPatch.context() as killing:
        kill_at(killing, *KILLS[moment])
        with pytest.raises(Killed):
            store(smaller, layout, tables, replace=True)
    # What was there is whole until the meta says that it is not.
    is_whole = moment in ("before the record", "before the meta says so")
    assert read_meta(HAZ_SOL_ID, tables).complete == is_whole
    assert not is_whole or len(stored_keys(larger, layout, tables, 5)) == 5 * 17
    assert len(stored_keys(larger, layout, tables, 3)) == 3 * 17, "something that the new content has was taken away"
    assert store(smaller, layout, tables, replace=True).complete
    found = verify(str(smaller), HAZ_SOL_ID)
    assert (found.ok, found.complete, found.checked_items) == (True, True, 3 * 17), found.summary
    delete(HAZ_SOL_ID)
    assert is_empty(dump(tables))
