"""Comparing a part's stored items with the file: keys, labels, attributes, and every poe to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError
from hazard_store.inventory import Inventory, places_of
from hazard_store.meta import Meta
from hazard_store.oq import Calculation
from hazard_store.planning import BLOCK_BYTES
from hazard_store.stored import StoredCurves
from hazard_store.verification.differences import Difference, Tally
from hazard_store.verification.walk import DECODE_ITEMS, Found, Walk, note_undecodable


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
        self._part = stored.part
        self._tally = tally
        self._imtls = dict(calculation.imtls)
        # Readers decode with the meta's IMTs; without a meta the file's are the best guess.
        stored_imtls = self._imtls if meta is None else meta.imtls
        self._row_of = {imt: number for number, imt in enumerate(stored_imtls)}
        curve_bytes = 4 * sum(map(len, self._imtls.values()))
        self._block_items = max(1, BLOCK_BYTES // curve_bytes)
        inventory = Inventory(stored, places_of(calculation), kinds)
        self._walk = Walk(inventory, stored_imtls, tally, min(self._block_items, DECODE_ITEMS))

    def run(self) -> Iterator[None]:
        """Compare everything; pauses after every few items, for the caller to tell how far it is."""
        return self._compare_all(self._walk.everything(), self._block_items)

    def run_chosen(self, wanted: npt.NDArray[np.bool_]) -> Iterator[None]:
        """Compare some items, each read from the file by itself.

        Parameters
        ----------
        wanted : ndarray, shape (n_sites, n_kinds), bool
        """
        return self._compare_all(self._walk.chosen(wanted), 1)

    def _compare_all(self, items: Iterable[Found], block_items: int) -> Iterator[None]:
        for site, of_site in groupby(items, key=lambda found: found.site):
            batch: list[Found] = []
            for found in of_site:
                batch.append(found)
                if len(batch) == block_items:
                    self._compare(site, batch)
                    batch = []
                    yield
            self._compare(site, batch)
            yield

    def _compare(self, site: int, items: list[Found]) -> None:
        if not items:
            return
        kinds = [found.kind for found in items]
        first, last = min(kinds), max(kinds) + 1
        block = self._calculation.read(self._part, site, site + 1, first, last)[0]
        for found in items:
            self._compare_item(found, block[found.kind - first])

    def _compare_item(self, found: Found, expected: npt.NDArray[np.float32]) -> None:
        """Compare one curve, `expected` being of shape (n_imts, n_levels)."""
        tally, item, got = self._tally, found.item, found.poes
        tally.checked_values += expected.size
        if isinstance(got, CorruptItemError):
            note_undecodable(found, tally, expected.size)
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
