"""Which items a part should have: every statistic or realisation at every site, under its own key."""

from __future__ import annotations

from collections.abc import Sequence

from hazard_store.oq import Calculation
from hazard_store.stored import Place, StoredCurves, StoredItem


def places_of(calculation: Calculation) -> tuple[Place, ...]:
    """Give a file's sites in its order."""
    sites = calculation.sites
    return tuple(
        Place(code, float(lat), float(lon)) for code, lat, lon in zip(sites.codes, sites.lat, sites.lon, strict=True)
    )


class Inventory:
    """The items of one part as a file, or a meta, has them.

    Parameters
    ----------
    stored : StoredCurves
        Where they are.
    places : sequence of Place
        Sites in the file's order.
    kinds : sequence of str
        Statistics or realisations in stored order; empty if the part should have no items.
    """

    def __init__(self, stored: StoredCurves, places: Sequence[Place], kinds: Sequence[str]) -> None:
        self.stored = stored
        self.places = places
        self.kinds = kinds
        self._site_of = {place.code: number for number, place in enumerate(places)}
        self._kind_of = {kind: number for number, kind in enumerate(kinds)}

    def find(self, item: StoredItem) -> tuple[int, int] | None:
        """Give the numbers of an item's site and kind; None if no item should have its key."""
        site, kind = self._site_of.get(item.code), self._kind_of.get(item.kind)
        if site is None or kind is None:
            return None
        # A code may stand in the bin of another place, and an ordinal be written in another way.
        expected = self.stored.key(self.places[site], item.kind)
        return (site, kind) if (item.hash_key, item.range_key) == expected else None
