"""Curves out of a real DynamoDB: the bits of the file, with no more requests than the question needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hazard_store import query
from hazard_store.errors import (
    CorruptItemError,
    NotStoredError,
    StoreChangedError,
    StoreUnreachableError,
    UsageError,
)
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.meta import mark_complete
from hazard_store.oq import open_calculation
from hazard_store.settings import Settings
from hazard_store.storage import connection
from hazard_store.storage.connection import connect
from hazard_store.storage.models import V2Meta, V2Rlzs, V2Stats, bind, table_name
from hazard_store.storage.tables import create_tables
from hazard_store.storing import started, store_in_process

by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)

# Those that hold both parts, one only, codes of their own, and codes that were made from places.
CASES = ("custom_ids", "bare_coordinates", "statistics_only", "realisations_only")

Calls = list[tuple[str, str]]


@pytest.fixture
def calls(tables: Settings) -> Iterator[Calls]:
    """Every request that is sent, by operation and table."""
    sent: Calls = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        # The sender puts its body in later: its requests name no table here.
        sent.append((model.name, params.get("TableName") or next(iter(params.get("RequestItems", {})), "")))

    events = connect(tables).client.meta.events
    events.register("provide-client-params.dynamodb.*", note, unique_id="count-calls")
    yield sent
    events.unregister("provide-client-params.dynamodb.*", note, unique_id="count-calls")


def store(source: Path, layout: Layout, settings: Settings, haz_sol_id: str = "CALC-1") -> None:
    request = StoreRequest(str(source), haz_sol_id, encoding=layout.encoding.name, partition=layout.partition.name)
    assert store_in_process(request, settings).complete


def curves_calls(calls: Calls, layout: Layout) -> Calls:
    """The requests that went to the tables with the curves."""
    bases = (layout.table_base("stats"), layout.table_base("realisations"))
    return [call for call in calls if call[1].startswith(bases)]


@by_layout
@pytest.mark.parametrize("case", CASES)
def test_all_curves_are_those_of_the_file(layout: Layout, case: str, tables: Settings, data_dir: Path) -> None:
    source = data_dir / f"{case}.hdf5"
    store(source, layout, tables)
    frame = query.curves("CALC-1")
    rows = frame.itertuples()
    with open_calculation(source) as calculation:
        sites = calculation.sites
        n_sites = len(sites.codes)
        poes = {p: calculation.read(p, 0, n_sites) for p in ("stats", "realisations") if calculation.curves[p]}
        for site in range(n_sites):
            for part, values in poes.items():
                for kind in range(values.shape[1]):
                    for number, (imt, levels) in enumerate(calculation.imtls.items()):
                        row: Any = next(rows)
                        assert (row.haz_sol_id, row.site, row.imt) == ("CALC-1", sites.codes[site], imt)
                        assert (row.lat, row.lon) == (sites.lat[site], sites.lon[site])
                        assert row.vs30 == sites.vs30[site]
                        if part == "stats":
                            assert (row.agg, row.rlz is pd.NA) == (calculation.aggs[kind], True)
                        else:
                            assert (row.agg, row.rlz) == (None, kind)
                        assert row.levels.tolist() == levels.tolist()
                        assert row.poes.dtype == np.float32
                        assert row.poes.tobytes() == values[site, kind, number].tobytes()
    assert next(rows, None) is None
    assert frame.attrs["complete"] is True
    assert frame.attrs["read_units"] > 0
    streamed = [(row.site, row.agg, row.rlz, row.imt, row.poes.tobytes()) for row in query.iter_curves("CALC-1")]
    assert len(streamed) == len(frame)
    assert [poes for *_, poes in streamed] == [poes.tobytes() for poes in frame["poes"]]


@by_layout
def test_one_site_costs_one_query_and_a_named_curve_one_get(
    layout: Layout, tables: Settings, data_dir: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(data_dir / "custom_ids.hdf5", layout, tables)
    metas_read = []

    def read_meta(haz_sol_id: str, *args: Any) -> Any:
        metas_read.append(haz_sol_id)
        return original(haz_sol_id, *args)

    original = query.meta_room.read_meta
    monkeypatch.setattr(query.meta_room, "read_meta", read_meta)
    stats, rlzs = (table_name(layout.table_base(part), tables) for part in ("stats", "realisations"))
    for wanted, expected, n_rows in (
        ({"sites": ["WLG"]}, [("Query", stats), ("Query", rlzs)], (5 + 12) * 4),
        ({"sites": "WLG", "rlzs": range(12), "imts": "PGA"}, [("Query", rlzs)], 12),
        ({"near": (-41.3, 174.8), "aggs": "mean"}, [("BatchGetItem", stats)], 4),
        ({"aggs": ["mean", "0.9"], "imts": ["PGA", "SA(3.0)"]}, [("BatchGetItem", stats)], 5 * 2 * 2),
        ({"sites": "WLG", "rlzs": [3, 7]}, [("BatchGetItem", rlzs)], 2 * 4),
    ):
        calls.clear()
        frame = query.curves("CALC-1", **wanted)
        assert len(frame) == n_rows
        assert sorted(curves_calls(calls, layout)) == sorted(expected), wanted
        assert metas_read == ["CALC-1"]
        metas_read.clear()
        assert frame.attrs["requests"] == len(expected)
    assert not [call for call in calls if call[0] == "Scan"]


def test_all_sites_of_a_solution_cost_one_query_a_part(tables: Settings, data_dir: Path, calls: Calls) -> None:
    layout = LAYOUTS["packed+solution"]
    store(data_dir / "bare_coordinates.hdf5", layout, tables)
    calls.clear()
    assert len(query.curves("CALC-1")) == 12 * (3 + 16) * 4
    assert [operation for operation, _ in curves_calls(calls, layout)] == ["Query", "Query"]


@by_layout
def test_a_wrong_name_is_refused_before_a_curve_is_read(
    layout: Layout, tables: Settings, data_dir: Path, calls: Calls
) -> None:
    store(data_dir / "custom_ids.hdf5", layout, tables)
    calls.clear()
    for wanted, name in (
        ({"sites": ["wlg"]}, "WLG"),
        ({"imts": ["SA(1)"]}, r"SA\(1.0\)"),
        ({"aggs": ["median"]}, "mean"),
        ({"rlzs": [12]}, "0 to 11"),
    ):
        with pytest.raises(UsageError, match=name):
            query.curves("CALC-1", **wanted)
        with pytest.raises(UsageError, match=name):
            query.iter_curves("CALC-1", **wanted)  # at once, not with the first row
    assert not curves_calls(calls, layout)


@by_layout
def test_calculations_at_the_same_sites_are_kept_apart(layout: Layout, tables: Settings, data_dir: Path) -> None:
    for haz_sol_id, case in (("CALC", "sampled_early_latin"), ("CALC-1", "sampled_late_latin")):
        store(data_dir / f"{case}.hdf5", layout, tables, haz_sol_id)
    for haz_sol_id, case in (("CALC", "sampled_early_latin"), ("CALC-1", "sampled_late_latin")):
        frame = query.curves(haz_sol_id, rlzs=range(8))
        with open_calculation(data_dir / f"{case}.hdf5") as calculation:
            poes = calculation.read("realisations", 0, len(calculation.sites.codes))
        assert np.concatenate(frame["poes"].tolist()).tobytes() == poes.tobytes()


@by_layout
def test_an_incomplete_calculation_says_so_and_a_lost_item_is_no_silence(
    layout: Layout, tables: Settings, data_dir: Path
) -> None:
    store(data_dir / "custom_ids.hdf5", layout, tables)
    partition, (hash_name, range_name) = layout.partition, layout.key_names("stats")
    key = {
        hash_name: {"S": partition.hash_key("CALC-1", -41.29, 174.78)},
        range_name: {"S": partition.range_prefix("CALC-1", "WLG") + "mean"},
    }
    connect(tables).client.delete_item(TableName=table_name(layout.table_base("stats"), tables), Key=key)
    with pytest.raises(CorruptItemError, match=r"WLG:.*mean.*1 missing"):
        query.curves("CALC-1", sites=["WLG"])
    mark_complete("CALC-1", layout, tables, complete=False)
    frame = query.curves("CALC-1", sites=["WLG"])
    assert frame.attrs["complete"] is False
    assert len(frame) == (5 + 12 - 1) * 4


def test_a_complete_layout_is_preferred_and_another_can_be_named(tables: Settings, data_dir: Path) -> None:
    for name in ("packed+solution", "list+location"):
        store(data_dir / "custom_ids.hdf5", LAYOUTS[name], tables)
    assert query.read_meta("CALC-1").layout.name == "packed+solution"
    mark_complete("CALC-1", LAYOUTS["packed+solution"], tables, complete=False)
    assert query.read_meta("CALC-1").layout.name == "list+location"
    assert query.read_meta("CALC-1", layout=LAYOUTS["packed+solution"]).complete is False
    with pytest.raises(NotStoredError, match="packed\\+location"):
        query.curves("CALC-1", layout=LAYOUTS["packed+location"])
    assert [record.layout for record in query.list_calculations()] == ["list+location", "packed+solution"]


def test_what_is_not_stored_and_a_store_that_is_not_there_are_said(
    tables: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotStoredError, match="NOTHING"):
        query.curves("NOTHING")
    # Three attempts, and not ten seconds of them.
    monkeypatch.setattr(connection, "FIRST_CONTACT", replace(connection.FIRST_CONTACT, deadline_secs=0.1))
    with pytest.raises(StoreUnreachableError):
        query.curves("NOTHING", settings=Settings(endpoint="http://127.0.0.1:9", stage=tables.stage))


# --- V2 tables that an older program filled -------------------------------------------------------------------------


def write_as_older_programs_did(
    tables: Settings, source: Path, *, with_names: bool = True
) -> dict[tuple[str, str, str], bytes]:
    """Write statistics and realisations of a file with pynamodb models, 17-digit numbers, and a V2 meta only."""
    bits = {}
    with open_calculation(source) as calculation:
        sites, imtls = calculation.sites, calculation.imtls
        for model, part, attribute in ((V2Stats, "stats", "agg"), (V2Rlzs, "realisations", "rlz")):
            bound: Any = bind(model, tables)
            kinds = calculation.aggs if part == "stats" else [f"{r:05d}" for r in range(calculation.number_of(part))]
            poes = calculation.read(part, 0, len(sites.codes))
            with bound.batch_write() as batch:
                for site, code in enumerate(sites.codes):
                    for number, kind in enumerate(kinds):
                        values = [
                            {"imt": imt, "lvls": levels.tolist(), "vals": [float(poe) for poe in curve]}
                            for (imt, levels), curve in zip(imtls.items(), poes[site, number], strict=True)
                        ]
                        batch.save(
                            bound(
                                "OLD",
                                f"{code}:{kind}",
                                loc=code,
                                lat=float(sites.lat[site]),
                                lon=float(sites.lon[site]),
                                created=pd.Timestamp("2023-01-01", tz="UTC").to_pydatetime(),
                                values=values,
                                **{attribute: kind},
                            )
                        )
                        for imt, curve in zip(imtls, poes[site, number], strict=True):
                            bits[code, kind, imt] = curve.tobytes()
        bind(V2Meta, tables)(
            hazsol_vs30_rk="OLD:400",
            haz_sol_id="OLD",
            vs30=400,
            updated=pd.Timestamp("2023-01-01", tz="UTC").to_pydatetime(),
            imts=set(imtls),
            locs=set(sites.codes) if with_names else None,
            aggs=set(calculation.aggs) if with_names else None,
        ).save()
    return bits


def by_label(frame: pd.DataFrame) -> dict[tuple[str, str, str], bytes]:
    return {
        (row.site, row.agg if row.rlz is pd.NA else f"{row.rlz:05d}", row.imt): row.poes.tobytes()
        for row in frame.itertuples()
    }


def test_what_older_programs_stored_is_read_from_its_items(tables: Settings, data_dir: Path) -> None:
    bits = write_as_older_programs_did(tables, data_dir / "bare_coordinates.hdf5")
    frame = query.curves("OLD")
    assert by_label(frame) == bits
    assert len(frame) == len(bits)
    assert frame.attrs["complete"] is None
    assert set(frame["vs30"]) == {400.0}
    with open_calculation(data_dir / "bare_coordinates.hdf5") as calculation:
        for row in frame.itertuples():
            assert row.levels.tolist() == calculation.imtls[row.imt].tolist()
        code = calculation.sites.codes[3]
        lat, lon = float(calculation.sites.lat[3]), float(calculation.sites.lon[3])
    one = query.curves("OLD", near=(lat + 0.01, lon - 0.01), aggs=["mean"], imts="PGA")
    assert by_label(one) == {(code, "mean", "PGA"): bits[code, "mean", "PGA"]}
    assert one.attrs["requests"] == 1
    rlz = query.curves("OLD", sites=[code], rlzs=[2])
    assert set(by_label(rlz)) == {(code, "00002", imt) for imt in calculation.imtls}
    with pytest.raises(UsageError, match="no statistic 'median'"):
        query.curves("OLD", aggs=["median"])
    with pytest.raises(UsageError, match=r"no site '\[0~0\]'"):
        query.curves("OLD", sites=["[0~0]"])
    with pytest.raises(NotStoredError):
        query.curves("OLD", layout=LAYOUTS["packed+solution"])
    with pytest.raises(NotStoredError):
        query.curves("OL")


def test_v2_tables_alone_are_enough(
    stage: str, data_dir: Path, dynamodb_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment()
    with monkeypatch.context() as patched:
        patched.setattr("hazard_store.storage.tables.MODELS", (V2Meta, V2Stats, V2Rlzs))
        create_tables(settings)
    bits = write_as_older_programs_did(settings, data_dir / "bare_coordinates.hdf5", with_names=False)
    assert by_label(query.curves("OLD")) == bits
    with pytest.raises(UsageError, match="does not say where its sites are"):
        query.curves("OLD", near=(0.0, 0.0))


def test_an_item_of_another_form_is_named(tables: Settings, data_dir: Path) -> None:
    write_as_older_programs_did(tables, data_dir / "bare_coordinates.hdf5")
    connect(tables).client.put_item(
        TableName=table_name(V2Stats.table_base, tables),
        Item={"haz_sol_id": {"S": "OLD"}, "loc_agg_rk": {"S": "X:mean"}, "agg": {"S": "mean"}},
    )
    with pytest.raises(CorruptItemError, match="X:mean"):
        query.curves("OLD", aggs="mean")


@pytest.mark.parametrize("haz_sol_id", ["", "x" * 3_000, None])
def test_an_id_that_no_table_can_hold_is_refused(tables: Settings, haz_sol_id: Any) -> None:
    for ask in (query.curves, query.read_meta):
        with pytest.raises(UsageError, match="nothing can be stored under the id"):
            ask(haz_sol_id, settings=tables)


def test_what_is_stored_anew_while_it_is_read_is_not_mixed_in_silence(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "MIXED")
    assert store_in_process(request, tables).complete
    monkeypatch.setattr(query, "WINDOW_BYTES", 1)
    rows = query.iter_curves("MIXED", settings=tables)
    first = next(rows)
    assert store_in_process(replace(request, source=str(data_dir / "bare_coordinates.hdf5")), tables).complete
    with pytest.raises(StoreChangedError, match="read it again"):
        list(rows)
    # The same content again does no harm, but while it is under way nobody can tell.
    rows = query.iter_curves("MIXED", settings=tables)
    whole = [next(rows), *rows]
    assert whole[0].site != first.site
    with started(replace(request, chunks=("stats",)), tables):
        rows = query.iter_curves("MIXED", settings=tables)
        next(rows)
        assert len(list(rows)) == len(whole) - 1
