"""What a write cost, in numbers that add up: per batch, per chunk, per part, per run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

# Latencies are counted in buckets a quarter of an octave apart, so that metrics of many workers add up exactly and a
# percentile is right to about 9 %.
_BUCKETS_PER_OCTAVE = 4


@dataclass
class Metrics:
    """Counters of a write. Adding two gives the counters of both.

    Attributes
    ----------
    items, item_bytes : int
        Items acknowledged, and the bytes of their request bodies.
    wcu : float
        Write units as DynamoDB reported them.
    reading_secs, encoding_secs, writing_secs : float
        Time in each of the three; writing is summed over the connections, which overlap.
    seconds : float
        Wall time of the chunk.
    requests, retries, throttles : int
        Requests sent; how many were repeats; how many answers said to slow down, in whole or in part.
    source_bytes : int
        Bytes that came from S3; 0 where the source is a file of the worker's machine.
    latency_buckets : dict of int to int
        Requests by latency; see ``latency_secs``.
    """

    items: int = 0
    item_bytes: int = 0
    wcu: float = 0.0
    reading_secs: float = 0.0
    encoding_secs: float = 0.0
    writing_secs: float = 0.0
    seconds: float = 0.0
    requests: int = 0
    retries: int = 0
    throttles: int = 0
    source_bytes: int = 0
    latency_buckets: dict[int, int] = field(default_factory=dict)

    def observe_latency(self, latency_secs: float) -> None:
        """Count one request."""
        bucket = _bucket(latency_secs)
        self.latency_buckets[bucket] = self.latency_buckets.get(bucket, 0) + 1

    def latency_secs(self, quantile: float) -> float:
        """Give the latency below which the share `quantile` of requests stayed; 0.0 without requests."""
        total = sum(self.latency_buckets.values())
        seen = 0
        for bucket in sorted(self.latency_buckets):
            seen += self.latency_buckets[bucket]
            if seen >= quantile * total:
                return float(2.0 ** (bucket / _BUCKETS_PER_OCTAVE)) * 1e-6
        return 0.0

    def add(self, other: Metrics) -> None:
        """Add another's counters to these."""
        for name in (f.name for f in fields(self) if f.name != "latency_buckets"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for bucket, count in other.latency_buckets.items():
            self.latency_buckets[bucket] = self.latency_buckets.get(bucket, 0) + count

    @property
    def items_per_sec(self) -> float:
        """Items over wall time."""
        return self.items / self.seconds if self.seconds else 0.0

    def figures(self) -> dict[str, float]:
        """Give what events and the JSON of runs say of a write."""
        return {
            "items": self.items,
            "item_bytes": self.item_bytes,
            "wcu": self.wcu,
            "seconds": self.seconds,
            "items_per_sec": self.items_per_sec,
            "requests": self.requests,
            "retries": self.retries,
            "throttles": self.throttles,
            "source_bytes": self.source_bytes,
            "latency_p50_secs": self.latency_secs(0.5),
            "latency_p95_secs": self.latency_secs(0.95),
        }

    def summary(self) -> str:
        """One line for logs and task states: ``1,380 items, 2,760 WCU, 812 items/s, 3 retries``."""
        text = f"{self.items:,} items, {self.wcu:,.0f} WCU, {self.items_per_sec:,.0f} items/s, {self.retries:,} retries"
        return text + (f", {self.throttles:,} throttles" if self.throttles else "")


def _bucket(latency_secs: float) -> int:
    micros = max(latency_secs * 1e6, 1.0)
    # The upper edge of the bucket is reported, so a percentile is never told too short.
    return math.ceil(math.log2(micros) * _BUCKETS_PER_OCTAVE)
