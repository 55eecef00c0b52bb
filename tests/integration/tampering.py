"""Damage to what is stored, as a lost write, a foreign program or a faulty disk might do it: to one or two items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hazard_store.layouts import Layout
from hazard_store.layouts.items import CurveBlock
from hazard_store.meta import Meta, read_meta, write_meta
from hazard_store.names import CurvePart
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from hazard_store.storage.reader import Reader
from hazard_store.storage.sender import Sender
from hazard_store.stored import Place, StoredCurves

HAZ_SOL_ID = "CALC-1"


@dataclass(frozen=True)
class Tampering:
    """A stored calculation whose items are reached past all of the library's own ways to write."""

    layout: Layout
    settings: Settings

    @property
    def client(self) -> Any:
        return connect(self.settings).client

    def stored(self, part: CurvePart) -> StoredCurves:
        return StoredCurves(HAZ_SOL_ID, self.layout, part, self.settings, Reader(self.settings))

    def key(self, part: CurvePart, code: str, kind: str) -> dict[str, Any]:
        meta = read_meta(HAZ_SOL_ID, self.settings, self.layout)
        site = meta.codes.index(code)
        stored = self.stored(part)
        key = stored.key(Place(code, float(meta.lat[site]), float(meta.lon[site])), kind)
        return {name: {"S": text} for name, text in zip(stored.key_names, key, strict=True)}

    def get(self, part: CurvePart, code: str, kind: str) -> dict[str, Any]:
        item: dict[str, Any] = self.client.get_item(
            TableName=self.stored(part).table, Key=self.key(part, code, kind), ConsistentRead=True
        )["Item"]
        return item

    def put(self, part: CurvePart, item: dict[str, Any]) -> None:
        self.client.put_item(TableName=self.stored(part).table, Item=item)

    def delete(self, part: CurvePart, code: str, kind: str) -> None:
        self.client.delete_item(TableName=self.stored(part).table, Key=self.key(part, code, kind))

    def poes(self, part: CurvePart, code: str, kind: str) -> np.ndarray[Any, Any]:
        """A stored curve, shape (n_imts, n_levels), float32."""
        imtls = read_meta(HAZ_SOL_ID, self.settings, self.layout).imtls
        (poes,) = self.layout.encoding.decode([self.get(part, code, kind)], imtls)
        assert isinstance(poes, np.ndarray)
        return poes

    def overwrite(self, part: CurvePart, code: str, kind: str, poes: np.ndarray[Any, Any]) -> None:
        """Store another curve in an item, encoded as it should be."""
        meta = read_meta(HAZ_SOL_ID, self.settings, self.layout)
        site = meta.codes.index(code)
        block = CurveBlock(
            part=part,
            haz_sol_id=HAZ_SOL_ID,
            codes=[code],
            lat=meta.lat[site : site + 1],
            lon=meta.lon[site : site + 1],
            kinds=[kind],
            imts=tuple(meta.imtls),
            levels=np.array(list(meta.imtls.values())),
            poes=np.ascontiguousarray(poes, np.float32)[None, None],
            created=0,
        )
        with Sender(self.stored(part).table, self.settings) as sender:
            for item in self.layout.encoding.encode(block, self.layout.partition):
                sender.put(item)


# Of tests/data/custom_ids.hdf5: a site, and two realisations whose weights and curves differ.
SITE, ONE, OTHER = "WLG", "00000", "00007"


def miss(store: Tampering) -> None:
    store.delete("realisations", SITE, OTHER)


def add(store: Tampering) -> None:
    key = store.key("realisations", SITE, OTHER)
    extra = store.stored("realisations").key_names[1]
    key[extra] = {"S": key[extra]["S"].replace(OTHER, "00012")}
    store.put("realisations", store.get("realisations", SITE, OTHER) | key)


def flip_bit(store: Tampering) -> None:
    """Change the last bit of one float32, in the item's own encoding."""
    poes = store.poes("realisations", SITE, OTHER).copy()
    poes.view(np.uint32)[1, 2] ^= 1
    store.overwrite("realisations", SITE, OTHER, poes)


def flip_stored_bit(store: Tampering) -> None:
    """Change one bit of what the table holds: of the compressed bytes, or of a decimal's digit."""
    item = store.get("realisations", SITE, OTHER)
    if store.layout.encoding.name == "packed":
        stored = bytearray(item["poes"]["B"])
        stored[len(stored) // 2] ^= 0x10
        item["poes"]["B"] = bytes(stored)
    else:
        number = item["values"]["L"][1]["M"]["vals"]["L"][2]
        digit = next(place for place, sign in enumerate(number["N"]) if sign in "123456789")
        # Digits are even and odd in turn, so the last bit makes another digit of each.
        number["N"] = number["N"][:digit] + chr(ord(number["N"][digit]) ^ 1) + number["N"][digit + 1 :]
    store.put("realisations", item)


def swap_imts(store: Tampering) -> None:
    """Exchange the curves of two IMTs in one item."""
    poes = store.poes("realisations", SITE, OTHER)[[1, 0, *range(2, 4)]]
    store.overwrite("realisations", SITE, OTHER, poes)


def swap_all_imts(store: Tampering) -> None:
    """Exchange the names of two IMTs in the meta: every `packed` item is now read under the wrong label."""
    meta = read_meta(HAZ_SOL_ID, store.settings, store.layout)
    names = list(meta.imtls)
    names[0], names[1] = names[1], names[0]
    levels = {name: meta.document["imtls"][old] for name, old in zip(names, meta.imtls, strict=True)}
    document = meta.document | {"imtls": levels}
    write_meta(Meta(meta.haz_sol_id, meta.layout, meta.complete, meta.parts, document), store.settings)


def swap_realisations(store: Tampering) -> None:
    one, other = store.poes("realisations", SITE, ONE), store.poes("realisations", SITE, OTHER)
    store.overwrite("realisations", SITE, ONE, other)
    store.overwrite("realisations", SITE, OTHER, one)


CORRUPTIONS: dict[str, Callable[[Tampering], None]] = {
    "missing item": miss,
    "extra item": add,
    "changed bit": flip_bit,
    "changed stored bit": flip_stored_bit,
    "swapped IMTs": swap_imts,
    "swapped IMTs of all": swap_all_imts,
    "swapped realisations": swap_realisations,
}
