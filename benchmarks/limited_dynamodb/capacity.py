"""Write capacity as DynamoDB deals it out: token buckets of partitions and tables, and splits of what stays hot.

Pure: the time is an argument, so a test tells it. What is simplified: every hash key starts with a partition of its own
(the service may hold several in one), and a table's limit is fixed (on demand, the service raises it with the traffic).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

# A partition counts as throttled without a break while refusals come at least so often: clients back off for seconds.
HEAT_GAP_SECS = 5.0

# The split goes through the middle of the last so many sort keys asked for. A march along the sort keys has left that
# point behind when it is split there, so it gains nothing; writes that spread over the range gain half.
RECENT_KEYS = 512


@dataclass(frozen=True)
class Limits:
    """What a table may take.

    Parameters
    ----------
    partition_wcu, table_wcu : float
        Write units a second; the defaults are the service's, for a new table on demand.
    burst_secs : float
        For how long unused capacity is kept. The service keeps 300 s; with so much, a short run is never throttled.
    split_after_secs : float
        After how long a time of throttling a partition is split. Minutes in the service; ``inf`` never splits.
    """

    partition_wcu: float = 1_000.0
    table_wcu: float = 4_000.0
    burst_secs: float = 1.0
    split_after_secs: float = 60.0


class Bucket:
    """Tokens that come at a steady rate and are kept for `burst_secs`; it starts full unless told otherwise."""

    __slots__ = ("_capacity", "_rate", "_refilled_at", "tokens")

    def __init__(self, rate: float, burst_secs: float, now: float, tokens: float | None = None) -> None:
        self._rate = rate
        self._capacity = rate * burst_secs
        self._refilled_at = now
        self.tokens = self._capacity if tokens is None else tokens

    def has(self, wcu: float, now: float) -> bool:
        """Whether `wcu` can be spent. A full bucket takes any item: larger ones would wait for ever."""
        if now > self._refilled_at:
            self.tokens = min(self._capacity, self.tokens + (now - self._refilled_at) * self._rate)
            self._refilled_at = now
        return self.tokens >= min(wcu, self._capacity)

    def spend(self, wcu: float) -> None:
        """Take `wcu` out, below zero if need be."""
        self.tokens -= wcu


class Partition:
    """A hash key's items from sort key `start` to the next partition's start."""

    __slots__ = ("bucket", "hot_since", "last_refused_at", "recent", "start", "throttled_items", "wcu")

    def __init__(self, start: str, bucket: Bucket) -> None:
        self.start = start
        self.bucket = bucket
        self.wcu = 0.0
        self.throttled_items = 0
        self.hot_since = self.last_refused_at = float("-inf")
        self.recent: deque[str] = deque(maxlen=RECENT_KEYS)

    def refuse(self, now: float) -> float:
        """Count a refusal; gives for how long it has been hot."""
        if now - self.last_refused_at > HEAT_GAP_SECS:
            self.hot_since = now
        self.last_refused_at = now
        self.throttled_items += 1
        return now - self.hot_since

    def split_key(self) -> str | None:
        """Where to split: the middle of what was asked for lately, None where that is one key only."""
        keys = sorted(self.recent)
        middle = keys[len(keys) // 2] if keys else self.start
        return middle if keys and middle > max(self.start, keys[0]) else None


class TableCapacity:
    """The buckets of one table.

    Attributes
    ----------
    throttled_by_table : int
        Refusals by the table's own limit; those of the partitions stand with them.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._bucket = Bucket(limits.table_wcu, limits.burst_secs, now)
        self._partitions: dict[str, list[Partition]] = {}
        self._starts: dict[str, list[str]] = {}
        self.wcu = 0.0
        self.throttled_by_table = 0
        self.splits = 0

    def take(self, hash_key: str, range_key: str, wcu: float, now: float) -> bool:
        """Spend `wcu` for one item, or refuse it: both its partition and the table must have them."""
        partition = self._find(hash_key, range_key, now)
        partition.recent.append(range_key)
        if not partition.bucket.has(wcu, now):
            if partition.refuse(now) >= self._limits.split_after_secs:
                self._split(hash_key, partition, now)
            return False
        if not self._bucket.has(wcu, now):
            self.throttled_by_table += 1
            return False
        partition.bucket.spend(wcu)
        self._bucket.spend(wcu)
        partition.wcu += wcu
        self.wcu += wcu
        return True

    def partitions(self) -> list[tuple[str, Partition]]:
        """Every partition with its hash key, in order."""
        return [(hash_key, one) for hash_key, parts in self._partitions.items() for one in parts]

    def _find(self, hash_key: str, range_key: str, now: float) -> Partition:
        parts = self._partitions.get(hash_key)
        if parts is None:
            bucket = Bucket(self._limits.partition_wcu, self._limits.burst_secs, now)
            parts = self._partitions[hash_key] = [Partition("", bucket)]
            self._starts[hash_key] = [""]
        if len(parts) == 1:
            return parts[0]
        # Text sorts by code point in Python and by UTF-8 byte in DynamoDB, which is the same order.
        return parts[bisect_right(self._starts[hash_key], range_key) - 1]

    def _split(self, hash_key: str, partition: Partition, now: float) -> None:
        key = partition.split_key()
        partition.hot_since = now
        if key is None:
            return
        partition.recent.clear()
        tokens = partition.bucket.tokens / 2
        partition.bucket.tokens = tokens
        upper = Partition(key, Bucket(self._limits.partition_wcu, self._limits.burst_secs, now, tokens))
        parts = self._partitions[hash_key]
        parts.insert(parts.index(partition) + 1, upper)
        self._starts[hash_key] = [one.start for one in parts]
        self.splits += 1
