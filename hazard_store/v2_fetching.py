"""Curves that older programs stored in the V2 tables: no meta of ours, so the items themselves say what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hazard_store.errors import CorruptItemError, TableMissingError, UsageError
from hazard_store.layouts import layout_from_names
from hazard_store.layouts.partition import KIND_ATTRIBUTE
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.rows import CurveRow
from hazard_store.selection import (
    SitesLike,
    as_texts,
    check_sites,
    code_to_place,
    find_all,
    nearest_site,
    rlzs_to_texts,
)
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import V2Meta, bind
from hazard_store.storage.reader import Item, Reader
from hazard_store.stored import Place, StoredCurves, StoredItem


@dataclass(frozen=True)
class V2Calculation:
    """What a V2 meta item says; names that it lacks are None and are not checked."""

    haz_sol_id: str
    vs30: float
    imts: list[str] | None
    aggs: list[str] | None
    codes: list[str] | None


def find_calculation(haz_sol_id: str, settings: Settings) -> V2Calculation | None:
    """Find a calculation by its V2 meta; None if there is none, or no such table."""
    model = bind(V2Meta, settings)
    try:
        with translated(settings, model.Meta.table_name):
            prefix = model.hazsol_vs30_rk.startswith(f"{haz_sol_id}:")
            item = next(iter(model.query(model().partition_key, prefix, consistent_read=True)), None)
    except TableMissingError:
        return None
    if item is None:
        return None
    return V2Calculation(
        haz_sol_id=haz_sol_id,
        # 0 stands for sites that differ.
        vs30=float(item.vs30) if item.vs30 else float("nan"),
        imts=sorted(item.imts) or None,
        aggs=sorted(item.aggs or ()) or None,
        codes=sorted(item.locs or ()) or None,
    )


def fetch_rows(
    calculation: V2Calculation,
    reader: Reader,
    settings: Settings,
    *,
    sites: SitesLike | None,
    near: tuple[float, float] | None,
    imts: str | Iterable[str] | None,
    aggs: str | Iterable[str] | None,
    rlzs: int | Iterable[int] | None,
) -> Iterator[CurveRow]:
    """Check a question against a V2 meta and answer it from the items, in the order of their keys.

    Raises
    ------
    UsageError
        If a name is none of the meta's.
    CorruptItemError
        If an item is not of the V2 form.
    """
    codes = _codes(calculation, sites, near)
    wanted_imts = _checked("IMT", imts, calculation.imts, calculation.haz_sol_id)
    kinds: dict[CurvePart, list[str] | None] = {}
    if aggs is not None or rlzs is None:
        kinds["stats"] = _checked("statistic", aggs, calculation.aggs, calculation.haz_sol_id)
    if rlzs is not None or aggs is None:
        kinds["realisations"] = None if rlzs is None else rlzs_to_texts(rlzs)
    return _rows(calculation, reader, settings, codes, kinds, wanted_imts)


def _rows(
    calculation: V2Calculation,
    reader: Reader,
    settings: Settings,
    codes: list[str] | None,
    kinds: dict[CurvePart, list[str] | None],
    imts: list[str] | None,
) -> Iterator[CurveRow]:
    layout = layout_from_names("list", "solution")
    parts = {part: StoredCurves(calculation.haz_sol_id, layout, part, settings, reader) for part in CURVE_PARTS}
    for code in [None] if codes is None else codes:
        for part, wanted in kinds.items():
            for item in _items(parts[part], code, wanted):
                yield from _item_to_rows(calculation, part, item, imts)


def _items(stored: StoredCurves, code: str | None, kinds: list[str] | None) -> Iterable[StoredItem]:
    if code is None:
        return (item for item in stored.everything(()) if kinds is None or item.kind in kinds)
    # The hash key of these tables is the id: the place does not enter into it.
    place = Place(code, 0.0, 0.0)
    if kinds is None:
        return stored.of_site(place)
    found = {item.kind: item for item in stored.of_keys([stored.key(place, kind) for kind in kinds])}
    return (found[kind] for kind in kinds if kind in found)


def _item_to_rows(
    calculation: V2Calculation, part: CurvePart, item: StoredItem, imts: list[str] | None
) -> Iterator[CurveRow]:
    try:
        kind = item.attributes[KIND_ATTRIBUTE[part]]["S"]
        place: dict[str, Any] = {
            "site": item.attributes["loc"]["S"],
            "lat": float(item.attributes["lat"]["N"]),
            "lon": float(item.attributes["lon"]["N"]),
            "agg": kind if part == "stats" else None,
            "rlz": int(kind) if part == "realisations" else None,
        }
        for entry in item.attributes["values"]["L"]:
            curve: Item = entry["M"]
            imt = curve["imt"]["S"]
            if imts is None or imt in imts:
                yield CurveRow(
                    haz_sol_id=calculation.haz_sol_id,
                    vs30=calculation.vs30,
                    imt=imt,
                    levels=np.array([float(number["N"]) for number in curve["lvls"]["L"]], np.float64),
                    poes=np.array([float(number["N"]) for number in curve["vals"]["L"]], np.float32),
                    **place,
                )
    except (KeyError, TypeError, ValueError) as exc:
        raise CorruptItemError(
            f"the V2 item {item.hash_key!r} {item.range_key!r} is not of the V2 form: {exc!r}"
        ) from exc


def _codes(calculation: V2Calculation, sites: SitesLike | None, near: tuple[float, float] | None) -> list[str] | None:
    places, codes = check_sites(sites, near)
    if places is None:
        return _checked("site", codes, calculation.codes, calculation.haz_sol_id)
    known = [(code, place) for code in calculation.codes or () if (place := code_to_place(code)) is not None]
    if not known:
        raise UsageError(f"the V2 meta of {calculation.haz_sol_id} does not say where its sites are: name them by code")
    lats, lons = np.array([place for _, place in known]).T
    return sorted({known[nearest_site(lats, lons, *place)][0] for place in places})


def _checked(
    what: str, wanted: str | Iterable[str] | None, known: list[str] | None, haz_sol_id: str
) -> list[str] | None:
    """Give the names that are wanted, checked if it is known which there are; None for all."""
    if wanted is None:
        return None
    names = as_texts(wanted)
    return names if known is None else [known[position] for position in find_all(what, names, known, haz_sol_id)]
