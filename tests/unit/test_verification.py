"""Comparing items with a file: whatever is changed is found, counted and named, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hazard_store.layouts import LAYOUTS, CurveBlock, Layout
from hazard_store.meta import Meta
from hazard_store.names import HazSolId
from hazard_store.settings import Settings
from hazard_store.storage.models import table_name
from hazard_store.storage.reader import Reader
from hazard_store.stored import StoredCurves
from hazard_store.verification import VerifyReport
from hazard_store.verification.comparison import CurveComparison
from hazard_store.verification.differences import Difference, Tally
from hazard_store.verification.metas import unequal
from tests.unit.fake_dynamodb import FakeDynamoDb

SETTINGS = Settings(stage="UNIT")
CODES = ["WLG", "AKL", "CHC"]
LAT, LON = np.array([-41.29, -36.85, -43.53]), np.array([174.78, 174.76, 172.63])
KINDS = [f"{rlz:05d}" for rlz in range(4)]
IMTLS = {"PGA": np.array([0.01, 0.1, 1.0]), "SA(0.2)": np.array([0.02, 0.2, 2.0])}
SHAPE = (3, 4, 2, 3)
POES = np.random.default_rng(5).random(SHAPE, np.float32)
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


class Store:
    """A calculation's realisations stored in a dictionary, and the file that they are compared with."""

    def __init__(self, layout: Layout, poes: np.ndarray[Any, Any] = POES, page: int = 1_000) -> None:
        self.layout = layout
        self.table = table_name(layout.table_base("realisations"), SETTINGS)
        self.database = FakeDynamoDb(page=page)
        self.imtls = dict(IMTLS)
        self.reads: list[tuple[int, int]] = []
        self.put(poes)

    def put(
        self, poes: np.ndarray[Any, Any], codes: list[str] = CODES, haz_sol_id: str = "CALC", **changes: Any
    ) -> None:
        block: dict[str, Any] = {
            "part": "realisations",
            "haz_sol_id": haz_sol_id,
            "codes": codes,
            "lat": LAT,
            "lon": LON,
            "kinds": KINDS,
            "imts": list(IMTLS),
            "levels": np.array(list(IMTLS.values())),
            "poes": np.ascontiguousarray(poes),
            "created": 0,
        }
        self.database.load_block(self.table, self.layout, CurveBlock(**block | changes))

    @property
    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        return self.database.tables[self.table]

    def key(self, code: str, rlz: int) -> tuple[str, str]:
        return next(k for k in self.rows if k[1].startswith(f"{code}:") and k[1].endswith(f"{rlz:05d}"))

    def compare(self, kinds: list[str] = KINDS, most: int = 20) -> Tally:
        meta = Meta(
            HazSolId("CALC"),
            self.layout,
            True,
            ("realisations",),
            {"imtls": {imt: levels.tolist() for imt, levels in self.imtls.items()}},
        )
        tally = Tally(most)
        stored = StoredCurves("CALC", self.layout, "realisations", SETTINGS, Reader(SETTINGS, client=self.database))
        file = SimpleNamespace(sites=SimpleNamespace(codes=CODES, lat=LAT, lon=LON), imtls=IMTLS, read=self._read)
        for _ in CurveComparison(file, meta, stored, kinds, tally).run():  # type: ignore[arg-type]
            pass
        return tally

    def _read(self, part: str, start: int, stop: int, first: int, last: int) -> np.ndarray[Any, Any]:
        assert part == "realisations"
        self.reads.append((start, last - first))
        return POES[start:stop, first:last]


def counts(tally: Tally) -> tuple[int, int, int]:
    return tally.missing, tally.extra, tally.different


@by_layout
@pytest.mark.parametrize("page", [1, 5, 1_000])
def test_what_is_as_in_the_file_passes(layout: Layout, page: int) -> None:
    store = Store(layout, page=page)
    store.put(POES * 0, haz_sol_id="CALC2")
    store.put(POES * 0, codes=["A", "B", "C"], haz_sol_id="CAL")
    tally = store.compare()
    assert (counts(tally), tally.differences) == ((0, 0, 0), [])
    assert (tally.checked_items, tally.checked_values) == (12, POES.size)


@settings(deadline=None)
@given(
    layout=st.sampled_from(list(LAYOUTS.values())),
    flips=st.dictionaries(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), st.integers(0, 22), max_size=5),
)
def test_every_flipped_bit_is_found_at_its_place(layout: Layout, flips: dict[tuple[int, ...], int]) -> None:
    poes = POES.copy()
    for place, bit in flips.items():
        poes.view(np.uint32)[place] ^= np.uint32(1 << bit)
    tally = Store(layout, poes).compare()
    assert counts(tally) == (0, 0, len(flips))
    imts = list(IMTLS)
    assert {(d.what, d.site, d.kind, d.imt, d.level, d.expected, d.got) for d in tally.differences} == {
        (
            "value",
            CODES[site],
            KINDS[kind],
            imts[imt],
            float(IMTLS[imts[imt]][level]),
            float(POES[site, kind, imt, level]),
            float(poes[site, kind, imt, level]),
        )
        for site, kind, imt, level in flips
    }


@by_layout
def test_negative_zero_is_not_zero(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    zero = np.zeros_like(POES)
    store = Store(layout, -zero)
    monkeypatch.setattr(store, "_read", lambda part, start, stop, first, last: zero[start:stop, first:last])
    assert store.compare().different == POES.size


@by_layout
def test_missing_items_are_named(layout: Layout) -> None:
    store = Store(layout)
    for key in [store.key("AKL", 2), *(store.key("CHC", rlz) for rlz in range(4))]:
        del store.rows[key]
    tally = store.compare()
    assert counts(tally) == (5, 0, 0)
    assert {(d.what, d.site, d.kind) for d in tally.differences} == {
        ("missing item", "AKL", "00002"),
        *(("missing item", "CHC", kind) for kind in KINDS),
    }


@by_layout
def test_items_that_the_file_does_not_have_are_named(layout: Layout) -> None:
    store = Store(layout)
    store.put(POES[:, :1], codes=["X", "Y", "Z"], kinds=["00000"])
    store.put(POES[:, :1], kinds=["00004"])
    store.put(POES[:, :1], kinds=["1"])
    tally = store.compare()
    assert counts(tally) == (0, 9, 0)
    assert {(d.what, d.site) for d in tally.differences} == {("extra item", code) for code in [*CODES, "X", "Y", "Z"]}


def test_an_item_in_the_wrong_bin_is_one_too_many() -> None:
    store = Store(LAYOUTS["packed+location"])
    _, range_key = key = store.key("WLG", 0)
    row = store.rows.pop(key)
    akl = store.key("AKL", 0)[0]
    store.rows[akl, range_key] = {**row, "pk": {"S": akl}}
    assert counts(store.compare()) == (1, 1, 0)


@by_layout
def test_a_part_that_was_not_asked_for_should_not_be_there(layout: Layout) -> None:
    store = Store(layout)
    assert counts(store.compare(kinds=[])) == (0, 12, 0)
    del store.database.tables[store.table]
    store.database.tables[store.table] = {}
    assert counts(store.compare(kinds=[])) == (0, 0, 0)


@by_layout
def test_swapped_labels_are_found(layout: Layout) -> None:
    store = Store(layout)
    names, levels = list(IMTLS), list(IMTLS.values())
    if layout.encoding.name == "list":
        for row in store.rows.values():
            entries = row["values"]["L"]
            entries[0]["M"]["vals"], entries[1]["M"]["vals"] = entries[1]["M"]["vals"], entries[0]["M"]["vals"]
    else:
        store.imtls = {names[1]: levels[1], names[0]: levels[0]}
    assert store.compare().different == POES.size


@by_layout
def test_a_meta_that_lacks_an_imt_makes_its_values_wrong(layout: Layout) -> None:
    store = Store(layout)
    del store.imtls["PGA"]
    assert store.compare().different >= POES.size // 2


@by_layout
def test_a_damaged_item_counts_all_its_values(layout: Layout) -> None:
    store = Store(layout)
    row = store.rows[store.key("AKL", 1)]
    if layout.encoding.name == "list":
        row["values"]["L"].pop()
    else:
        row["poes"]["B"] = row["poes"]["B"][:-3]
    tally = store.compare()
    assert counts(tally) == (0, 0, 6)
    (difference,) = tally.differences
    assert (difference.what, difference.site, difference.kind) == ("undecodable item", "AKL", "00001")


changes: dict[str, Callable[[dict[str, Any]], Any]] = {
    "loc": lambda row: row.update(loc={"S": "AKL"}),
    "rlz": lambda row: row.update(rlz={"S": "00003"}),
    "lat": lambda row: row.update(lat={"N": "-41.3"}),
    "lon": lambda row: row.pop("lon"),
    "haz_sol_id": lambda row: row.update(haz_sol_id={"S": "OTHER"}),
}


@pytest.mark.parametrize("name", changes)
def test_attributes_of_list_items_are_compared(name: str) -> None:
    store = Store(LAYOUTS["list+location"])
    changes[name](store.rows[store.key("WLG", 0)])
    tally = store.compare()
    assert counts(tally) == (0, 0, 1)
    assert (tally.differences[0].what, tally.differences[0].site) == (f"wrong {name}", "WLG")


def test_the_file_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hazard_store.verification.comparison.BLOCK_BYTES", 2 * 4 * 6)
    store = Store(LAYOUTS["packed+solution"])
    assert counts(store.compare()) == (0, 0, 0)
    assert max(kinds for _, kinds in store.reads) == 2
    assert len(store.reads) == 6


def test_all_are_counted_and_the_first_are_kept() -> None:
    tally = Store(LAYOUTS["packed+solution"], POES / 2).compare(most=3)
    assert (tally.different, len(tally.differences)) == (POES.size, 3)


def a_report(**changes: Any) -> VerifyReport:
    fields: dict[str, Any] = dict.fromkeys(("missing", "extra", "different", "meta_differences"), 0)
    fields |= {"haz_sol_id": "ID", "layout": "packed+solution", "complete": True}
    return VerifyReport(**fields | {"checked_items": 85, "checked_values": 2_720} | changes)


@pytest.mark.parametrize("count", ["missing", "extra", "different", "meta_differences"])
def test_one_difference_of_any_kind_is_not_ok(count: str) -> None:
    assert a_report().ok
    report = a_report(**{count: 1})
    assert not report.ok
    assert ": 1 " in report.summary


def test_the_summary_says_what_was_compared() -> None:
    head = "ID in packed+solution: 2,720 values in 85 items compared with the file"
    assert a_report().summary == f"{head}, all the same"
    assert a_report(complete=False).summary == f"{head}, all the same; the meta says that it is not complete"
    assert a_report(missing=2, different=1_000).summary == f"{head}: 1,000 values differ, 2 items missing"
    difference = Difference("value", "WLG", "mean", "PGA", 0.1, 0.5, 0.25)
    assert str(difference) == "value WLG mean PGA at 0.1: expected 0.5, got 0.25"
    assert str(Difference("missing item", "WLG", "mean")) == "missing item WLG mean"


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_documents_differ_exactly_where_they_areunequal(one: Any, other: Any) -> None:
    assert not list(unequal("x", one, one))
    same = one == other and str(one) == str(other)  # the order of IMTs matters, which == ignores
    assert bool(list(unequal("x", one, other))) == (not same)


def test_a_difference_in_a_document_has_its_path() -> None:
    one = {"sites": {"lat": [1.0, 2.0]}, "imtls": {"PGA": [1], "SA": [2]}}
    other = {"sites": {"lat": [1.0, 2.5]}, "imtls": {"SA": [2], "PGA": [1]}}
    assert list(unequal("meta", one, other)) == [
        ("meta.sites.lat[1]", 2.0, 2.5),
        ("meta.imtls", ["PGA", "SA"], ["SA", "PGA"]),
    ]
