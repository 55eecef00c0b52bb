"""What the proxy did: counters that ``GET /counts`` gives as JSON."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from benchmarks.limited_dynamodb.capacity import TableCapacity

# A run by location has a partition a bin; of more than that, those with the most write units tell enough.
MAX_PARTITIONS = 200


class Counts:
    """Counters of requests, items and write units, and how they went over time.

    Attributes
    ----------
    items, wcu : numbers
        Writes that were let through, and what they cost. Where a fault hides the answer they count all the same.
    throttled_requests, partial_requests, throttled_items : int
        Refused for want of capacity: whole requests, batches in part, and items. Injected faults are not in these.
    """

    def __init__(self, now: float) -> None:
        self._started = now
        self._cpu_at_start = time.process_time()
        self.requests: Counter[str] = Counter()
        self.items = 0
        self.wcu = 0.0
        self.throttled_requests = 0
        self.partial_requests = 0
        self.throttled_items = 0
        self.target_errors = 0
        self._history: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0, 0, 0])

    def add_writes(self, now: float, wcu: float, items: int, throttled: int) -> None:
        """Count one write request by what became of its items."""
        self.items += items
        self.wcu += wcu
        self.throttled_items += throttled
        self.throttled_requests += not items
        self.partial_requests += bool(items and throttled)
        second = self._history[int(now - self._started)]
        second[0] += wcu
        second[1] += items
        second[2] += throttled
        second[3] += 1

    def to_json(self, now: float, tables: Mapping[str, TableCapacity], faults: Mapping[str, int]) -> dict[str, Any]:
        """Give all counters; `second` in the history counts from the start or the last reset."""
        history = [
            {"second": second, "wcu": wcu, "items": items, "throttled_items": throttled, "requests": requests}
            for second, (wcu, items, throttled, requests) in sorted(self._history.items())
        ]
        return {
            "uptime_secs": round(now - self._started, 3),
            "cpu_secs": round(time.process_time() - self._cpu_at_start, 3),
            "requests": dict(self.requests),
            "items": self.items,
            "wcu": self.wcu,
            "throttled_requests": self.throttled_requests,
            "partial_requests": self.partial_requests,
            "throttled_items": self.throttled_items,
            "target_errors": self.target_errors,
            "faults": dict(faults),
            "history": history,
            "tables": {name: _table_to_json(table) for name, table in tables.items()},
        }


def _table_to_json(table: TableCapacity) -> dict[str, Any]:
    partitions = table.partitions()
    largest = sorted(partitions, key=lambda one: -one[1].wcu)[:MAX_PARTITIONS]
    return {
        "wcu": table.wcu,
        "throttled_by_table": table.throttled_by_table,
        "splits": table.splits,
        "partition_count": len(partitions),
        "partitions": [
            {"hash_key": key, "from": one.start, "wcu": one.wcu, "throttled_items": one.throttled_items}
            for key, one in largest
        ],
    }
