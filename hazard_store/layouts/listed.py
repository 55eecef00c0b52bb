"""Encoding `list`: the V2 form, nested lists of numbers, readable by any program written for those tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from hazard_store.errors import CorruptItemError
from hazard_store.layouts.items import CurveBlock, EncodedItem
from hazard_store.layouts.partition import KIND_ATTRIBUTE, Partition, block_keys
from hazard_store.names import CurvePart

# The version that pynamodb's VersionAttribute gives an item written for the first time.
ITEM_VERSION = 1


def _numbers_to_json(numbers: bytes) -> bytes:
    """``b'1.0,2.0' -> b'{"N":"1.0"},{"N":"2.0"}'``."""
    return b'{"N":"%b"}' % numbers.replace(b",", b'"},{"N":"')


def _imt_heads(imts: Sequence[str], levels: npt.NDArray[np.float64]) -> list[bytes]:
    """Give what stands before the poes of each IMT: its name and levels are the same in every item."""
    return [
        b'{"M":{"imt":{"S":%b},"lvls":{"L":[%b]},"vals":{"L":['
        % (orjson.dumps(imt), _numbers_to_json(orjson.dumps(row.tolist())[1:-1]))
        for imt, row in zip(imts, levels, strict=True)
    ]


@dataclass(frozen=True)
class ListEncoding:
    """A list of ``{imt, lvls, vals}`` maps an item, every number the shortest decimal that gives its bits back."""

    name: str = "list"

    def key_names(self, partition: Partition, part: CurvePart) -> tuple[str, str]:
        """What the V2 tables call them, and tables by location likewise."""
        return partition.hash_attribute, partition.range_attribute(part)

    def encode(self, block: CurveBlock, partition: Partition) -> Iterator[EncodedItem]:
        """Encode a block's items, site by site."""
        heads = _imt_heads(block.imts, block.levels)
        kind_name = KIND_ATTRIBUTE[block.part].encode()
        # In the `solution` partition the id is the hash key already, and an attribute may not stand twice.
        solution = b'"haz_sol_id":{"S":%b},' % orjson.dumps(block.haz_sol_id)
        if partition.hash_attribute == "haz_sol_id":
            solution = b""
        tail = b',"created":{"N":"%d"},"version":{"N":"%d"}}}}' % (block.created, ITEM_VERSION)
        keys = block_keys(block, partition, self.key_names(partition, block.part))
        for code, lat, lon, curves in zip(block.codes, block.lat.tolist(), block.lon.tolist(), block.poes, strict=True):
            place = b',%b"loc":{"S":%b},"lat":{"N":"%b"},"lon":{"N":"%b"},"%b":{"S":' % (
                solution,
                orjson.dumps(code),
                orjson.dumps(lat),
                orjson.dumps(lon),
                kind_name,
            )
            for kind, curve in zip(block.kinds, curves, strict=True):
                hash_key, range_key, head = next(keys)
                # orjson writes float32 arrays with the shortest decimals of their 32 bits, as this encoding promises.
                rows = orjson.dumps(curve, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
                values = b",".join(
                    b"%b%b]}}}" % (imt_head, _numbers_to_json(row)) for imt_head, row in zip(heads, rows, strict=True)
                )
                body = b'%b%b%b},"values":{"L":[%b]}%b' % (head, place, orjson.dumps(kind), values, tail)
                yield EncodedItem(hash_key, range_key, body)

    def decode(
        self, items: Sequence[Mapping[str, Any]], imtls: Mapping[str, npt.NDArray[np.float64]]
    ) -> list[npt.NDArray[np.float32] | CorruptItemError]:
        """Give the poes of items in the order of `imtls`, or what is wrong with an item.

        Parameters
        ----------
        items : sequence of mapping
            Attributes in DynamoDB's typed form.
        """
        return [_item_to_poes(item, imtls) for item in items]


def _item_to_poes(
    item: Mapping[str, Any], imtls: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float32] | CorruptItemError:
    stored = {}
    try:
        for entry in item["values"]["L"]:
            row = entry["M"]
            levels = [float(n["N"]) for n in row["lvls"]["L"]]
            stored[row["imt"]["S"]] = (levels, [float(n["N"]) for n in row["vals"]["L"]])
    except (KeyError, TypeError) as exc:
        return CorruptItemError(f"an item whose `values` are not a list of imt, lvls, vals: {exc!r}")
    poes = np.empty((len(imtls), len(next(iter(imtls.values())))), np.float32)
    for row_number, (imt, expected) in enumerate(imtls.items()):
        if imt not in stored:
            return CorruptItemError(f"an item without {imt}: it has {', '.join(stored) or 'no IMTs'}")
        levels, values = stored[imt]
        if levels != expected.tolist() or len(values) != len(levels):
            return CorruptItemError(f"an item whose levels of {imt} are not those of the meta")
        poes[row_number] = values
    return poes
