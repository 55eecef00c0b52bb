"""How close stores come to what a table allows: ``python benchmarks/limits.py`` (eight minutes).

Stores a synthetic calculation through the flow, on the capacity-limited DynamoDB of ``benchmarks/limited_dynamodb``,
with the limits of a new table on demand (4,000 WCU/s, 1,000 a partition) and answers in 8 ms. Curves are acknowledged
without being stored. Printed and written to ``benchmarks/results/limits.json``, for each layout and number of workers:

- how much of the WCU/s that the limits allow was written, from 10 s after the first curve until the first worker has
  no chunk left to do;
- the share of requests that were throttled, in whole or in part, of the whole run;
- the largest mean of WCU/s over 5 s, and what that is of ``--max-wcu``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.limited_dynamodb import LimitedDynamoDb, limited_dynamodb  # noqa: E402
from benchmarks.synthetic import write_calculation  # noqa: E402
from hazard_store.jobs import ChunkOutcome, Silent, StorePlan, StoreRequest  # noqa: E402
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal  # noqa: E402
from hazard_store.local.prefect_server import PrefectServer  # noqa: E402
from hazard_store.settings import Settings  # noqa: E402
from hazard_store.storage.tables import create_tables  # noqa: E402

RESULTS = Path(__file__).parent / "results"

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
            f"{self.partition}, {self.workers} workers"
            + (f", --max-wcu {self.max_wcu:g}" if self.max_wcu else "")
            + (f", split after {self.split_after_secs:g} s" if self.split_after_secs else "")
        )

    @property
    def expected_wcu_per_sec(self) -> float:
        limit = TABLE_WCU if self.partition == "location" else PARTITION_WCU * (2 if self.split_after_secs else 1)
        return min(limit, self.max_wcu or limit)


RUNS = (
    Run("location", 2),
    Run("location", 4),
    Run("solution", 1),
    Run("solution", 2),
    Run("solution", 4, split_after_secs=5.0),
    Run("location", 1, max_wcu=1_500.0),
    Run("location", 2, max_wcu=1_500.0),
    Run("location", 4, max_wcu=1_500.0),
)


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

    def until(self, workers: int) -> float:
        """When a worker first had no chunk left."""
        return self.ended_at[max(0, self.chunks - workers)]


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
    """Read off a run's figures from the proxy's counters a second; all workers were busy until second `last`."""
    wcu = {second["second"]: second["wcu"] for second in counts["history"]}
    # The meta and the ledger write some units before and after the curves.
    first = min(second for second, units in wcu.items() if units > 100)
    steady = range(first + STARTING_SECS, last)
    may = [allowed.get(second, run.expected_wcu_per_sec) for second in steady]
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


@contextmanager
def fresh_store(run: Run) -> Iterator[LimitedDynamoDb]:
    limits = {"partition_wcu": PARTITION_WCU, "table_wcu": TABLE_WCU, "split_after_secs": run.split_after_secs}
    with (
        DynamoDbLocal.start() as database,
        limited_dynamodb(database.endpoint, acknowledge=True, latency_ms=LATENCY_MS, **limits) as store,
    ):
        os.environ.update(LOCAL_CREDENTIALS, HAZARD_STORE_ENDPOINT=store.endpoint, HAZARD_STORE_STAGE="LIMITS")
        create_tables(Settings.from_environment())
        yield store


def measure(run: Run, source: Path) -> dict[str, Any]:
    """Store one calculation, and give the run's figures."""
    from flows.store_hazard import run as run_flow

    with fresh_store(run) as store:
        store.reset()
        reset_at, ends = time.monotonic(), Ends()
        request = StoreRequest(str(source), "LIMITS", partition=run.partition, max_wcu=run.max_wcu)
        load_before, began = os.getloadavg()[0], time.monotonic()
        with Watch(store, run.partition) as watch:
            report = run_flow(request, "local", run.workers, ends)
        seconds = time.monotonic() - began
        full_secs = int(ends.until(run.workers) - reset_at)
        counts = store.counts()
    if not report.complete:
        raise SystemExit(f"{run.name}: the store failed: {[o.error for o in report.failed]}")
    totals = report.totals()
    figures = evaluate(run, counts, watch.allowed, full_secs)
    figures |= {
        "items": totals.items,
        "wcu_per_item": round(totals.wcu / totals.items, 2),
        "seconds": round(seconds, 1),
        "latency_p50_ms": round(1e3 * totals.latency_secs(0.5), 1),
        "load_before": round(load_before, 1),
    }
    return figures | {"history": [round(second["wcu"]) for second in counts["history"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secs", type=float, default=36.0, help="about how long each store writes")
    parser.add_argument("--wcu-per-item", type=float, default=2.0, help="to make calculations of the right size")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many stores")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--scratch", type=Path, help="keep the calculations there for another time")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"cores": os.cpu_count(), "runs": {}}
    with tempfile.TemporaryDirectory(prefix="hazard-store-limits-") as temporary:
        scratch = arguments.scratch or Path(temporary)
        with PrefectServer.start(home=Path(temporary)) as server:
            os.environ.update(PREFECT_API_URL=server.api_url, PREFECT_HOME=temporary)
            for run in RUNS:
                if arguments.only not in run.name:
                    continue
                items = arguments.secs * run.expected_wcu_per_sec / arguments.wcu_per_item
                source = scratch / f"calc_{round(items / N_RLZS / 100)}.hdf5"
                if not source.exists():
                    write_calculation(source, 100 * round(items / N_RLZS / 100), with_stats=False)
                measured = [measure(run, source) for _ in range(arguments.repeat)]
                medians = {
                    name: statistics.median(one[name] for one in measured) for name in measured[0] if name != "history"
                }
                results["runs"][run.name] = asdict(run) | medians | {"histories": [one["history"] for one in measured]}
                print(f"{run.name}: {json.dumps(medians)}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "limits.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
