"""A DynamoDB in a dictionary: the reader's three operations, pages, and a script of failures before the answers."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from typing import Any

import botocore.exceptions as bc
import orjson

from hazard_store.layouts import CurveBlock, Layout
from hazard_store.layouts.items import EncodedItem

Failure = Callable[[], None]


def refuse(code: str, status: int = 400) -> Failure:
    def fail() -> None:
        raise bc.ClientError(
            {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Query"
        )

    return fail


def lose_connection() -> None:
    raise bc.EndpointConnectionError(endpoint_url="http://nowhere")


class FakeDynamoDb:
    """Holds items by table, hash key and range key.

    Parameters
    ----------
    page : int
        Items that one query answers at most.
    portion : int, optional
        How many of a batch are processed; the rest is given back.
    failures : iterable of callables
        Called one a request, before it is answered.
    """

    def __init__(self, *, page: int = 1_000, portion: int | None = None, failures: Iterable[Failure] = ()) -> None:
        self.tables: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._page = page
        self._portion = portion
        self._failures = iter(failures)

    def load(self, table: str, encoded: Iterable[EncodedItem]) -> None:
        rows = self.tables.setdefault(table, {})
        for item in encoded:
            attributes = orjson.loads(item.body)["PutRequest"]["Item"]
            for typed in attributes.values():
                if "B" in typed:
                    # What comes over the wire as base64, botocore gives as bytes.
                    typed["B"] = base64.b64decode(typed["B"])
            rows[item.hash_key, item.range_key] = attributes

    def load_block(self, table: str, layout: Layout, block: CurveBlock) -> None:
        self.load(table, layout.encoding.encode(block, layout.partition))

    def keys(self, table: str) -> set[tuple[str, str]]:
        return set(self.tables.get(table, {}))

    def count(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.calls)

    def query(self, **request: Any) -> dict[str, Any]:
        self._begin("query", request)
        assert "FilterExpression" not in request
        assert request["ConsistentRead"]
        condition, values = request["KeyConditionExpression"], request["ExpressionAttributeValues"]
        names = request["ExpressionAttributeNames"]
        text = values.get(":r", {}).get("S", "")
        tests: dict[str, Callable[[str], bool]] = {
            "#h = :h": lambda _: True,
            "#h = :h AND begins_with(#r, :r)": lambda key: key.startswith(text),
            "#h = :h AND #r > :r": lambda key: key.encode() > text.encode(),
        }
        rows = dict(self.tables[request["TableName"]])  # another thread may delete meanwhile
        found = sorted((key for key in rows if key[0] == values[":h"]["S"] and tests[condition](key[1])), key=_order)
        if "ExclusiveStartKey" in request:
            start = tuple(typed["S"] for typed in request["ExclusiveStartKey"].values())
            found = [key for key in found if _order(key) > _order(start)]
        most = min(self._page, request.get("Limit", self._page))
        page = found[:most]
        wanted = [names[alias] for alias in re.findall(r"#a\d+", request.get("ProjectionExpression", ""))]
        answer: dict[str, Any] = {
            "Items": [{n: v for n, v in rows[key].items() if not wanted or n in wanted} for key in page],
            "ConsumedCapacity": {"CapacityUnits": 1.0},
        }
        if len(found) > most:
            answer["LastEvaluatedKey"] = {"h": {"S": page[-1][0]}, "r": {"S": page[-1][1]}}
        return answer

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        self._begin("batch_get_item", request)
        ((table, asked),) = request["RequestItems"].items()
        assert 1 <= len(asked["Keys"]) <= 100
        taken, left = self._split(asked["Keys"])
        rows = self.tables[table]
        keys = [tuple(typed["S"] for typed in key.values()) for key in taken]
        assert len(set(keys)) == len(keys)
        return {
            # In no order, as DynamoDB does.
            "Responses": {table: [rows[key] for key in reversed(keys) if key in rows]},
            "UnprocessedKeys": {table: {**asked, "Keys": left}} if left else {},
            "ConsumedCapacity": [{"CapacityUnits": 1.0}],
        }

    def batch_write_item(self, **request: Any) -> dict[str, Any]:
        self._begin("batch_write_item", request)
        ((table, entries),) = request["RequestItems"].items()
        assert 1 <= len(entries) <= 25
        taken, left = self._split(entries)
        for entry in taken:
            key = tuple(typed["S"] for typed in entry["DeleteRequest"]["Key"].values())
            self.tables[table].pop(key, None)
        return {"UnprocessedItems": {table: left} if left else {}}

    def _begin(self, operation: str, request: dict[str, Any]) -> None:
        self.calls.append((operation, request))
        next(self._failures, lambda: None)()

    def _split(self, entries: list[Any]) -> tuple[list[Any], list[Any]]:
        most = len(entries) if self._portion is None else self._portion
        return entries[:most], entries[most:]


def _order(key: tuple[str, ...]) -> tuple[bytes, ...]:
    """DynamoDB sorts text by its UTF-8 bytes."""
    return tuple(text.encode() for text in key)
