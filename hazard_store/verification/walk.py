"""Going through a part's stored items, as a reader would see them, and finding those that are lost or too many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError, TableMissingError
from hazard_store.inventory import Inventory
from hazard_store.layouts.partition import KIND_ATTRIBUTE
from hazard_store.storage.reader import MAX_GET_KEYS
from hazard_store.stored import StoredItem
from hazard_store.verification.differences import Difference, Tally

# Items decoded at once.
DECODE_ITEMS = 512


class Found(NamedTuple):
    """A stored item that should be there: the numbers of its site and kind, and its poes, shape (n_imts, n_levels)."""

    site: int
    kind: int
    item: StoredItem
    poes: npt.NDArray[np.float32] | CorruptItemError


class Walk:
    """Reads and decodes items; what is missing, too many or labelled wrongly goes into the tally.

    Parameters
    ----------
    imtls : mapping
        With what items are decoded: the IMTs and levels of the stored meta, in its order.
    decode_items : int
        How many items are decoded at once; many take little more time than one.
    """

    def __init__(
        self,
        inventory: Inventory,
        imtls: Mapping[str, npt.NDArray[np.float64]],
        tally: Tally,
        decode_items: int = DECODE_ITEMS,
    ) -> None:
        self._inventory = inventory
        self._stored = inventory.stored
        self._imtls = imtls
        self._tally = tally
        self._decode_items = decode_items

    def everything(self) -> Iterator[Found]:
        """Go through all that is there, in the order in which the store gives it."""
        places, kinds = self._inventory.places, self._inventory.kinds
        left = np.ones((len(places), len(kinds)), np.bool_)
        try:
            for found in self._found(self._stored.everything(places)):
                left[found.site, found.kind] = False
                yield found
        except TableMissingError:
            # Nothing was asked to be stored there, so the table need not exist.
            if kinds:
                raise
        self._note_missing(_pairs(left))

    def chosen(self, wanted: npt.NDArray[np.bool_]) -> Iterator[Found]:
        """Go through some items, site by site.

        Parameters
        ----------
        wanted : ndarray, shape (n_sites, n_kinds), bool
        """
        left = wanted.copy()
        for found in self._found(self._of_keys(_pairs(wanted))):
            left[found.site, found.kind] = False
            yield found
        self._note_missing(_pairs(left))

    def of_site(self, site: int) -> Iterator[Found]:
        """Go through the items of one site."""
        left = set(range(len(self._inventory.kinds)))
        for found in self._found(self._stored.of_site(self._inventory.places[site])):
            left.discard(found.kind)
            yield found
        self._note_missing([(site, kind) for kind in sorted(left)])

    def _of_keys(self, wanted: Sequence[tuple[int, int]]) -> Iterator[StoredItem]:
        places, kinds = self._inventory.places, self._inventory.kinds
        keys = (self._stored.key(places[site], kinds[kind]) for site, kind in wanted)
        for batch in iter(lambda: list(islice(keys, MAX_GET_KEYS)), []):
            order = {key: number for number, key in enumerate(batch)}
            yield from sorted(self._stored.of_keys(batch), key=lambda item: order[item.hash_key, item.range_key])

    def _found(self, items: Iterable[StoredItem]) -> Iterator[Found]:
        """Decode the items that should be there."""
        known = self._known(items)
        for batch in iter(lambda: list(islice(known, self._decode_items)), []):
            attributes = [item.attributes for _, item in batch]
            decoded = self._stored.layout.encoding.decode(attributes, self._imtls)
            for ((site, kind), item), poes in zip(batch, decoded, strict=True):
                yield Found(site, kind, item, poes)

    def _known(self, items: Iterable[StoredItem]) -> Iterator[tuple[tuple[int, int], StoredItem]]:
        for item in items:
            place = self._inventory.find(item)
            if place is None:
                self._tally.extra += 1
                self._tally.note(
                    Difference("extra item", item.code, item.kind, got=f"{item.hash_key} {item.range_key}")
                )
                continue
            self._tally.checked_items += 1
            self._compare_attributes(place[0], item)
            yield place, item

    def _compare_attributes(self, site: int, item: StoredItem) -> None:
        """Compare what a `list` item says of itself beside its key and values."""
        if self._stored.layout.encoding.name != "list":
            return
        place = self._inventory.places[site]
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

    def _note_missing(self, left: Iterable[tuple[int, int]]) -> None:
        for site, kind in left:
            self._tally.missing += 1
            code, name = self._inventory.places[site].code, self._inventory.kinds[kind]
            self._tally.note(Difference("missing item", code, name))


def _pairs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(site, kind) for site, kind in np.argwhere(mask).tolist()]


def note_undecodable(found: Found, tally: Tally, n_values: int = 1) -> None:
    """Count an item that does not decode, as so many differences."""
    tally.different += n_values
    tally.note(Difference("undecodable item", found.item.code, found.item.kind, got=str(found.poes)))
