"""Batches of the sender: what one holds, what it may cost, and what an answer gives back of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hazard_store.layouts.items import EncodedItem

Items = dict[tuple[str, str], EncodedItem]


@dataclass
class Batch:
    """Items that are sent together; those that were written leave it.

    Parameters
    ----------
    items : dict
        By hash key and range key.
    n_bytes : int
        Of the bodies of all items that it had at first.
    is_retry : bool
        Whether it was sent before.
    failures : int
        How often it was sent since the last item was written, by which the next time is delayed.
    deadline : float
        When it fails without any more progress, on the monotonic clock.
    """

    items: Items
    n_bytes: int
    is_retry: bool = False
    failures: int = 0
    deadline: float = 0.0


def item_units(item: EncodedItem) -> int:
    """KB of an item's body, rounded up: what it costs at most where it replaces nothing larger, for JSON is longer."""
    return -(-len(item.body) // 1024)


def units_of(items: Items) -> int:
    """KB of the bodies of some items, each rounded up."""
    return sum(map(item_units, items.values()))


def bytes_of(items: Items) -> int:
    """Bytes of the bodies of some items."""
    return sum(len(item.body) for item in items.values())


def unprocessed(answer: Mapping[str, Any], table: str, pending: Items) -> Items:
    """Find which of the pending items an answer gives back, by their keys."""
    if "UnprocessedItems" not in answer:
        # DynamoDB always says what it did not write, if only that it is nothing.
        return dict(pending)
    entries = answer["UnprocessedItems"].get(table, [])
    if not entries:
        return {}
    by_values = {frozenset(key): key for key in pending}
    left = {}
    for entry in entries:
        texts = {v["S"] for v in entry["PutRequest"]["Item"].values() if "S" in v}
        key = next((key for values, key in by_values.items() if values <= texts), None)
        if key is None:
            # An item that we did not send: nothing in the batch can be trusted as written.
            return dict(pending)
        left[key] = pending[key]
    return left
