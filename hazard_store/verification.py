"""Comparing what is stored with the file it came from: every key, every value to the bit, and the meta.

The items are read as a reader would see them, with the IMTs and levels of the stored meta, and compared by label with
the file; so a curve under another IMT's label is found as well as a changed bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hazard_store import meta as meta_room
from hazard_store.chunks import kinds_of
from hazard_store.comparison import CurveComparison, Difference, Tally
from hazard_store.errors import CorruptItemError, NotStoredError
from hazard_store.jobs import SiteCodes
from hazard_store.layouts import Layout
from hazard_store.ledger import Ledger, layout_of
from hazard_store.meta import Meta
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.oq import Calculation, open_calculation
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import V2Meta, bind
from hazard_store.storage.reader import Reader
from hazard_store.stored import StoredCurves

__all__ = ["Difference", "VerifyReport", "verify"]

OnProgress = Callable[[int, int], None]
"""Takes the items compared so far, and all that the file has."""

# What the file says of itself at this moment, and not what was computed.
_NOT_COMPARED = ("warnings",)


@dataclass(frozen=True)
class VerifyReport:
    """How a store compares with its file.

    Attributes
    ----------
    complete : bool
        What the meta says.
    checked_items, checked_values : int
        Items that were compared, and poes in them.
    missing, extra : int
        Items that the file has and the store has not, and the other way round.
    different : int
        Values that are not the file's: poes, and attributes of items.
    meta_differences : int
    differences : tuple of Difference
        The first of them.
    """

    haz_sol_id: str
    layout: str
    complete: bool
    checked_items: int
    checked_values: int
    missing: int
    extra: int
    different: int
    meta_differences: int
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that is stored is as the file has it, and nothing is missing."""
        return not (self.missing or self.extra or self.different or self.meta_differences)

    @property
    def summary(self) -> str:
        """One line: what was compared, and what came of it."""
        head = (
            f"{self.haz_sol_id} in {self.layout}: {self.checked_values:,} values in {self.checked_items:,} items "
            "compared with the file"
        )
        if self.ok:
            return f"{head}, all the same" + ("" if self.complete else "; the meta says that it is not complete")
        counts = {
            "values differ": self.different,
            "items missing": self.missing,
            "items too many": self.extra,
            "differences in the meta": self.meta_differences,
        }
        return f"{head}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def verify(
    source: str,
    haz_sol_id: str,
    *,
    layout: Layout | None = None,
    settings: Settings | None = None,
    parent: str | None = None,
    on_progress: OnProgress | None = None,
    max_differences: int = 20,
) -> VerifyReport:
    """Compare every stored value with the file.

    Parameters
    ----------
    source : str
        The calculation's file.
    layout : Layout, optional
        By default the one that was stored last.
    parent : str, optional
        The file with its logic tree; by default the one that it was stored with.
    on_progress : callable, optional
    max_differences : int
        How many differences the report spells out; all are counted.

    Raises
    ------
    NotStoredError
        If nothing is stored under the id.
    SourceError
        If the file cannot be read, or changes while it is.
    """
    settings = settings or Settings.from_environment()
    stored_as = _stored_as(haz_sol_id, layout, settings)
    tally = Tally(max_differences)
    with open_calculation(
        source, parent=parent or stored_as.parent, sites=stored_as.sites, trust_imt_order=stored_as.trust_imt_order
    ) as calculation:
        kinds = {part: kinds_of(calculation, part) for part in CURVE_PARTS if calculation.curves[part] is not None}
        meta = _compare_meta(calculation, kinds, haz_sol_id, stored_as.layout, settings, tally)
        wanted = {part: kinds.get(part, []) if part in stored_as.parts else [] for part in CURVE_PARTS}
        total = len(calculation.sites.codes) * sum(map(len, wanted.values()))
        for part, names in wanted.items():
            stored = StoredCurves(haz_sol_id, stored_as.layout, part, settings, Reader(settings))
            comparison = CurveComparison(calculation, meta, stored, names, tally)
            for _ in comparison.run():
                if on_progress is not None:
                    on_progress(tally.checked_items, total)
        calculation.check_unchanged()
    return VerifyReport(
        haz_sol_id=haz_sol_id,
        layout=stored_as.layout.name,
        complete=meta is not None and meta.complete,
        checked_items=tally.checked_items,
        checked_values=tally.checked_values,
        missing=tally.missing,
        extra=tally.extra,
        different=tally.different,
        meta_differences=tally.meta_differences,
        differences=tuple(tally.differences),
    )


@dataclass(frozen=True)
class _StoredAs:
    """How a calculation was stored, which decides how its file must be opened."""

    layout: Layout
    parts: Sequence[str]
    sites: SiteCodes = "auto"
    parent: str | None = None
    trust_imt_order: bool = False


def _stored_as(haz_sol_id: str, layout: Layout | None, settings: Settings) -> _StoredAs:
    try:
        record = Ledger(settings).require_calculation(haz_sol_id, layout)
    except NotStoredError:
        # The ledger lost it; the meta may still have it.
        meta = meta_room.read_meta(haz_sol_id, settings, layout)
        return _StoredAs(meta.layout, meta.parts)
    sites: SiteCodes = "normalised" if record.sites == "normalised" else "auto"
    return _StoredAs(layout_of(record), record.parts, sites, record.parent, record.trust_imt_order)


def _compare_meta(
    calculation: Calculation,
    kinds: dict[CurvePart, list[str]],
    haz_sol_id: str,
    layout: Layout,
    settings: Settings,
    tally: Tally,
) -> Meta | None:
    """Compare the stored meta with what the file would give; gives the stored one."""

    def differ(path: str, expected: object, got: object) -> None:
        tally.meta_differences += 1
        tally.note(Difference("meta", kind=path, expected=_short(expected), got=_short(got)))

    try:
        stored = meta_room.read_meta(haz_sol_id, settings, layout)
    except (NotStoredError, CorruptItemError) as exc:
        differ("all", "a meta", str(exc))
        return None
    expected = orjson.loads(orjson.dumps(meta_room.calculation_to_document(calculation, kinds)))
    for name in dict.fromkeys([*expected, *stored.document]):
        if name not in _NOT_COMPARED:
            for path, want, have in _unequal(name, expected.get(name), stored.document.get(name)):
                differ(path, want, have)
    if layout.is_v2 and stored.complete:
        for path, want, have in _unequal("V2", _expected_v2(stored), _stored_v2(haz_sol_id, settings)):
            differ(path, want, have)
    return stored


def _expected_v2(meta: Meta) -> dict[str, Any]:
    return {
        "haz_sol_id": meta.haz_sol_id,
        "vs30": meta_room.v2_vs30(meta),
        "imts": sorted(meta.imtls),
        "aggs": sorted(meta.kinds("stats")),
        "inv_time": meta.document["investigation_time"],
        "locs": sorted(meta.codes),
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
        # Left out where the item would have exceeded 400 KB.
        **({"locs": sorted(item.locs)} if item.locs else {}),
    }


def _unequal(path: str, expected: Any, got: Any) -> Iterator[tuple[str, object, object]]:
    """Find where two JSON values differ; lists of equal length and objects of equal keys are entered."""
    if isinstance(expected, dict) and isinstance(got, dict) and list(expected) == list(got):
        for name in expected:
            yield from _unequal(f"{path}.{name}", expected[name], got[name])
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for number, (want, have) in enumerate(zip(expected, got, strict=True)):
            yield from _unequal(f"{path}[{number}]", want, have)
    elif isinstance(expected, dict) and isinstance(got, dict):
        # Other names, or the same in another order, which is the order of the IMTs.
        yield path, list(expected), list(got)
    elif expected != got:
        yield path, expected, got


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
