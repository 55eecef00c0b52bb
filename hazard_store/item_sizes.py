"""What an item costs: DynamoDB's size rules, on items in their JSON form.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html; how numbers count, which
that page gives about, is what DynamoDB Local reports, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

WCU_BYTES = 1_024

# A list or map, whatever it holds, and each of its elements besides.
_NESTED_BYTES = 3
_ELEMENT_BYTES = 1

# Where a list of numbers stands in JSON: quotes inside of a text are escaped, so that this is nowhere else. Such lists
# are the bulk of `list` items, and are measured without parsing them.
_NUMBERS = re.compile(rb'\[\{"N":"([^\[\]]*)"\}\]')
_NEXT_NUMBER = '"},{"N":"'

# Numbers have at most 38 digits, two to a byte.
_MAX_NUMBER_BYTES = 21


def write_units(size_bytes: int) -> int:
    """Write units of an item: one for each KB begun."""
    return max(1, -(-size_bytes // WCU_BYTES))


def body_size(body: bytes) -> int:
    """Bytes of an item as it counts, from its entry in a ``BatchWriteItem``: ``{"PutRequest":{"Item":{...}}}``."""
    elements_bytes = 0

    def measured(match: re.Match[bytes]) -> bytes:
        nonlocal elements_bytes
        elements_bytes += _numbers_size(match[1])
        return b"[]"

    rest = _NUMBERS.sub(measured, body)
    item: dict[str, Any] = orjson.loads(rest)["PutRequest"]["Item"]
    return item_size(item) + elements_bytes


def item_size(item: Mapping[str, Any]) -> int:
    """Bytes of an item in DynamoDB's typed form, names included."""
    return sum(_text_size(name) + _value_size(value) for name, value in item.items())


def number_size(text: str) -> int:
    """Bytes of a number: one, one for each pair of digits, and one for a minus sign.

    Digits are paired from the decimal point, as in base 100, and zeros at either end do not count: 12.3 is the pairs 12
    and 30, so 3 bytes.
    """
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("+-").partition(".")
    digits = whole + fraction
    significant = digits.lstrip("0")
    if not significant:
        return 1
    first = len(whole) - 1 - (len(digits) - len(significant)) + int(exponent or 0)
    last = first - len(significant.rstrip("0")) + 1
    return min(_MAX_NUMBER_BYTES, 2 + mantissa.startswith("-") + first // 2 - last // 2)


@lru_cache(maxsize=50_000)  # levels come with every item, and the same poes in each layout
def _numbers_size(numbers: bytes) -> int:
    texts = numbers.decode().split(_NEXT_NUMBER)
    return _ELEMENT_BYTES * len(texts) + sum(map(number_size, texts))


def _value_size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return number_size(content)
        case "B":
            return int(len(content) * 3 // 4 - content.count("=", -2))
        case "S":
            return _text_size(content)
        case "L":
            return _NESTED_BYTES + _ELEMENT_BYTES * len(content) + sum(map(_value_size, content))
        case "M":
            return _NESTED_BYTES + _ELEMENT_BYTES * len(content) + item_size(content)
        case "SS":
            return sum(map(_text_size, content))
        case "BOOL" | "NULL":
            return 1
    raise ValueError(f"no type that our items have: {kind!r}")


def _text_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
