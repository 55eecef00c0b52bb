"""The two partition keys: what a curve's hash and range key are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import orjson

from hazard_store.layouts.items import CurveBlock
from hazard_store.names import CurvePart, location_bin

# Names that the range key's last field has in attribute names, as the V2 tables have them.
KIND_ATTRIBUTE: dict[CurvePart, str] = {"stats": "agg", "realisations": "rlz"}


class Partition(Protocol):
    """Where a curve lives: its hash key, and how its range key starts."""

    @property
    def name(self) -> str:
        """The word on the command line."""

    @property
    def hash_attribute(self) -> str:
        """Name of the hash key in tables of `list` items."""

    def range_attribute(self, part: CurvePart) -> str:
        """Name of the range key in tables of `list` items."""

    def hash_key(self, haz_sol_id: str, lat: float, lon: float) -> str:
        """Hash key of every curve of a site."""

    def range_prefix(self, haz_sol_id: str, code: str) -> str:
        """What the range keys of all curves of a site start with; the statistic or realisation follows."""


@dataclass(frozen=True)
class SolutionPartition:
    """All curves of a calculation under one hash key: one query gives any range of its sites."""

    name: str = "solution"
    hash_attribute: str = "haz_sol_id"

    def range_attribute(self, part: CurvePart) -> str:
        """``loc_agg_rk`` or ``loc_rlz_rk``."""
        return f"loc_{KIND_ATTRIBUTE[part]}_rk"

    def hash_key(self, haz_sol_id: str, lat: float, lon: float) -> str:
        """The id itself."""
        return haz_sol_id

    def range_prefix(self, haz_sol_id: str, code: str) -> str:
        """``{loc}:``."""
        return f"{code}:"


@dataclass(frozen=True)
class LocationPartition:
    """Curves of all calculations in a 0.5 degree bin under one hash key: writes spread, and places compare."""

    name: str = "location"
    hash_attribute: str = "location_bin"

    def range_attribute(self, part: CurvePart) -> str:
        """``loc_sol_agg_rk`` or ``loc_sol_rlz_rk``."""
        return f"loc_sol_{KIND_ATTRIBUTE[part]}_rk"

    def hash_key(self, haz_sol_id: str, lat: float, lon: float) -> str:
        """The bin, such as ``-41.5~175.0``."""
        return location_bin(lat, lon)

    def range_prefix(self, haz_sol_id: str, code: str) -> str:
        """``{loc}:{haz_sol_id}:``."""
        return f"{code}:{haz_sol_id}:"


def block_keys(block: CurveBlock, partition: Partition, key_names: tuple[str, str]) -> Iterator[tuple[str, str, bytes]]:
    """Give the keys of a block's items, site by site.

    Parameters
    ----------
    key_names : tuple of str
        Names of hash and range key.

    Yields
    ------
    hash_key, range_key : str
    head : bytes
        The item's ready JSON up to and with its two keys: ``{"PutRequest":{"Item":{"...":{"S":"..."},...``, no comma
        after it.
    """
    hash_name, range_name = (name.encode() for name in key_names)
    for code, lat, lon in zip(block.codes, block.lat.tolist(), block.lon.tolist(), strict=True):
        hash_key = partition.hash_key(block.haz_sol_id, lat, lon)
        prefix = partition.range_prefix(block.haz_sol_id, code)
        head = b'{"PutRequest":{"Item":{"%b":{"S":%b},"%b":{"S":' % (hash_name, orjson.dumps(hash_key), range_name)
        for kind in block.kinds:
            range_key = prefix + kind
            yield hash_key, range_key, head + orjson.dumps(range_key) + b"}"
