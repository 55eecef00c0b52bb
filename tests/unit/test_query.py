"""Selecting, fetching and handing over curves, against a DynamoDB in a dictionary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hazard_store import fetching, query
from hazard_store.errors import CorruptItemError, StorageError, TableMissingError, UsageError
from hazard_store.fetching import fetch_rows
from hazard_store.layouts import LAYOUTS, CurveBlock, Layout
from hazard_store.meta import Meta
from hazard_store.names import CURVE_PARTS, CurvePart, HazSolId
from hazard_store.rows import CurveRow
from hazard_store.selection import nearest_site, select
from hazard_store.settings import Settings
from hazard_store.storage.faults import RetryPolicy
from hazard_store.storage.models import table_name
from hazard_store.storage.reader import Reader
from hazard_store.stored import Place, StoredCurves
from tests.unit.fake_dynamodb import FakeDynamoDb, lose_connection, refuse

SETTINGS = Settings(stage="UNIT")
FAST = RetryPolicy(base_delay_secs=0.0001, max_delay_secs=0.001, deadline_secs=0.2)
IMTLS = {"PGA": [0.01, 0.1, 1.0], "SA(0.2)": [0.02, 0.2, 2.0]}
# In an order that no key has.
CODES = ["WLG", "AKL", "[-41.500~175.250]", "WLG2"]
LAT, LON = [-41.29, -36.85, -41.5, -41.2], [174.78, 174.76, 175.25, 174.9]
KINDS: dict[CurvePart, list[str]] = {
    "stats": ["mean", "std", "0.1"],
    "realisations": [f"{rlz:05d}" for rlz in range(5)],
}
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def a_meta(layout: Layout = LAYOUTS["packed+solution"], *, complete: bool = True, id: str = "CALC-1") -> Meta:
    document = {
        "sites": {"code": CODES, "lat": LAT, "lon": LON, "vs30": [250.0, 400.0, None, 760.0]},
        "imtls": IMTLS,
        "stats": ["mean", "std", "quantile-0.1"],
        "kinds": KINDS,
    }
    return Meta(HazSolId(id), layout, complete, ("meta", "realisations", "stats"), document)


def poes_of(part: CurvePart, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Any float32 that is not NaN: negative zero and denormals too."""
    shape = (len(CODES), len(KINDS[part]), 2, 3)
    bits = np.random.default_rng([seed, CURVE_PARTS.index(part)]).integers(0, 0x7F800000, shape, dtype=np.uint32)
    bits[0, 0, 0] = (0x80000000, 0, 1)
    return bits.view(np.float32)


def store(database: FakeDynamoDb, meta: Meta, seed: int = 0) -> None:
    for part in CURVE_PARTS:
        block = CurveBlock(
            part=part,
            haz_sol_id=meta.haz_sol_id,
            codes=meta.codes,
            lat=meta.lat,
            lon=meta.lon,
            kinds=KINDS[part],
            imts=list(IMTLS),
            levels=np.array(list(IMTLS.values())),
            poes=poes_of(part, seed),
            created=0,
        )
        database.load_block(table_name(meta.layout.table_base(part), SETTINGS), meta.layout, block)


def a_reader(database: FakeDynamoDb) -> Reader:
    return Reader(SETTINGS, client=database, policy=FAST)


def fetch(database: FakeDynamoDb, meta: Meta, window_bytes: int | None = None, **wanted: Any) -> list[CurveRow]:
    return list(fetch_rows(meta, select(meta, **wanted), a_reader(database), SETTINGS, window_bytes))


def expected(meta: Meta, sites: set[str], kinds: set[str], imts: set[str]) -> list[tuple[Any, ...]]:
    """What the brute-force answer is, poes as bits."""
    return [
        (code, kind, imt, poes_of(part)[s, k, i].view(np.uint32).tolist())
        for s, code in enumerate(CODES)
        for part in CURVE_PARTS
        for k, kind in enumerate(KINDS[part])
        for i, imt in enumerate(IMTLS)
        if code in sites and kind in kinds and imt in imts
    ]


def answered(rows: list[CurveRow]) -> list[tuple[Any, ...]]:
    return [
        (row.site, row.agg if row.rlz is None else f"{row.rlz:05d}", row.imt, row.poes.view(np.uint32).tolist())
        for row in rows
    ]


subsets = {
    "sites": st.none() | st.sets(st.sampled_from(CODES)),
    "imts": st.none() | st.sets(st.sampled_from(list(IMTLS))),
    "aggs": st.none() | st.sets(st.sampled_from(KINDS["stats"])),
    "rlzs": st.none() | st.sets(st.integers(0, 4)),
}


@settings(deadline=None)
@given(
    layout=st.sampled_from(list(LAYOUTS.values())),
    page=st.sampled_from([1, 3, 1_000]),
    window_bytes=st.sampled_from([None, 1, 500]),
    **subsets,
)
def test_any_selection_gives_its_curves_to_the_bit_in_stored_order(
    layout: Layout, page: int, window_bytes: int | None, **wanted: Any
) -> None:
    meta = a_meta(layout)
    database = FakeDynamoDb(page=page)
    store(database, a_meta(layout, id="CALC-10"), seed=1)  # its keys start alike
    store(database, meta)
    aggs, rlzs = wanted["aggs"], wanted["rlzs"]
    everything = aggs is None and rlzs is None
    kinds = {kind for names in KINDS.values() for kind in names}
    if not everything:
        kinds = set(aggs or ()) | {f"{rlz:05d}" for rlz in rlzs or ()}
    sites, imts = wanted["sites"], wanted["imts"]
    rows = fetch(database, meta, window_bytes, **wanted)
    assert answered(rows) == expected(
        meta, set(CODES) if sites is None else sites, kinds, set(IMTLS) if imts is None else imts
    )
    for row in rows:
        position = CODES.index(row.site)
        assert (row.haz_sol_id, row.lat, row.lon) == ("CALC-1", LAT[position], LON[position])
        assert row.levels.tolist() == IMTLS[row.imt]
        assert row.poes.dtype == np.float32


@by_layout
def test_one_site_costs_one_query_a_part_and_named_curves_cost_one_request(layout: Layout) -> None:
    meta = a_meta(layout)
    database = FakeDynamoDb()
    store(database, meta)
    for wanted, operation, requests in (
        ({"sites": "WLG"}, "query", 2),
        ({"sites": "WLG", "rlzs": range(5)}, "query", 1),
        ({"sites": "WLG", "aggs": "mean", "imts": "PGA"}, "batch_get_item", 1),
        ({"sites": ["WLG", "AKL"], "aggs": ["mean", "0.1"]}, "batch_get_item", 1),
        ({"sites": []}, "query", 0),
    ):
        database.calls.clear()
        fetch(database, meta, **wanted)
        assert [name for name, _ in database.calls] == [operation] * requests, wanted


def test_all_sites_of_a_solution_cost_one_query_a_part() -> None:
    meta = a_meta()
    database = FakeDynamoDb()
    store(database, meta)
    fetch(database, meta)
    assert [name for name, _ in database.calls] == ["query", "query"]


@pytest.mark.parametrize("first", [1, 2, 19, 20, 1_000])
def test_a_whole_hash_key_is_read_in_pages_that_fit(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hazard_store.storage.reader.FIRST_PAGE_ITEMS", first)
    monkeypatch.setattr("hazard_store.storage.reader.MAX_PAGE_ITEMS", 8)
    meta = a_meta()
    database = FakeDynamoDb(page=7)
    store(database, meta)
    assert len(fetch(database, meta, rlzs=range(5))) == 4 * 5 * 2
    limits = [request["Limit"] for _, request in database.calls]
    assert limits[0] == first
    assert max(limits[1:], default=0) <= 2 * 7, "no page asks for much more than fits into one"
    database.calls.clear()
    fetch(database, meta, sites="WLG", rlzs=range(5))
    assert "Limit" not in database.calls[0][1], "a site is one request, however many curves it has"


def test_more_than_100_keys_go_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_GET_KEYS", 3)
    meta = a_meta()
    database = FakeDynamoDb(portion=2)  # each leaves one key to ask again for
    store(database, meta)
    rows = fetch(database, meta, aggs=["mean", "0.1"])
    assert len(rows) == 4 * 2 * 2
    assert database.count("batch_get_item") == 5  # 3, 1, 3, 1, 2


def test_rows_are_read_ahead_within_bounds() -> None:
    meta = a_meta()
    database = FakeDynamoDb()
    store(database, meta)
    rows = fetch_rows(meta, select(meta), a_reader(database), SETTINGS, window_bytes=1)
    next(rows)
    assert database.count("query") == 2, "one site, two parts"
    assert len(list(rows)) == 4 * 8 * 2 - 1


@by_layout
def test_a_missing_item_is_absent_of_an_incomplete_calculation_and_an_error_of_a_complete_one(layout: Layout) -> None:
    database = FakeDynamoDb()
    store(database, a_meta(layout))
    table = table_name(layout.table_base("realisations"), SETTINGS)
    (key,) = (key for key in database.keys(table) if key[1].startswith("AKL:") and key[1].endswith(":00003"))
    del database.tables[table][key]
    rows = fetch(database, a_meta(layout, complete=False))
    assert len(rows) == (4 * 8 - 1) * 2
    assert not [row for row in rows if (row.site, row.rlz) == ("AKL", 3)]
    for wanted in ({}, {"sites": "AKL"}, {"sites": "AKL", "rlzs": 3}):
        with pytest.raises(CorruptItemError, match=r"AKL:.*00003.*1 missing"):
            fetch(database, a_meta(layout), **wanted)


@by_layout
def test_an_item_that_does_not_decode_is_named(layout: Layout) -> None:
    database = FakeDynamoDb()
    store(database, a_meta(layout))
    table = table_name(layout.table_base("stats"), SETTINGS)
    for key, item in database.tables[table].items():
        if key[1].endswith("std"):
            item.pop("poes", None)
            item.pop("values", None)
    with pytest.raises(CorruptItemError, match=rf"{table}.*WLG:.*std"):
        fetch(database, a_meta(layout), sites="WLG")


def test_throttles_and_lost_connections_are_waited_out() -> None:
    database = FakeDynamoDb(
        failures=[
            refuse("ProvisionedThroughputExceededException"),
            lose_connection,
            refuse("InternalServerError", 500),
        ]
    )
    store(database, a_meta())
    assert len(fetch(database, a_meta(), sites="WLG", aggs="mean")) == 2
    assert len(database.calls) == 4


def test_waiting_ends_at_the_deadline_and_refusals_are_not_waited_for() -> None:
    endless = FakeDynamoDb(failures=iter(lambda: refuse("ThrottlingException"), None))
    with pytest.raises(StorageError, match="ThrottlingException"):
        fetch(endless, a_meta(), sites="WLG")
    missing = FakeDynamoDb(failures=[refuse("ResourceNotFoundException")] * 9)
    with pytest.raises(TableMissingError, match="HazardStorePacked"):
        fetch(missing, a_meta(), sites="WLG", aggs="mean")
    assert len(missing.calls) == 1
    stuck = FakeDynamoDb(portion=0)
    store(stuck, a_meta())
    with pytest.raises(StorageError, match="1 keys"):
        fetch(stuck, a_meta(), sites="WLG", aggs="mean")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"sites": ["wlg"]}, r"no site 'wlg'.*WLG"),
        ({"imts": "SA(0.20)"}, r"no IMT 'SA\(0.20\)'.*SA\(0.2\)"),
        ({"aggs": ["mean", "median"]}, "no statistic 'median'.*it has mean, std, 0.1"),
        ({"rlzs": [0, 5]}, "no realisation 5: it has 0 to 4"),
        ({"rlzs": ["x"]}, "whole numbers"),
        ({"rlzs": [1.9]}, "whole numbers"),
        ({"sites": "WLG", "near": (0.0, 0.0)}, "not both"),
        ({"near": (91.0, 0.0)}, "is no place"),
        ({"near": (math.nan, 0.0)}, "is no place"),
        ({"sites": pd.DataFrame({"latitude": [1.0]})}, "columns lat and lon"),
    ],
)
def test_what_a_calculation_does_not_have_is_refused_before_anything_is_read(
    wanted: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        select(a_meta(), **wanted)


def test_a_wrong_code_among_thousands_is_answered_by_similar_ones() -> None:
    meta = a_meta()
    lats = [-41.0 - i / 1000 for i in range(1000)]
    meta.document["sites"] = {
        "code": [*(f"[{lat:.3f}~175.000]" for lat in lats[:-1]), "Wellington_1"],
        "lat": lats,
        "lon": [175.0] * 1000,
        "vs30": [400.0] * 1000,
    }
    with pytest.raises(UsageError, match=r"nearest of its 1,000 are \[-41\.500~175\.000\], \[-41\.499|\[-41\.501"):
        select(meta, sites=["[-41.600~175.000]", "[-41.50~175.000]"])
    with pytest.raises(UsageError, match="nearest of its 1,000 are Wellington_1"):
        select(meta, sites="wellington")
    with pytest.raises(UsageError, match=r"it has \[-41\.000~175\.000\].* and 995 more"):
        select(meta, sites="QQQ")


def test_the_stat_names_of_openquake_and_series_of_codes_are_taken() -> None:
    assert select(a_meta(), aggs="quantile-0.1").kinds == {"stats": ["0.1"]}
    assert select(a_meta(), sites=pd.Series(["WLG2", "WLG", "WLG"])).sites == [0, 3]
    assert select(a_meta(), sites=pd.DataFrame({"lat": [-36.0, -41.3], "lon": [175.0, 174.7]})).sites == [0, 1]
    assert select(a_meta(), rlzs=[np.int64(3), "1"]).kinds == {"realisations": ["00001", "00003"]}


places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(sites=st.lists(places, min_size=1, max_size=20), place=places, turn=st.sampled_from([0.0, 360.0]))
def test_near_is_the_least_great_circle_distance(
    sites: list[tuple[float, float]], place: tuple[float, float], turn: float
) -> None:
    def chord(one: tuple[float, float], other: tuple[float, float]) -> float:
        points = []
        for lat, lon in (one, other):
            phi, lam = math.radians(lat), math.radians(lon)
            points.append((math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)))
        return math.dist(*points)

    lats, lons = np.array(sites).T
    lon = place[1] + turn if place[1] < 0 else place[1]
    found = nearest_site(lats, lons, place[0], lon)
    assert chord(sites[found], place) <= min(chord(site, place) for site in sites) + 1e-7


def test_near_crosses_the_date_line() -> None:
    assert nearest_site(np.array([-20.0, -20.0]), np.array([179.0, -179.9]), -20.0, 179.9) == 1


codes = st.lists(
    st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters=":"), min_size=1), max_size=8
)


@given(mine=codes, others=codes, page=st.sampled_from([1, 1_000]))
def test_everything_of_a_calculation_is_found_among_others_and_nothing_else(
    mine: list[str], others: list[str], page: int
) -> None:
    layout = LAYOUTS["packed+location"]
    table = table_name(layout.table_base("stats"), SETTINGS)
    names = layout.key_names("stats")
    database = FakeDynamoDb(page=page)
    bin_name = layout.partition.hash_key("ID", -41.5, 175.0)
    database.tables[table] = {
        (bin_name, f"{code}:{id}:{kind}"): {
            names[0]: {"S": bin_name},
            names[1]: {"S": f"{code}:{id}:{kind}"},
        }
        for id, some in (("ID", mine), ("ID2", others), ("I", mine))
        for code in some
        for kind in ("mean", "0.1")
    }
    stored = StoredCurves("ID", layout, "stats", SETTINGS, a_reader(database))
    found = [(item.code, item.kind) for item in stored.everything([Place("x", -41.5, 175.0)], keys_only=True)]
    assert sorted(found) == sorted((code, kind) for code in set(mine) for kind in ("mean", "0.1"))


def a_row(**changes: Any) -> CurveRow:
    fields: dict[str, Any] = {
        "haz_sol_id": "ID",
        "site": "WLG",
        "lat": -41.29,
        "lon": 174.78,
        "vs30": 250.0,
        "agg": "mean",
        "rlz": None,
        "imt": "PGA",
        "levels": np.array([0.1, 1.0]),
        "poes": np.array([0.25, 0.1], np.float32),
    }
    return CurveRow(**fields | changes)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_json_gives_the_float32_bits_back(values: list[float]) -> None:
    poes = np.array(values, np.float32)
    line = orjson.dumps(a_row(poes=poes).to_json_dict(), option=orjson.OPT_SERIALIZE_NUMPY)
    back = np.array(orjson.loads(line)["poes"], np.float32)
    assert back.view(np.uint32).tolist() == poes.view(np.uint32).tolist()


def test_json_has_the_keys_of_the_contract() -> None:
    common = ["haz_sol_id", "site", "lat", "lon", "vs30"]
    assert list(a_row().to_json_dict()) == [*common, "agg", "imt", "levels", "poes"]
    rlz = a_row(agg=None, rlz=0, vs30=math.nan).to_json_dict()
    assert list(rlz) == [*common, "rlz", "imt", "levels", "poes"]
    assert (rlz["rlz"], rlz["vs30"]) == (0, None)
    # A row of a transposed array is not contiguous, which orjson wants.
    assert orjson.dumps(a_row(poes=np.ones((2, 2), np.float32)[:, 0]).to_json_dict(), option=orjson.OPT_SERIALIZE_NUMPY)


def test_a_frame_keeps_arrays_none_and_whole_numbers() -> None:
    frame = query.rows_to_frame([a_row(), a_row(agg=None, rlz=3)])
    assert list(frame) == list(query.COLUMNS)
    assert frame["agg"].tolist() == ["mean", None]
    assert frame["rlz"].dtype == "Int64"
    assert frame["rlz"].tolist() == [pd.NA, 3]
    assert frame["poes"][0].dtype == np.float32
    assert frame["levels"][1].dtype == np.float64
    assert frame["vs30"].dtype == np.float64

    empty = query.rows_to_frame([])
    assert (len(empty), list(empty)) == (0, list(query.COLUMNS))
    assert empty["rlz"].dtype == "Int64"
    assert query.to_xarray(empty).shape == (0, 0, 0, 0)


@by_layout
def test_an_array_holds_every_curve_at_its_labels(layout: Layout) -> None:
    database = FakeDynamoDb()
    store(database, a_meta(layout))
    rows = fetch(database, a_meta(layout))
    array = query.to_xarray(query.rows_to_frame(rows))
    assert array.dims == ("site", "kind", "imt", "level")
    assert array.site.values.tolist() == CODES
    assert array.kind.values.tolist() == KINDS["stats"] + KINDS["realisations"]
    for row in rows:
        kind = row.agg if row.rlz is None else f"{row.rlz:05d}"
        picked = array.sel(site=row.site, kind=kind, imt=row.imt)
        assert picked.values.view(np.uint32).tolist() == row.poes.view(np.uint32).tolist()
        assert picked.levels.values.tolist() == row.levels.tolist()
        assert float(picked.lat) == row.lat
        assert int(picked.rlz) == (-1 if row.rlz is None else row.rlz)


def test_an_array_has_nan_where_the_frame_has_no_curve_and_refuses_two_calculations() -> None:
    longer = a_row(site="AKL", imt="PGV", levels=np.arange(3.0), poes=np.ones(3, np.float32))
    array = query.to_xarray(query.rows_to_frame([a_row(), longer]))
    assert array.shape == (2, 1, 2, 3)
    assert np.isnan(array.sel(site="WLG", imt="PGV")).all()
    assert array.sel(site="WLG", imt="PGA").values[0].tolist()[:2] == a_row().poes.tolist()
    assert array.attrs == {"haz_sol_id": "ID"}
    with pytest.raises(UsageError, match=r"A, ID|ID, A"):
        query.to_xarray(query.rows_to_frame([a_row(), a_row(haz_sol_id="A")]))
