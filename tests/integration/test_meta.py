"""Metas that do not fit into one item."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest

from hazard_store.errors import CorruptItemError
from hazard_store.layouts import LAYOUTS
from hazard_store.meta import QUIET_SECS, Meta, delete_meta, mark_complete, read_meta, write_meta
from hazard_store.names import HazSolId
from hazard_store.settings import Settings
from hazard_store.storage.models import CalculationMeta, V2Meta, bind
from hazard_store.v2_meta import write_v2_meta
from hazard_store.verification.differences import Tally
from hazard_store.verification.metas import compare_v2

LAYOUT = LAYOUTS["list+solution"]


def large_document(n_sites: int = 11_500, n_branches: int = 6_000) -> dict[str, Any]:
    """Long site codes and a logic tree of thousands of branches, none of which compresses well."""
    rng = np.random.default_rng(3)
    words = [rng.bytes(24).hex() for _ in range(n_branches)]
    return {
        "sites": {
            "code": [f"[{lat:.3f}~{lon:.3f}]" for lat, lon in rng.uniform(-90, 90, (n_sites, 2))],
            "lon": rng.uniform(-180, 180, n_sites).tolist(),
            "lat": rng.uniform(-90, 90, n_sites).tolist(),
            "vs30": [400.0] * n_sites,
        },
        "imtls": {"PGA": [0.1, 0.2]},
        "kinds": {"stats": ["mean"], "realisations": []},
        "realisations": {"rlz": [], "source_path": [], "gsim_path": [], "weight": []},
        "investigation_time": 50.0,
        "logic_tree": {
            "sources": {"branch": words},
            "gsims": {"branch": ["g1"]},
            "realisations": {"branch_path": [f"{a}~{b}" for a, b in zip(words, reversed(words), strict=True)]},
        },
    }


def test_a_meta_over_400_kb_is_stored_and_read_back_whole(tables: Settings) -> None:
    meta = Meta(HazSolId("BIG"), LAYOUT, True, ("meta", "stats"), large_document())
    write_meta(meta, tables)
    assert bind(CalculationMeta, tables).get("BIG", LAYOUT.name).segments >= 2
    assert read_meta("BIG", tables) == meta

    assert write_v2_meta(meta, tables) == ["rlz_lt", "src_lt"]
    (v2,) = bind(V2Meta, tables).query("ToshiOpenquakeHazardMeta")
    assert v2.locs == set(meta.codes)
    assert v2.rlz_lt is None


def test_a_new_meta_leaves_no_segment_of_the_old_one(tables: Settings) -> None:
    for n_sites in (11_500, 11_400):
        write_meta(Meta(HazSolId("BIG"), LAYOUT, False, ("stats",), large_document(n_sites)), tables)
    head = bind(CalculationMeta, tables).get("BIG", LAYOUT.name)
    assert bind(CalculationMeta, tables).count("BIG") == 1 + head.segments
    assert len(read_meta("BIG", tables).codes) == 11_400
    assert delete_meta("BIG", LAYOUT, tables) == 1 + head.segments
    assert bind(CalculationMeta, tables).count("BIG") == 0


def test_the_complete_layout_answers_first(tables: Settings) -> None:
    for name, complete in (("packed+solution", False), ("list+solution", True)):
        write_meta(Meta(HazSolId("X"), LAYOUTS[name], complete, ("stats",), large_document(2, 1)), tables)
    assert read_meta("X", tables).layout is LAYOUT
    began = time.monotonic()
    mark_complete("X", LAYOUT, tables, complete=False)
    assert time.monotonic() - began > QUIET_SECS, "a reader that was quick would not look again"
    assert not read_meta("X", tables, LAYOUT).complete
    mark_complete("NOBODY", LAYOUT, tables, complete=False)
    assert bind(CalculationMeta, tables).count("NOBODY") == 0


def test_a_v2_meta_without_codes_is_right_only_where_they_do_not_fit(tables: Settings) -> None:
    meta = Meta(HazSolId("BIG"), LAYOUT, True, ("meta", "stats"), large_document(n_sites=30_000))
    assert write_v2_meta(meta, tables) == ["rlz_lt", "src_lt", "gsim_lt", "locs"]
    tally = Tally(5)
    compare_v2(meta, tables, tally)
    assert tally.meta_differences == 0

    few = Meta(HazSolId("BIG"), LAYOUT, True, ("meta", "stats"), large_document(n_sites=300))
    compare_v2(few, tables, tally)
    assert tally.meta_differences > 0


@pytest.mark.parametrize("lasting", [False, True])
def test_a_reader_between_two_metas_gets_the_new_one(
    tables: Settings, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """The first page of an answer has the old head; when the next one is asked for, its segments have gone."""
    old, new = (Meta(HazSolId("BIG"), LAYOUT, False, ("stats",), large_document(n_sites)) for n_sites in (11_500, 400))
    model = bind(CalculationMeta, tables)
    write_meta(old, tables)
    old_head = model.get("BIG", LAYOUT.name)
    assert old_head.segments >= 2
    write_meta(new, tables)
    query, torn = model.query, chain(repeat(True, 100 if lasting else 1), repeat(False))

    def answer(*args: Any, **kwargs: Any) -> Iterator[CalculationMeta]:
        return iter([old_head]) if next(torn) else query(*args, **kwargs)

    monkeypatch.setattr(model, "query", answer)
    if lasting:
        with pytest.raises(CorruptItemError, match="segment"):
            read_meta("BIG", tables)
    else:
        assert read_meta("BIG", tables) == new
