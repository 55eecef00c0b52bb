"""How close stores come to what a table allows, on the capacity-limited DynamoDB of ``benchmarks/limited_dynamodb``.

Its limits are those of a new table on demand (4,000 WCU/s, 1,000 a partition), and it answers in 8 ms. For each layout
and number of workers:

- how much of the WCU/s that the limits allow was written, from 10 s after the first curve until fewer chunks are left
  than the workers store at the same time;
- the share of requests that were throttled, in whole or in part, of the whole run;
- the largest mean of WCU/s over 5 s, and what that is of ``--max-wcu``.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.limited_dynamodb import LimitedDynamoDb
from benchmarks.options import Options, table
from benchmarks.stores import limited_store
from hazard_store.jobs import ChunkOutcome, Silent, StorePlan, StoreRequest
from hazard_store.planning import CHUNKS_AT_ONCE, ITEMS_PER_CHUNK
from hazard_store.wording import count

NAME = "limits"
TITLE = "Against the limits of a table"

PARTITION_WCU, TABLE_WCU, LATENCY_MS = 1_000.0, 4_000.0, 8.0
STARTING_SECS, WINDOW_SECS = 10, 5
N_RLZS = 12


@dataclass(frozen=True)
class Run:
    """One store: what of, how, and for about how long."""

    partition: str
    workers: int
    max_wcu: float | None = None
    split_after_secs: float = 0.0

    @property
    def name(self) -> str:
        return (
            f"{self.partition}, {count(self.workers, 'worker')}"
            + (f", --max-wcu {self.max_wcu:g}" if self.max_wcu else "")
            + (f", split after {self.split_after_secs:g} s" if self.split_after_secs else "")
        )

    @property
    def wcu(self) -> float:
        """What the store takes: more chunks than are stored at the same time, or what a low limit allows."""
        if self.max_wcu:
            return SECS * self.max_wcu
        if self.partition == "solution" and not self.split_after_secs:
            return ONE_PARTITION_SECS * PARTITION_WCU
        return MANY_CHUNKS * ITEMS_PER_CHUNK * WCU_PER_ITEM


RUNS = (
    Run("location", 2),
    Run("solution", 2),
    Run("solution", 2, split_after_secs=5.0),
    Run("location", 2, max_wcu=1_500.0),
)
MORE_RUNS = (
    Run("location", 4),
    Run("solution", 1),
    Run("solution", 4, split_after_secs=5.0),
    Run("location", 1, max_wcu=1_500.0),
    Run("location", 4, max_wcu=1_500.0),
)
# Each store writes so many chunks, or for about so long. The rate probes a partition's limit and gives way again every
# few seconds: a mean over one such wave says little.
MANY_CHUNKS = 15
SECS, ONE_PARTITION_SECS = 22.0, 34.0
WCU_PER_ITEM = 2.0


class Ends(Silent):
    """When the run's chunks ended."""

    def __init__(self) -> None:
        self.chunks = 0
        self.ended_at: list[float] = []

    def begin(self, plan: StorePlan) -> None:
        self.chunks = len(plan.todo)

    def advance(self, outcome: ChunkOutcome) -> None:
        if outcome.part != "meta":
            self.ended_at.append(time.monotonic())

    def until(self, at_once: int) -> float:
        """When fewer chunks were left than are stored at once, or the first ended where there never were so many."""
        return self.ended_at[max(0, self.chunks - at_once)]


class Watch:
    """Looks every second at what the limits allow: a hash key has as many thousands as it has partitions."""

    def __init__(self, store: LimitedDynamoDb, partition: str) -> None:
        self.allowed: dict[int, float] = {}
        self._store = store
        self._partition = partition
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            counts = self._store.counts()
            curves = [table for name, table in counts["tables"].items() if "Packed" in name]
            partitions = max((table["partition_count"] for table in curves), default=1)
            allowed = PARTITION_WCU * partitions if self._partition == "solution" else TABLE_WCU
            self.allowed[int(counts["uptime_secs"])] = min(allowed, TABLE_WCU)


def evaluate(run: Run, counts: Mapping[str, Any], allowed: Mapping[int, float], last: int) -> dict[str, float]:
    """Read off a run's figures from the proxy's counters a second; all workers had work until second `last`."""
    wcu = {second["second"]: second["wcu"] for second in counts["history"]}
    # The meta and the ledger write some units before and after the curves.
    first = min(second for second, units in wcu.items() if units > 100)
    steady = range(first + STARTING_SECS, last)
    may = [allowed[second] for second in steady]
    windows = [sum(wcu.get(s, 0.0) for s in range(start, start + WINDOW_SECS)) for start in range(first, max(wcu) + 1)]
    requests = counts["requests"]["BatchWriteItem"]
    throttled = counts["throttled_requests"] + counts["partial_requests"]
    figures = {
        "steady_secs": len(steady),
        "wcu_per_sec": round(sum(wcu.get(second, 0.0) for second in steady) / max(1, len(steady)), 1),
        "throttled_requests": round(throttled / requests, 4),
        "largest_5s_wcu_per_sec": round(max(windows) / WINDOW_SECS, 1),
    }
    if run.max_wcu:
        figures["largest_5s_over_max_wcu"] = round(max(windows) / WINDOW_SECS / run.max_wcu, 3)
    else:
        figures["share_of_allowed"] = round(sum(wcu.get(second, 0.0) for second in steady) / max(1.0, sum(may)), 3)
    return figures


def measure(options: Options) -> dict[str, Any]:
    """Give the figures of each run, and the WCU of each second of its stores."""
    rows, histories = [], {}
    for run in (*RUNS, *MORE_RUNS) if options.full else RUNS:
        n_sites = 100 * round(run.wcu / WCU_PER_ITEM / N_RLZS / 100)
        source = options.calculation(n_sites, with_stats=False)
        measured = [_store(run, source) for _ in range(options.repeat)]
        medians = {name: statistics.median(one[name] for one in measured) for name in measured[0] if name != "history"}
        rows.append({"store": run.name} | medians)
        histories[run.name] = [one["history"] for one in measured]
    return {"rows": rows, "histories": histories}


def to_markdown(result: dict[str, Any]) -> str:
    columns = {
        "store": "`packed` store",
        "wcu_per_sec": "WCU/s after 10 s",
        "share_of_allowed": "of what the limits allow",
        "throttled_requests": "requests throttled",
        "largest_5s_over_max_wcu": "largest 5 s, of --max-wcu",
    }
    rows = [[row.get(name) for name in columns] for row in result["rows"]]
    return (
        f"{PARTITION_WCU:,.0f} WCU/s a partition, {TABLE_WCU:,.0f} a table, {LATENCY_MS:g} ms median latency. "
        "`location` may have the whole table, `solution` one partition until DynamoDB splits it.\n\n"
        + table(list(columns.values()), rows)
    )


def _store(run: Run, source: Path) -> dict[str, Any]:
    """Store one calculation, and give the run's figures."""
    from flows.store_hazard import run as run_flow

    with limited_store(
        partition_wcu=PARTITION_WCU,
        table_wcu=TABLE_WCU,
        latency_ms=LATENCY_MS,
        split_after_secs=run.split_after_secs,
    ) as (_, store):
        store.reset()
        reset_at, ends = time.monotonic(), Ends()
        request = StoreRequest(str(source), "LIMITS", partition=run.partition, max_wcu=run.max_wcu)
        began = time.monotonic()
        with Watch(store, run.partition) as watch:
            report = run_flow(request, "local", run.workers, ends)
        seconds = time.monotonic() - began
        full_secs = int(ends.until(CHUNKS_AT_ONCE) - reset_at)
        counts = store.counts()
    if not report.complete:
        raise SystemExit(f"{run.name}: the store failed: {[o.error for o in report.failed]}")
    totals = report.totals()
    return evaluate(run, counts, watch.allowed, full_secs) | {
        "items": totals.items,
        "wcu_per_item": round(totals.wcu / totals.items, 2),
        "seconds": round(seconds, 1),
        "latency_p50_ms": round(1e3 * totals.latency_secs(0.5), 1),
        "history": [round(second["wcu"]) for second in counts["history"]],
    }
