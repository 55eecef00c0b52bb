"""The order of writes: items that follow each other have other hash keys, and of one hash key are far apart.

One hash key may be held to 1,000 WCU/s. A file's neighbours are neighbours on the map, and by location have one hash
key: in the file's order a batch would be of one hash key, while all others rest. Where DynamoDB splits the range of a
hash key that is written much, writes that march through the range would all go to the upper part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hazard_store.layouts.items import EncodedItem
from hazard_store.planning import spread_order

# So many bytes of items are held to be interleaved: a block of packed items, some dozen sites of `list` items.
WINDOW_BYTES = 8 * 1024 * 1024


def spread(items: Iterable[EncodedItem], window_bytes: int = WINDOW_BYTES) -> Iterator[EncodedItem]:
    """Interleave items by hash key: one of each, then another of each, and so on.

    >>> [i.hash_key + i.range_key for i in spread(EncodedItem(*pair, b"") for pair in ["a1", "a2", "b1", "c1", "a3"])]
    ['a1', 'b1', 'c1', 'a3', 'a2']
    """
    window: list[EncodedItem] = []
    n_bytes = 0
    for item in items:
        window.append(item)
        n_bytes += len(item.body)
        if n_bytes >= window_bytes:
            yield from _in_turns(window)
            window, n_bytes = [], 0
    yield from _in_turns(window)


def _in_turns(window: list[EncodedItem]) -> Iterator[EncodedItem]:
    by_key: dict[str, list[EncodedItem]] = {}
    for item in window:
        by_key.setdefault(item.hash_key, []).append(item)
    queues = [[items[place] for place in reversed(spread_order(len(items)))] for items in by_key.values()]
    while queues:
        for queue in queues:
            yield queue.pop()
        queues = [queue for queue in queues if queue]
