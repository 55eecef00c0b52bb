"""Comparing a stored meta: with its file, with the ledger's digest of it, and the V2 meta with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from hazard_store import meta as meta_room
from hazard_store.errors import CorruptItemError, NotStoredError
from hazard_store.layouts import Layout
from hazard_store.meta import Meta
from hazard_store.meta_document import calculation_to_document, document_to_json
from hazard_store.names import CurvePart
from hazard_store.oq import Calculation
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import V2Meta, bind
from hazard_store.v2_meta import v2_large_attributes, v2_vs30
from hazard_store.verification.differences import Difference, Tally

# What the file says of itself at this moment, and not what was computed.
_NOT_COMPARED = ("warnings",)


def read_stored_meta(haz_sol_id: str, layout: Layout, settings: Settings, tally: Tally) -> Meta | None:
    """Read a meta; one that is lost or damaged is a difference, and None."""
    try:
        return meta_room.read_meta(haz_sol_id, settings, layout)
    except (NotStoredError, CorruptItemError) as exc:
        note_difference(tally, "all", "a meta", str(exc))
        return None


def compare_with_file(meta: Meta, calculation: Calculation, kinds: dict[CurvePart, list[str]], tally: Tally) -> None:
    """Compare a stored document with the one that the file would give."""
    document = calculation_to_document(calculation, kinds)
    expected = orjson.loads(b"".join(document_to_json(document)))
    for name in dict.fromkeys([*expected, *meta.document]):
        if name not in _NOT_COMPARED:
            for path, want, have in unequal(name, expected.get(name), meta.document.get(name)):
                note_difference(tally, path, want, have)


# Logic trees, as V2 readers have them.
_V2_TEXTS = ("src_lt", "gsim_lt", "rlz_lt")


def compare_v2(meta: Meta, settings: Settings, tally: Tally) -> None:
    """Compare what V2 readers find with the stored document, where there should be a V2 meta."""
    if meta.layout.is_v2 and meta.complete:
        for path, want, have in unequal("V2", _expected_v2(meta), _stored_v2(meta.haz_sol_id, settings)):
            note_difference(tally, path, want, have)


def note_difference(tally: Tally, path: str, expected: object, got: object) -> None:
    """Count a difference in the meta."""
    tally.meta_differences += 1
    tally.note(Difference("meta", kind=path, expected=_short(expected), got=_short(got)))


def _expected_v2(meta: Meta) -> dict[str, Any]:
    attributes, _ = v2_large_attributes(meta)
    return {
        "haz_sol_id": meta.haz_sol_id,
        "vs30": v2_vs30(meta),
        "imts": sorted(meta.imtls),
        "aggs": sorted(meta.kinds("stats")),
        "inv_time": meta.document["investigation_time"],
        # Left out where the item would exceed 400 KB.
        **({"locs": sorted(attributes["locs"])} if "locs" in attributes else {}),
        **{name: attributes.get(name) for name in _V2_TEXTS},
    }


def _stored_v2(haz_sol_id: str, settings: Settings) -> dict[str, Any]:
    model = bind(V2Meta, settings)
    with translated(settings, model.Meta.table_name):
        items = list(model.query(model().partition_key, model.hazsol_vs30_rk.startswith(f"{haz_sol_id}:")))
    if len(items) != 1:
        return {"items": len(items)}
    [item] = items
    return {
        "haz_sol_id": item.haz_sol_id,
        "vs30": item.vs30,
        "imts": sorted(item.imts),
        "aggs": sorted(item.aggs or ()),
        "inv_time": item.inv_time,
        **({"locs": sorted(item.locs)} if item.locs else {}),
        **{name: getattr(item, name) for name in _V2_TEXTS},
    }


def unequal(path: str, expected: Any, got: Any) -> Iterator[tuple[str, object, object]]:
    """Find where two JSON values differ; lists of equal length and objects of equal keys are entered."""
    if isinstance(expected, dict) and isinstance(got, dict) and list(expected) == list(got):
        for name in expected:
            yield from unequal(f"{path}.{name}", expected[name], got[name])
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for number, (want, have) in enumerate(zip(expected, got, strict=True)):
            yield from unequal(f"{path}[{number}]", want, have)
    elif isinstance(expected, dict) and isinstance(got, dict):
        # Other names, or the same in another order, which is the order of the IMTs.
        yield path, list(expected), list(got)
    elif expected != got:
        yield path, expected, got


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
