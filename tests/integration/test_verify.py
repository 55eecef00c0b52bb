"""Verifying stored calculations against their files, as stored and after they were tampered with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from hazard_store.errors import NotStoredError, SourceError
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.ledger import Ledger
from hazard_store.meta import Meta, delete_meta, mark_complete, read_meta, write_meta
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from hazard_store.storage.models import V2Meta, bind, table_name
from hazard_store.storing import store_in_process
from hazard_store.verification import VerifyReport, verify

by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def store(source: Path, layout: Layout, settings: Settings, **changes: Any) -> None:
    request = StoreRequest(str(source), "CALC-1", encoding=layout.encoding.name, partition=layout.partition.name)
    assert store_in_process(replace(request, **changes), settings).complete


@by_layout
@pytest.mark.parametrize(
    ("case", "n_items"), [("custom_ids", 5 * 17), ("bare_coordinates", 12 * 19), ("realisations_only", 2 * 12)]
)
def test_what_was_stored_is_verified(layout: Layout, case: str, n_items: int, tables: Settings, data_dir: Path) -> None:
    source = data_dir / f"{case}.hdf5"
    store(source, layout, tables)
    progress: list[tuple[int, int]] = []
    report = verify(str(source), "CALC-1", on_progress=lambda done, total: progress.append((done, total)))
    assert report.ok, report.summary
    assert report.complete
    assert (report.layout, report.checked_items) == (layout.name, n_items)
    with h5py.File(source) as file:
        assert report.checked_values == sum(
            file[name].size for name in ("hcurves-stats", "hcurves-rlzs") if name in file
        )
    assert progress[-1] == (n_items, n_items)


@by_layout
def test_the_parts_and_the_site_codes_are_those_of_the_store(layout: Layout, tables: Settings, data_dir: Path) -> None:
    source = data_dir / "custom_ids.hdf5"
    store(source, layout, tables, parts=("meta", "stats"), sites="normalised")
    report = verify(str(source), "CALC-1")
    assert report.ok, report.summary
    assert report.checked_items == 5 * 5


def test_a_child_is_verified_with_the_parent_it_was_stored_with(tables: Settings, data_dir: Path) -> None:
    layout = LAYOUTS["packed+solution"]
    store(data_dir / "child.hdf5", layout, tables, parent=str(data_dir / "custom_ids.hdf5"))
    assert verify(str(data_dir / "child.hdf5"), "CALC-1").ok


@by_layout
def test_a_tampered_file_is_not_what_was_stored(
    layout: Layout, tables: Settings, data_dir: Path, tmp_path: Path
) -> None:
    store(data_dir / "custom_ids.hdf5", layout, tables)
    other = tmp_path / "other.hdf5"
    shutil.copy(data_dir / "custom_ids.hdf5", other)
    with h5py.File(other, "r+") as file:
        file["hcurves-rlzs"][3, 7, 1, 2] *= 0.5
    report = verify(str(other), "CALC-1")
    assert not report.ok
    assert (report.different, report.missing, report.extra) == (1, 0, 0)
    assert [d.kind for d in report.differences if d.what == "meta"] == ["fingerprint"]
    (found,) = [d for d in report.differences if d.what == "value"]
    assert (found.site, found.kind, found.imt) == ("BHE", "00007", "SA(0.2)")
    assert found.level == pytest.approx(0.05034, abs=1e-5)
    assert isinstance(found.expected, float)
    assert found.expected == pytest.approx(float(str(found.got)) / 2)


def key(layout: Layout, part: Any, code: str, kind: str) -> dict[str, Any]:
    places = {"WLG": (-41.29, 174.78), "MRO": (-40.95, 175.66), "GONE": (-41.3, 174.8)}
    partition, (hash_name, range_name) = layout.partition, layout.key_names(part)
    return {
        hash_name: {"S": partition.hash_key("CALC-1", *places[code])},
        range_name: {"S": partition.range_prefix("CALC-1", code) + kind},
    }


@by_layout
def test_lost_and_foreign_items_are_found(layout: Layout, tables: Settings, data_dir: Path) -> None:
    source = str(data_dir / "custom_ids.hdf5")
    store(Path(source), layout, tables)
    client = connect(tables).client
    stats, rlzs = (table_name(layout.table_base(part), tables) for part in ("stats", "realisations"))
    client.delete_item(TableName=stats, Key=key(layout, "stats", "MRO", "mean"))
    client.delete_item(TableName=rlzs, Key=key(layout, "realisations", "WLG", "00011"))
    client.put_item(TableName=rlzs, Item=key(layout, "realisations", "WLG", "00012"))
    client.put_item(TableName=stats, Item=key(layout, "stats", "GONE", "mean"))
    report = verify(source, "CALC-1")
    assert (report.missing, report.extra, report.different, report.meta_differences) == (2, 2, 0, 0)
    assert {(d.what, d.site, d.kind) for d in report.differences} == {
        ("missing item", "MRO", "mean"),
        ("missing item", "WLG", "00011"),
        ("extra item", "WLG", "00012"),
        ("extra item", "GONE", "mean"),
    }
    assert verify(source, "CALC-1", max_differences=1).differences == report.differences[:1]


def swap_imts(document: dict[str, Any]) -> dict[str, Any]:
    levels = dict(document["imtls"])
    levels["PGA"], levels["SA(1.0)"] = levels["SA(1.0)"], levels["PGA"]
    return document | {"imtls": levels}


def set_in(path: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return document

    return change


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (set_in(("sites", "lat", 3), -41.0), "sites.lat[3]"),
        (set_in(("sites", "vs30", 0), 251.0), "sites.vs30[0]"),
        (set_in(("stats",), ["mean"]), "stats"),
        (set_in(("realisations", "weight", 1), 0.5), "realisations.weight[1]"),
        (set_in(("realisations", "gsim_path", 0), ["gA0"]), "realisations.gsim_path[0]"),
        (set_in(("investigation_time",), 1.0), "investigation_time"),
        (set_in(("something",), 1), "something"),
        (swap_imts, "imtls.PGA[0]"),
    ],
)
def test_a_meta_that_says_something_else_is_found(
    change: Callable[[dict[str, Any]], dict[str, Any]], path: str, tables: Settings, data_dir: Path
) -> None:
    source = data_dir / "custom_ids.hdf5"
    layout = LAYOUTS["packed+solution"]
    store(source, layout, tables)
    meta = read_meta("CALC-1", tables)
    write_meta(Meta(meta.haz_sol_id, layout, True, meta.parts, change(meta.document)), tables)
    report = verify(str(source), "CALC-1")
    assert report.meta_differences >= 1
    assert path in [d.kind for d in report.differences if d.what == "meta"]


def test_a_v2_meta_that_says_something_else_is_found(tables: Settings, data_dir: Path) -> None:
    source = data_dir / "custom_ids.hdf5"
    store(source, LAYOUTS["list+solution"], tables)
    model = bind(V2Meta, tables)

    def differences() -> list[str | None]:
        return [d.kind for d in verify(str(source), "CALC-1").differences]

    assert differences() == []
    (item,) = model.query("ToshiOpenquakeHazardMeta")
    item.aggs = {"mean"}
    item.save()
    assert differences() == ["V2.aggs"]
    item.refresh()
    item.rlz_lt = item.rlz_lt.replace("0", "1", 1)
    item.save()
    assert differences() == ["V2.aggs", "V2.rlz_lt"]
    item.delete()
    assert differences() == ["V2"]


@by_layout
def test_a_lost_meta_or_ledger_does_not_stop_it(layout: Layout, tables: Settings, data_dir: Path) -> None:
    source = str(data_dir / "bare_coordinates.hdf5")
    store(Path(source), layout, tables)
    mark_complete("CALC-1", layout, tables, complete=False)
    report = verify(source, "CALC-1")
    assert (report.ok, report.complete) == (True, False)
    assert "not complete" in report.summary

    Ledger(tables).delete("CALC-1", layout)
    assert verify(source, "CALC-1").ok

    store(Path(source), layout, tables)
    delete_meta("CALC-1", layout, tables)
    report = verify(source, "CALC-1")
    assert (report.ok, report.complete, report.meta_differences, report.different) == (False, False, 1, 0)
    assert report.checked_items == 12 * 19


def test_what_cannot_be_verified_is_said(tables: Settings, data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotStoredError):
        verify(str(data_dir / "custom_ids.hdf5"), "NOTHING")
    store(data_dir / "custom_ids.hdf5", LAYOUTS["packed+solution"], tables)
    with pytest.raises(NotStoredError, match="list"):
        verify(str(data_dir / "custom_ids.hdf5"), "CALC-1", layout=LAYOUTS["list+solution"])
    with pytest.raises(SourceError):
        verify(str(tmp_path / "no.hdf5"), "CALC-1")


def test_another_calculation_differs_in_everything(tables: Settings, data_dir: Path) -> None:
    store(data_dir / "sampled_early_latin.hdf5", LAYOUTS["packed+solution"], tables)
    report: VerifyReport = verify(str(data_dir / "bare_coordinates.hdf5"), "CALC-1")
    assert not report.ok
    assert report.missing
    assert report.meta_differences
