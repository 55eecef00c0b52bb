"""DynamoDB's JSON protocol, just enough of it: what a write asks for, and answers as the service gives them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from benchmarks.limited_dynamodb.number_lists import dumps
from benchmarks.limited_dynamodb.sizes import MAX_ITEM_BYTES, item_size, write_units

CONTENT_TYPE = "application/x-amz-json-1.0"
MAX_BATCH_ITEMS = 25
MAX_BATCH_BYTES = 16 * 2**20
SINGLE_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem"})

# The service's own words.
ON_DEMAND_MESSAGE = (
    "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically scaling your table or "
    "index so please try again shortly. If exceptions persist, check if you have a hot key: "
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"
)
PROVISIONED_MESSAGE = (
    "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning "
    "level with the UpdateTable API."
)


class Answer(NamedTuple):
    """What goes back to the client; `crc32` only differs from the body's where a fault says so."""

    status: int
    body: bytes
    content_type: str = CONTENT_TYPE
    crc32: int | None = None

    def head(self, length: int | None = None) -> bytes:
        """Give the status line and headers; `length` where it is not that of the body."""
        checksum = zlib.crc32(self.body) if self.crc32 is None else self.crc32
        return (
            f"HTTP/1.1 {self.status} X\r\nContent-Type: {self.content_type}\r\nx-amz-crc32: {checksum}\r\n"
            f"x-amzn-RequestId: LIMITED\r\nContent-Length: {len(self.body) if length is None else length}\r\n\r\n"
        ).encode()


class Keys(NamedTuple):
    """Names of a table's hash and range key; the latter is empty for a table without one."""

    hash_name: str
    range_name: str


class Write(NamedTuple):
    """One write: which item, and what it costs."""

    hash_key: str
    range_key: str
    wcu: int


def error(status: int, code: str, message: str, namespace: str = "com.amazonaws.dynamodb.v20120810") -> Answer:
    """Give an error as the service words it."""
    return Answer(status, orjson.dumps({"__type": f"{namespace}#{code}", "message": message}))


def throttled(billing: str) -> Answer:
    """Refuse a whole request for want of capacity."""
    if billing == "provisioned":
        return error(400, "ProvisionedThroughputExceededException", PROVISIONED_MESSAGE)
    return error(400, "ThrottlingException", ON_DEMAND_MESSAGE, "com.amazon.coral.availability")


def keys_from_description(description: Mapping[str, Any]) -> Keys:
    """Read the names of the keys out of the answer to ``DescribeTable``."""
    by_type = {key["KeyType"]: key["AttributeName"] for key in description["Table"]["KeySchema"]}
    return Keys(by_type["HASH"], by_type.get("RANGE", ""))


def keys_from_item(item: Mapping[str, Any]) -> Keys:
    """Guess the names of the keys where no table can be asked: our encodings write the two keys first."""
    names = [*item, "", ""]
    return Keys(names[0], names[1])


def batch_entry_to_write(entry: Mapping[str, Any], keys: Keys | None) -> Write:
    """Measure one entry of a ``BatchWriteItem``.

    A delete costs what the item held, which is not known here: it counts one unit.
    """
    put = entry.get("PutRequest")
    item = put["Item"] if put else entry["DeleteRequest"]["Key"]
    return _write(item, keys or keys_from_item(item), write_units(item_size(item)) if put else 1)


def single_to_write(operation: str, request: Mapping[str, Any], keys: Keys | None) -> Write:
    """Measure a ``PutItem``, ``UpdateItem`` or ``DeleteItem``.

    The item that an update leaves is not known here: its key and the values that it sets count.
    """
    if operation == "PutItem":
        item = request["Item"]
        return _write(item, keys or keys_from_item(item), write_units(item_size(item)))
    values = request.get("ExpressionAttributeValues", {}) if operation == "UpdateItem" else {}
    return _write(
        request["Key"],
        keys or keys_from_item(request["Key"]),
        write_units(item_size(request["Key"]) + item_size(values)),
    )


def _write(item: Mapping[str, Any], keys: Keys, wcu: int) -> Write:
    return Write(_key_text(item, keys.hash_name), _key_text(item, keys.range_name) if keys.range_name else "", wcu)


def _key_text(item: Mapping[str, Any], name: str) -> str:
    return str(next(iter(item.get(name, {}).values()), ""))


def batch_problem(request_items: Mapping[str, list[Any]], body_bytes: int) -> str | None:
    """Say why the service would refuse a batch, for where no database checks it."""
    if not 0 < sum(map(len, request_items.values())) <= MAX_BATCH_ITEMS:
        return "Too many items requested for the BatchWriteItem call"
    if body_bytes > MAX_BATCH_BYTES:
        return "The request is larger than 16 MB"
    return None


def writes_problem(writes: Iterable[Write]) -> str | None:
    """Say why the service would refuse the writes of one table, for where no database checks them."""
    writes = list(writes)
    if len({write[:2] for write in writes}) < len(writes):
        return "Provided list of item keys contains duplicates"
    if any(write.wcu > write_units(MAX_ITEM_BYTES) for write in writes):
        return "Item size has exceeded the maximum allowed size"
    return None


def batch_answer(unprocessed: Mapping[str, list[Any]], consumed: Mapping[str, float], *, with_capacity: bool) -> Answer:
    """Answer a ``BatchWriteItem``, as far as it went."""
    answer: dict[str, Any] = {"UnprocessedItems": unprocessed}
    if with_capacity:
        answer["ConsumedCapacity"] = [
            {"TableName": table, "CapacityUnits": float(wcu)} for table, wcu in consumed.items() if wcu
        ]
    return Answer(200, dumps(answer))


def wants_capacity(request: Mapping[str, Any]) -> bool:
    """Whether the client asks what its write cost."""
    return request.get("ReturnConsumedCapacity", "NONE") != "NONE"
