"""The reader: asks DynamoDB for keys and ranges of keys, page by page, and takes items away by key.

It knows nothing of layouts or curves. It never scans and never filters: what is not asked for by key is not read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hazard_store.errors import StorageError, UnacknowledgedError
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect, contact, send_patiently
from hazard_store.storage.faults import REQUEST_ERRORS, Patience, RetryPolicy, to_storage_error

# BatchGetItem takes 100 keys, BatchWriteItem 25 deletes.
MAX_GET_KEYS = 100
MAX_DELETE_KEYS = 25

# A whole hash key is read in pages of so many items at first and at most, besides DynamoDB's own limit of 1 MB a page.
# DynamoDB Local reads all that is left of a query into memory before it cuts its page: without a limit of ours, large
# calculations take it a time that grows with the square of their size.
FIRST_PAGE_ITEMS = 250
MAX_PAGE_ITEMS = 2_000

Item = Mapping[str, Any]
"""An item's attributes in DynamoDB's typed form, ``{"agg": {"S": "mean"}, ...}``."""

Key = tuple[str, str]
"""An item's hash and range key, both text in all of our tables."""


class Reader:
    """Reads items of any table, strongly consistent, with retries; safe to share between threads.

    Strong consistency costs twice the read units. Without it, a reader could find the meta of a calculation complete
    and miss items that were acknowledged a moment before.

    Parameters
    ----------
    settings : Settings
    client : object, optional
        What has botocore's ``query``, ``batch_get_item`` and ``batch_write_item``; by default this process's client.
    policy : RetryPolicy, optional
        How long to go on when nothing is answered or acknowledged; by default as `send_patiently`.

    Attributes
    ----------
    requests : int
        Requests sent, retries included.
    read_units : float
        RCU that DynamoDB reported.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client: Any = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.requests = 0
        self.read_units = 0.0
        self._settings = settings
        self._own_client = client
        self._policy = policy
        self._lock = threading.Lock()

    def query(
        self,
        table: str,
        key_names: Key,
        hash_key: str,
        *,
        prefix: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        attributes: Sequence[str] = (),
    ) -> Iterator[Item]:
        """Read the items of a hash key in the order of their range keys.

        Parameters
        ----------
        key_names : (str, str)
            Names of the hash and the range key.
        prefix : str, optional
            Only range keys that start with it.
        after : str, optional
            Only range keys that sort after it; not together with `prefix`.
        limit : int, optional
            At most so many items, in one request.
        attributes : sequence of str
            Only these; all if empty.
        """
        names = {"#h": key_names[0]}
        values = {":h": {"S": hash_key}}
        condition = "#h = :h"
        if prefix is not None or after is not None:
            condition += " AND begins_with(#r, :r)" if prefix is not None else " AND #r > :r"
            names["#r"] = key_names[1]
            values[":r"] = {"S": prefix if prefix is not None else after or ""}
        request: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if attributes:
            names |= {f"#a{number}": name for number, name in enumerate(attributes)}
            request["ProjectionExpression"] = ", ".join(f"#a{number}" for number in range(len(attributes)))
        request["ExpressionAttributeNames"] = names
        is_whole_hash_key = prefix is None and limit is None
        if limit is not None or is_whole_hash_key:
            request["Limit"] = limit or FIRST_PAGE_ITEMS
        while True:
            answer = self._call("query", table, request)
            items = answer.get("Items", [])
            yield from items
            if limit is not None or not answer.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            if is_whole_hash_key:
                request["Limit"] = _next_page_items(request["Limit"], len(items))

    def get(self, table: str, key_names: Key, keys: Sequence[Key]) -> list[Item]:
        """Read at most 100 items by their keys; those that do not exist are absent, the order is DynamoDB's.

        Raises
        ------
        StorageError
            When keys are left unprocessed until the deadline.
        """
        items: list[Item] = []
        pending: list[dict[str, Any]] = [_key_to_wire(key_names, key) for key in keys]
        patience = Patience(self._policy or RetryPolicy())
        while pending:
            request = {
                "RequestItems": {table: {"Keys": pending, "ConsistentRead": True}},
                "ReturnConsumedCapacity": "TOTAL",
            }
            answer = self._call("batch_get_item", table, request)
            items += answer["Responses"].get(table, [])
            left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if left and not patience.wait(progress=len(left) < len(pending)):
                raise StorageError(f"{len(left)} keys of table {table} were left unread: throttled, try again later")
            pending = left
        return items

    def delete(self, table: str, key_names: Key, keys: Sequence[Key]) -> None:
        """Take at most 25 items away; returns when every one was acknowledged.

        Raises
        ------
        UnacknowledgedError
            With the keys that are left at the deadline.
        """
        pending = [{"DeleteRequest": {"Key": _key_to_wire(key_names, key)}} for key in keys]
        patience = Patience(self._policy or RetryPolicy())
        while pending:
            answer = self._call("batch_write_item", table, {"RequestItems": {table: pending}})
            # DynamoDB always says what it did not write, if only that it is nothing.
            left = answer["UnprocessedItems"].get(table, []) if "UnprocessedItems" in answer else pending
            if left and not patience.wait(progress=len(left) < len(pending)):
                wire_keys = [entry["DeleteRequest"]["Key"] for entry in left]
                raise UnacknowledgedError(
                    f"{len(left)} items of table {table} were not deleted: it is throttled, try again later",
                    [(key[key_names[0]]["S"], key[key_names[1]]["S"]) for key in wire_keys],
                )
            pending = left

    @property
    def _client(self) -> Any:
        return self._own_client if self._own_client is not None else connect(self._settings).client

    def _call(self, operation: str, table: str, request: dict[str, Any]) -> dict[str, Any]:
        def send() -> dict[str, Any]:
            with self._lock:
                self.requests += 1
            answer: dict[str, Any] = getattr(self._client, operation)(**request)
            return answer

        try:
            answer = send_patiently(send, contact(self._settings), policy=self._policy)
        except REQUEST_ERRORS as exc:
            raise to_storage_error(exc, self._settings, table) from exc
        if operation != "batch_write_item":
            self._count(answer)
        return answer

    def _count(self, answer: dict[str, Any]) -> None:
        consumed = answer.get("ConsumedCapacity", [])
        reports = [consumed] if isinstance(consumed, dict) else consumed
        with self._lock:
            self.read_units += sum(float(report.get("CapacityUnits", 0.0)) for report in reports)


def _next_page_items(limit: int, got: int) -> int:
    """How many items to ask for next: more if the limit cut the page, hardly more than came if the 1 MB did."""
    return min(2 * limit, MAX_PAGE_ITEMS) if got >= limit else got + got // 4 + 1


def _key_to_wire(names: Key, key: Key) -> dict[str, Any]:
    return {name: {"S": text} for name, text in zip(names, key, strict=True)}
