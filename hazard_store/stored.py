"""Where a calculation's curves are in the store: its keys, and the ways to reach the items under them.

Reading, verifying and deleting all go through here, so that they agree on what belongs to a calculation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hazard_store.layouts import Layout
from hazard_store.names import CurvePart
from hazard_store.settings import Settings
from hazard_store.storage.models import table_name
from hazard_store.storage.reader import Item, Key, Reader

# The character that sorts right after `:`, which ends the site code in a range key: `{code};` lies between the keys of
# this site and those of the next, because no code holds a `:`.
_AFTER_COLON = ";"


class Place(NamedTuple):
    """A site as its keys need it."""

    code: str
    lat: float
    lon: float


class StoredItem(NamedTuple):
    """An item with what its keys say: a site, and a statistic or realisation (`kind`)."""

    hash_key: str
    range_key: str
    code: str
    kind: str
    attributes: Item


@dataclass(frozen=True)
class StoredCurves:
    """The items of one part of one calculation in one layout.

    `more_bins` are hash keys under which items of an earlier content may stand, besides those of the sites that are
    known; they matter only where the hash key is a bin.
    """

    haz_sol_id: str
    layout: Layout
    part: CurvePart
    settings: Settings
    reader: Reader
    more_bins: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The table that holds them."""
        return table_name(self.layout.table_base(self.part), self.settings)

    @property
    def key_names(self) -> Key:
        """Names of the table's hash and range key."""
        return self.layout.key_names(self.part)

    def key(self, place: Place, kind: str) -> Key:
        """Hash and range key of one curve."""
        partition = self.layout.partition
        return (
            partition.hash_key(self.haz_sol_id, place.lat, place.lon),
            partition.range_prefix(self.haz_sol_id, place.code) + kind,
        )

    def of_site(self, place: Place) -> list[StoredItem]:
        """Read all items of a site: one query."""
        hash_key, prefix = self.key(place, "")
        return [self._parse(item) for item in self.reader.query(self.table, self.key_names, hash_key, prefix=prefix)]

    def of_keys(self, keys: Sequence[Key]) -> list[StoredItem]:
        """Read at most 100 items by their keys: one request."""
        return [self._parse(item) for item in self.reader.get(self.table, self.key_names, keys)]

    def everything(self, places: Iterable[Place], *, keys_only: bool = False) -> Iterator[StoredItem]:
        """Read every item that is there, whether or not a meta or a file knows of it, hash key by hash key.

        Where the hash key is the calculation, that is all under it. Where it is a bin, that is all of this calculation
        in the bins of `places` and in `more_bins`, found by skipping from site to site.

        Parameters
        ----------
        places : iterable of Place
            The calculation's sites as far as they are known.
        keys_only : bool
            Leave out the attributes that are not keys.
        """
        attributes = self.key_names if keys_only else ()
        hash_keys = dict.fromkeys((*(self.key(place, "")[0] for place in places), *self.more_bins))
        if not self.is_by_bin:
            hash_keys = {self.haz_sol_id: None}
        for hash_key in hash_keys:
            prefixes: Iterable[str | None] = self._prefixes_in_bin(hash_key) if self.is_by_bin else (None,)
            for prefix in prefixes:
                for item in self.reader.query(
                    self.table, self.key_names, hash_key, prefix=prefix, attributes=attributes
                ):
                    yield self._parse(item)

    @property
    def is_by_bin(self) -> bool:
        """Whether other calculations' items stand under the same hash keys."""
        return self.layout.is_by_bin

    def _prefixes_in_bin(self, hash_key: str) -> Iterator[str]:
        """Give this calculation's key prefix at every site of a bin that has items of any calculation."""
        # Codes start with a printable character, which sorts after a space.
        cursor = " "
        while True:
            first = list(
                self.reader.query(
                    self.table, self.key_names, hash_key, after=cursor, limit=1, attributes=self.key_names
                )
            )
            if not first:
                return
            code = first[0][self.key_names[1]]["S"].partition(":")[0]
            yield self.layout.partition.range_prefix(self.haz_sol_id, code)
            cursor = code + _AFTER_COLON

    def _parse(self, item: Item) -> StoredItem:
        hash_key, range_key = (item[name]["S"] for name in self.key_names)
        return StoredItem(hash_key, range_key, range_key.partition(":")[0], range_key.rpartition(":")[2], item)
