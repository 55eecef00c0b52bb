"""The words that look alike, kept apart: ids, codes, parts, and the texts that keys are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NewType, get_args

from hazard_store.errors import UsageError

HazSolId = NewType("HazSolId", str)
SiteCode = NewType("SiteCode", str)
ChunkId = NewType("ChunkId", str)

Part = Literal["meta", "stats", "realisations"]
CurvePart = Literal["stats", "realisations"]
PARTS: tuple[Part, ...] = get_args(Part)
CURVE_PARTS: tuple[CurvePart, ...] = get_args(CurvePart)

# Where a store runs: one of these, or at the address of a Dask scheduler.
CLUSTER_WORDS = ("local", "none", "fargate")
SCHEDULER_SCHEMES = ("tcp://", "tls://")

# `:` separates the fields of a range key and `#` those of a ledger key, so neither may occur in an id. The rest of
# the set covers base64 ids (`T3BlbnF1YWtlOjEwMA==`) and keeps ids harmless in a shell, in Markdown and in a URL.
HAZ_SOL_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._=+/@~-]{0,199}"
_HAZ_SOL_ID = re.compile(HAZ_SOL_ID_PATTERN)

# What a range key holds, less what stands in it beside an id.
MAX_ID_BYTES = 900
_SHOWN_CHARACTERS = 60

BIN_DEGREES = 0.5


def parts_in_order(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Give each of some parts once, in the order in which they are stored."""
    wanted = set(parts)
    return tuple(part for part in PARTS if part in wanted)


def haz_sol_id_from_text(text: str) -> HazSolId:
    """Check a hazard solution id.

    Raises
    ------
    UsageError
        If it is empty, longer than 200 characters, or holds a character outside ``A-Z a-z 0-9 . _ = + / @ ~ -``.
    """
    if not _HAZ_SOL_ID.fullmatch(text):
        raise UsageError(
            f"the id {text!r} cannot be used: 1 to 200 characters of A-Z a-z 0-9 . _ = + / @ ~ - , the first a letter "
            "or digit (the keys reserve ':' and '#')"
        )
    return HazSolId(text)


def require_stored_id(text: str) -> None:
    """Check an id under which something is looked for: what old programs stored may have other characters than ours.

    Raises
    ------
    UsageError
        If no table can hold it.
    """
    if not isinstance(text, str) or not 0 < len(text.encode()) <= MAX_ID_BYTES:
        shown = repr(text) if len(repr(text)) <= _SHOWN_CHARACTERS else f"{repr(text)[:_SHOWN_CHARACTERS]}..."
        raise UsageError(f"nothing can be stored under the id {shown}: `hazard-store status` lists what is")


def layout_words(name: str) -> tuple[str, str]:
    """Split a layout's name into those of its encoding and its partition: ``packed+solution``."""
    encoding, _, partition = name.partition("+")
    return encoding, partition


def rlz_to_text(rlz: int) -> str:
    """Write a realisation's ordinal as it stands in keys: ``7 -> '00007'``."""
    return f"{rlz:05d}"


def location_bin(lat: float, lon: float) -> str:
    """Name the 0.5 degree bin of a place: ``-41.3, 174.8 -> '-41.5~175.0'``.

    Parameters
    ----------
    lat, lon : float
        Degrees. Each is rounded to the nearest half degree, a tie to the even one, as Python rounds.
    """
    # Adding 0.0 turns a negative zero into a plain one, so that the equator has one bin.
    return "~".join(f"{round(degrees / BIN_DEGREES) * BIN_DEGREES + 0.0:.1f}" for degrees in (lat, lon))
