"""Layouts: partition key x encoding, and so the tables that hold the curves.

A layout is a value. Adding an encoding or a partition is one new module here and one line in the registry below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError, UsageError
from hazard_store.layouts.items import CurveBlock, EncodedItem
from hazard_store.layouts.listed import ListEncoding
from hazard_store.layouts.packed import PackedEncoding
from hazard_store.layouts.partition import LocationPartition, Partition, SolutionPartition
from hazard_store.names import CurvePart

__all__ = [
    "ENCODINGS",
    "LAYOUTS",
    "PARTITIONS",
    "CurveBlock",
    "EncodedItem",
    "Layout",
    "chosen_layout",
    "layout_from_names",
]


class Encoding(Protocol):
    """How a curve's poes stand in an item."""

    @property
    def name(self) -> str:
        """The word on the command line."""

    def key_names(self, partition: Partition, part: CurvePart) -> tuple[str, str]:
        """Names of hash and range key."""

    def encode(self, block: CurveBlock, partition: Partition) -> Iterator[EncodedItem]:
        """Encode a block's items, site by site, in the order of its kinds."""

    def decode(
        self, items: Sequence[Mapping[str, Any]], imtls: Mapping[str, npt.NDArray[np.float64]]
    ) -> list[npt.NDArray[np.float32] | CorruptItemError]:
        """Give items' poes back, shape (n_imts, n_levels), in the order of `imtls`; or what is wrong with an item."""


PARTITIONS: dict[str, Partition] = {p.name: p for p in (SolutionPartition(), LocationPartition())}
ENCODINGS: dict[str, Encoding] = {e.name: e for e in (PackedEncoding(), ListEncoding())}

# The V2 tables keep the names that their readers know.
_TABLE_NAMES: dict[tuple[str, str], dict[CurvePart, str]] = {
    ("list", "solution"): {
        "stats": "ToshiOpenquakeHazardCurveStatsV2",
        "realisations": "ToshiOpenquakeHazardCurveRlzsV2",
    },
    ("list", "location"): {
        "stats": "HazardStoreListStatsByLocation",
        "realisations": "HazardStoreListRlzsByLocation",
    },
    ("packed", "solution"): {"stats": "HazardStorePackedStats", "realisations": "HazardStorePackedRlzs"},
    ("packed", "location"): {
        "stats": "HazardStorePackedStatsByLocation",
        "realisations": "HazardStorePackedRlzsByLocation",
    },
}


@dataclass(frozen=True)
class Layout:
    """A partition key and an encoding."""

    encoding: Encoding
    partition: Partition

    @property
    def name(self) -> str:
        """How the ledger and messages name it, such as ``packed+solution``."""
        return f"{self.encoding.name}+{self.partition.name}"

    @property
    def is_v2(self) -> bool:
        """Whether its tables are the V2 tables, which have a meta table of their own."""
        return self.name == "list+solution"

    @property
    def is_by_bin(self) -> bool:
        """Whether hash keys are bins, under which other calculations' items stand as well."""
        return self.partition.hash_attribute != "haz_sol_id"

    def key_names(self, part: CurvePart) -> tuple[str, str]:
        """Names of hash and range key in the part's table."""
        return self.encoding.key_names(self.partition, part)

    def table_base(self, part: CurvePart) -> str:
        """Name of the part's table without the stage."""
        return _TABLE_NAMES[self.encoding.name, self.partition.name][part]


LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (Layout(e, p) for e in ENCODINGS.values() for p in PARTITIONS.values())
}


def layout_from_names(encoding: str, partition: str) -> Layout:
    """Find a layout by its two words.

    Raises
    ------
    UsageError
        If one of them is unknown.
    """
    if encoding not in ENCODINGS:
        raise UsageError(f"unknown encoding {encoding!r}: choose {' or '.join(ENCODINGS)}")
    if partition not in PARTITIONS:
        raise UsageError(f"unknown partition {partition!r}: choose {' or '.join(PARTITIONS)}")
    return LAYOUTS[f"{encoding}+{partition}"]


def chosen_layout(encoding: str | None, partition: str | None) -> Layout | None:
    """Find the layout that a user named, None for none; where only half of it is named, the other is the default's.

    Raises
    ------
    UsageError
        If a word is unknown.
    """
    if encoding is None and partition is None:
        return None
    return layout_from_names(encoding or next(iter(ENCODINGS)), partition or next(iter(PARTITIONS)))
