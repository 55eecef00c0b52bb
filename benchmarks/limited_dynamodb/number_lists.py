"""Lists of numbers, the bulk of `list` items: measured all at once and kept as they came, never taken apart.

A batch of `list` items holds 60,000 numbers. To parse and measure them one by one takes 50 ms, in which the proxy would
do nothing else; numpy measures them in a fifth of that.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

Indices = npt.NDArray[np.int64]

MAX_NUMBER_BYTES = 21

# Quotes inside of a text are escaped, so that this stands nowhere but where a list begins with a number.
_LIST_START = b'[{"N":"'
_LIST = re.compile(rb'\[\{"N":"[^\[\]]*\]')

# What is shorter is parsed as fast as this would take.
_MIN_BODY_BYTES = 20_000


class NumberList(NamedTuple):
    """A list of numbers as it stood in the request.

    `numbers_bytes` is the size of its numbers by DynamoDB's rules, without the list's own.
    """

    raw: bytes
    length: int
    numbers_bytes: int


def loads(body: bytes) -> Any:
    """Parse JSON; long lists of numbers become `NumberList`."""
    if len(body) < _MIN_BODY_BYTES or _LIST_START not in body:
        return orjson.loads(body)
    lists: list[bytes] = []

    def fold(match: re.Match[bytes]) -> bytes:
        raw = match.group()
        if raw.count(b'"') != 4 * raw.count(b'{"N":"'):
            return raw
        lists.append(raw)
        return b"%d" % (len(lists) - 1)

    payload = orjson.loads(_LIST.sub(fold, body))
    if lists:
        _unfold(payload, _measured(lists))
    return payload


def dumps(payload: Any) -> bytes:
    """Write JSON, with any `NumberList` as it came."""
    return orjson.dumps(payload, default=_to_fragment)


def _to_fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, NumberList):
        return orjson.Fragment(value.raw)
    raise TypeError(f"not JSON: {type(value)}")


def _unfold(node: Any, lists: list[NumberList]) -> None:
    """Put the lists where their numbers stand: the protocol itself has no bare numbers under ``L``."""
    if isinstance(node, dict):
        for key, child in node.items():
            if key == "L" and isinstance(child, int):
                node[key] = lists[child]
            elif isinstance(child, dict | list):
                _unfold(child, lists)
    elif isinstance(node, list):
        for child in node:
            _unfold(child, lists)


def _measured(lists: list[bytes]) -> list[NumberList]:
    # Every curve of a batch has the same intensity levels.
    distinct = list(dict.fromkeys(lists))
    # Each list is b'[{"N":"1"},{"N":"2"}]': what is left of all of them is b'1,2,3,'.
    sizes = number_sizes(b",".join(distinct).translate(None, b'[]{}":N ') + b",")
    lengths = [raw.count(b"{") for raw in distinct]
    totals = np.add.reduceat(sizes, np.concatenate([[0], np.cumsum(lengths)[:-1]])).tolist()
    measured = {raw: NumberList(raw, *counted) for raw, *counted in zip(distinct, lengths, totals, strict=True)}
    return [measured[raw] for raw in lists]


def number_sizes(text: bytes) -> Indices:
    """Bytes of every number in a text such as ``b"0.5,1e-7,"``, by the rule of ``sizes.number_size``."""
    chars = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(chars == ord(","))
    starts = np.concatenate([[0], ends[:-1] + 1])
    mantissa_ends, exponents = _exponents(chars, starts, ends)
    dots = _Places(chars == ord(".")).first(starts, mantissa_ends)
    digits = _Places((chars >= ord("1")) & (chars <= ord("9")))
    firsts, lasts = digits.first(starts, mantissa_ends), digits.last(mantissa_ends)
    pairs = _power(firsts, dots, exponents) // 2 - _power(lasts, dots, exponents) // 2 + 1
    sizes = np.minimum(1 + pairs + (chars[starts] == ord("-")), MAX_NUMBER_BYTES)
    return np.where(firsts == mantissa_ends, 1, sizes)


class _Places:
    """Where something stands in a text."""

    def __init__(self, mask: npt.NDArray[np.bool_]) -> None:
        # One beyond the end, so that there is always a next one.
        self._places = np.append(np.flatnonzero(mask), len(mask))

    def first(self, starts: Indices, ends: Indices) -> Indices:
        """The first place from each start on, or the end where none comes before it."""
        return np.minimum(self._places[np.searchsorted(self._places, starts)], ends)

    def last(self, ends: Indices) -> Indices:
        """The last place before each end; meaningless where there is none."""
        return self._places[np.searchsorted(self._places, ends) - 1]


def _exponents(chars: npt.NDArray[np.uint8], starts: Indices, ends: Indices) -> tuple[Indices, Indices]:
    """Where the mantissas end, and the powers of ten behind an ``e``."""
    marks = _Places((chars | 32) == ord("e")).first(starts, ends)
    exponents = np.zeros(len(ends), np.int64)
    (scaled,) = np.nonzero(marks < ends)
    if len(scaled):
        places = marks[scaled] + 1
        negative = chars[places] == ord("-")
        places = places + (negative | (chars[places] == ord("+")))
        values = np.zeros(len(scaled), np.int64)
        for _ in range(int((ends[scaled] - places).max())):
            values = np.where(places < ends[scaled], values * 10 + chars[places] - ord("0"), values)
            places = np.minimum(places + 1, ends[scaled])
        exponents[scaled] = np.where(negative, -values, values)
    return marks, exponents


def _power(digits: Indices, dots: Indices, exponents: Indices) -> Indices:
    """Powers of ten for which the digits at these places stand."""
    return dots - digits - (digits < dots) + exponents
