"""What an item costs: DynamoDB's size rules, on items in their JSON form.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html; how numbers count, which
that page gives about, is what DynamoDB Local reports, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from benchmarks.limited_dynamodb.number_lists import MAX_NUMBER_BYTES, NumberList

WCU_BYTES = 1024
MAX_ITEM_BYTES = 400 * 1024
# A list or map, whatever it holds, and each of its elements besides.
NESTED_BYTES = 3
ELEMENT_BYTES = 1


def write_units(size_bytes: int) -> int:
    """Write units of an item: one for each KB begun."""
    return max(1, -(-size_bytes // WCU_BYTES))


def item_size(item: Mapping[str, Any]) -> int:
    """Bytes of an item, names included."""
    return sum(text_size(name) + value_size(value) for name, value in item.items())


def value_size(value: Mapping[str, Any]) -> int:
    """Bytes of one typed value such as ``{"N": "0.5"}``."""
    ((kind, content),) = value.items()
    match kind:
        case "B":
            return binary_size(content)
        case "S":
            return text_size(content)
        case "N":
            return number_size(content)
        case "L":
            return list_size(content)
        case "M":
            return NESTED_BYTES + ELEMENT_BYTES * len(content) + item_size(content)
        case "BOOL" | "NULL":
            return 1
        case "SS":
            return sum(map(text_size, content))
        case "NS":
            return sum(map(number_size, content))
        case "BS":
            return sum(map(binary_size, content))
    raise ValueError(f"no type of DynamoDB: {kind!r}")


def list_size(elements: list[Mapping[str, Any]] | NumberList) -> int:
    """Bytes of a list."""
    if isinstance(elements, NumberList):
        return NESTED_BYTES + ELEMENT_BYTES * elements.length + elements.numbers_bytes
    return NESTED_BYTES + ELEMENT_BYTES * len(elements) + sum(map(value_size, elements))


def text_size(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def binary_size(base64_text: str) -> int:
    """Raw bytes behind a base64 text."""
    return len(base64_text) * 3 // 4 - base64_text.count("=", -2)


def number_size(text: str) -> int:
    """Bytes of a number: one, and one for each pair of digits, and one for a minus sign.

    Digits are paired from the decimal point, as in base 100, and pairs of zeros at either end do not count: 12.3 is
    the pairs 12 and 30, so 3 bytes.
    """
    sign, digits, exponent = Decimal(text).as_tuple()
    significant = "".join(map(str, digits)).lstrip("0")
    if not significant or not isinstance(exponent, int):
        return 1
    first = exponent + len(significant) - 1
    last = exponent + len(significant) - len(significant.rstrip("0"))
    return min(MAX_NUMBER_BYTES, 1 + sign + first // 2 - last // 2 + 1)
