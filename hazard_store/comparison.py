"""Comparing a part's stored items with the file: keys, labels, attributes, and every poe to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError, TableMissingError
from hazard_store.layouts.partition import KIND_ATTRIBUTE
from hazard_store.meta import Meta
from hazard_store.oq import Calculation
from hazard_store.planning import BLOCK_BYTES
from hazard_store.stored import Place, StoredCurves, StoredItem

# Items decoded at once.
_DECODE_ITEMS = 512

_Decoded = tuple[StoredItem, npt.NDArray[np.float32] | CorruptItemError]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the file has it.

    Attributes
    ----------
    what : str
        ``value``, ``missing item``, ``extra item``, ``wrong attribute``, ``undecodable item`` or ``meta``.
    site, kind, imt : str or None
        Where, as far as it applies. For a meta, `kind` is the path in the document, such as ``sites.lat[3]``.
    level : float or None
        Intensity level in the IMT's unit.
    expected, got : float, str or None
        In the file, and in the store.
    """

    what: str
    site: str | None = None
    kind: str | None = None
    imt: str | None = None
    level: float | None = None
    expected: float | str | None = None
    got: float | str | None = None

    def __str__(self) -> str:
        place = " ".join(str(word) for word in (self.site, self.kind, self.imt) if word is not None)
        level = "" if self.level is None else f" at {self.level:g}"
        values = "" if self.expected is self.got is None else f": expected {self.expected}, got {self.got}"
        return f"{self.what} {place}{level}{values}"


@dataclass
class Tally:
    """Counts what is found, and keeps the first differences."""

    max_differences: int
    checked_items: int = 0
    checked_values: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    meta_differences: int = 0
    differences: list[Difference] = field(default_factory=list)

    def note(self, difference: Difference) -> None:
        """Keep a difference if there is room for it; the counters are the caller's."""
        if len(self.differences) < self.max_differences:
            self.differences.append(difference)


class CurveComparison:
    """Compares the items of one part with the file, in the order in which the store gives them.

    Parameters
    ----------
    kinds : list of str
        What the file has of this part and should be stored; empty if every item is one too many.
    """

    def __init__(
        self, calculation: Calculation, meta: Meta | None, stored: StoredCurves, kinds: list[str], tally: Tally
    ) -> None:
        self._calculation = calculation
        self._stored = stored
        self._kinds = kinds
        self._tally = tally
        sites = calculation.sites
        self._places = [
            Place(code, float(lat), float(lon))
            for code, lat, lon in zip(sites.codes, sites.lat, sites.lon, strict=True)
        ]
        self._site_of = {place.code: number for number, place in enumerate(self._places)}
        self._kind_of = {kind: number for number, kind in enumerate(kinds)}
        self._imtls = dict(calculation.imtls)
        # Readers decode with the meta's IMTs; without a meta the file's are the best guess.
        self._stored_imtls = self._imtls if meta is None else meta.imtls
        self._row_of = {imt: number for number, imt in enumerate(self._stored_imtls)}
        self._seen = np.zeros((len(self._places), len(kinds)), np.bool_)

    def run(self) -> Iterator[None]:
        """Compare everything; pauses after every few items, for the caller to tell how far it is."""
        curve_bytes = 4 * sum(map(len, self._imtls.values()))
        most = max(1, BLOCK_BYTES // curve_bytes)
        try:
            decoded = self._decoded(min(most, _DECODE_ITEMS))
            for site, items in groupby(decoded, key=lambda pair: self._site_of[pair[0].code]):
                batch: list[_Decoded] = []
                for item in items:
                    batch.append(item)
                    if len(batch) == most:
                        self._compare(site, batch)
                        batch = []
                        yield
                self._compare(site, batch)
                yield
        except TableMissingError:
            # Nothing was asked to be stored there, so the table need not exist.
            if self._kinds:
                raise
        self._note_missing()

    def _decoded(self, n_items: int) -> Iterator[_Decoded]:
        """Give the known items with their poes; many items decode in little more time than one."""
        known = self._known()
        for items in iter(lambda: list(islice(known, n_items)), []):
            attributes = [item.attributes for item in items]
            yield from zip(items, self._stored.layout.encoding.decode(attributes, self._stored_imtls), strict=True)

    def _known(self) -> Iterator[StoredItem]:
        """Give the items whose key the file has; the others are noted as too many."""
        for item in self._stored.everything(self._places):
            site, kind = self._site_of.get(item.code), self._kind_of.get(item.kind)
            if (
                site is None
                or kind is None
                or self._stored.key(self._places[site], item.kind) != (item.hash_key, item.range_key)
            ):
                self._tally.extra += 1
                self._tally.note(
                    Difference("extra item", item.code, item.kind, got=f"{item.hash_key} {item.range_key}")
                )
            else:
                self._seen[site, kind] = True
                yield item

    def _compare(self, site: int, items: list[_Decoded]) -> None:
        if not items:
            return
        kinds = [self._kind_of[item.kind] for item, _ in items]
        first, last = min(kinds), max(kinds) + 1
        block = self._calculation.read(self._stored.part, site, site + 1, first, last)[0]
        for kind, (item, got) in zip(kinds, items, strict=True):
            self._compare_item(self._places[site], item, block[kind - first], got)

    def _compare_item(
        self,
        place: Place,
        item: StoredItem,
        expected: npt.NDArray[np.float32],
        got: npt.NDArray[np.float32] | CorruptItemError,
    ) -> None:
        """Compare one curve, `expected` being of shape (n_imts, n_levels)."""
        tally = self._tally
        tally.checked_items += 1
        tally.checked_values += expected.size
        self._compare_attributes(place, item)
        if isinstance(got, CorruptItemError):
            tally.different += expected.size
            tally.note(Difference("undecodable item", item.code, item.kind, got=str(got)))
            return
        for (imt, levels), want in zip(self._imtls.items(), expected, strict=True):
            row = self._row_of.get(imt)
            if row is None or len(got[row]) != len(want):
                tally.different += want.size
                tally.note(Difference("value", item.code, item.kind, imt, expected=f"{want.size} poes", got=None))
                continue
            for level in np.flatnonzero(got[row].view(np.uint32) != want.view(np.uint32)):
                tally.different += 1
                tally.note(
                    Difference(
                        "value",
                        item.code,
                        item.kind,
                        imt,
                        float(levels[level]),
                        float(want[level]),
                        float(got[row][level]),
                    )
                )

    def _compare_attributes(self, place: Place, item: StoredItem) -> None:
        """Compare what a `list` item says of itself beside its key and values."""
        if self._stored.layout.encoding.name != "list":
            return
        texts: dict[str, float | str] = {
            "loc": place.code,
            "haz_sol_id": self._stored.haz_sol_id,
            KIND_ATTRIBUTE[self._stored.part]: item.kind,
        }
        numbers = {"lat": place.lat, "lon": place.lon}
        for name, want in {**texts, **numbers}.items():
            typed = item.attributes.get(name, {})
            got = float(typed.get("N", "nan")) if name in numbers else typed.get("S")
            if got != want:
                self._tally.different += 1
                self._tally.note(Difference(f"wrong {name}", item.code, item.kind, expected=want, got=got))

    def _note_missing(self) -> None:
        for site, kind in np.argwhere(~self._seen):
            self._tally.missing += 1
            self._tally.note(Difference("missing item", self._places[site].code, self._kinds[kind]))
