"""Taking items away by key, several batches at once; and what an earlier content left behind of a calculation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice

from hazard_store.errors import TableMissingError
from hazard_store.inventory import Inventory
from hazard_store.storage.reader import MAX_DELETE_KEYS, Key
from hazard_store.stored import StoredCurves, StoredItem

# Deletes cost write units as puts do; four requests under way are what one hash key bears.
CONNECTIONS = 4


def remove_items(stored: StoredCurves, items: Iterable[StoredItem]) -> Iterator[int]:
    """Remove items in batches; gives the size of each batch when it is acknowledged. A missing table has no items."""

    def batches() -> Iterator[list[Key]]:
        with suppress(TableMissingError):
            keys = ((item.hash_key, item.range_key) for item in items)
            while batch := list(islice(keys, MAX_DELETE_KEYS)):
                yield batch

    under_way: set[Future[int]] = set()
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="delete") as pool:
        for batch in batches():
            under_way.add(pool.submit(_remove_batch, stored, batch))
            if len(under_way) >= 2 * CONNECTIONS:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in under_way)


def remove_leftovers(inventories: Iterable[Inventory], check: Callable[[], None]) -> int:
    """Remove every item of a calculation that its content does not have; gives their number.

    Nothing that the content has is touched, so that this may be ended and repeated at any moment.

    Parameters
    ----------
    inventories : iterable of Inventory
        What the content has, one a part; of a part that it does not have, an empty one.
    check : callable
        Called after every batch; what it raises ends the removal.
    """
    removed = 0
    for inventory in inventories:
        items = inventory.stored.everything(inventory.places, keys_only=True)
        for number in remove_items(inventory.stored, (item for item in items if inventory.find(item) is None)):
            removed += number
            check()
    return removed


def _remove_batch(stored: StoredCurves, keys: list[Key]) -> int:
    stored.reader.delete(stored.table, stored.key_names, keys)
    return len(keys)
