"""Store a synthetic calculation through the flow, and compare with what the team had, in one run on one machine.

``make bench`` runs it; ``benchmarks/results/store.json`` takes what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.baseline import pynamodb_lists_curves_per_sec  # noqa: E402
from benchmarks.synthetic import write_calculation  # noqa: E402
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal  # noqa: E402
from hazard_store.local.prefect_server import PrefectServer  # noqa: E402
from hazard_store.settings import Settings  # noqa: E402
from hazard_store.storage.tables import create_tables  # noqa: E402
from hazard_store.storing import Silent, StoreRequest  # noqa: E402

RESULTS = Path(__file__).parent / "results"


class WorkerMemory:
    """The largest resident set that any process below this one that runs Dask ever had."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> WorkerMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "spawn_main" in " ".join(process.cmdline()):
                        self.peak_mb = max(self.peak_mb, process.memory_info().rss / 2**20)
                except psutil.Error:
                    continue


@contextmanager
def fresh_store() -> Iterator[Settings]:
    """A database that holds nothing yet: DynamoDB Local slows down as its memory fills."""
    with DynamoDbLocal.start(max_heap_mb=4096) as database:
        os.environ.update(LOCAL_CREDENTIALS, HAZARD_STORE_ENDPOINT=database.endpoint, HAZARD_STORE_STAGE="BENCH")
        settings = Settings.from_environment()
        create_tables(settings)
        yield settings


def baseline(path: Path, curves: int) -> float:
    with fresh_store() as settings:
        return pynamodb_lists_curves_per_sec(path, settings, curves)


def through_the_flow(path: Path, encoding: str, workers: int) -> dict[str, float]:
    from flows.store_hazard import run

    with fresh_store(), WorkerMemory() as memory:
        started = time.perf_counter()
        report = run(StoreRequest(str(path), "BENCH", encoding=encoding), "local", workers, Silent())
        seconds = time.perf_counter() - started
    if not report.complete:
        raise SystemExit(f"the store of the benchmark failed: {[o.error for o in report.failed]}")
    totals = report.totals()
    return {
        "curves": totals.items,
        "seconds": round(seconds, 1),
        "curves_per_sec": round(totals.items / seconds, 1),
        "wcu_per_curve": round(totals.wcu / totals.items, 2),
        "worker_peak_mb": round(memory.peak_mb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=11_500)
    parser.add_argument("--list-sites", type=int, default=150, help="`list` items cost the local database much more")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--baseline-curves", type=int, default=600)
    arguments = parser.parse_args()
    results: dict[str, Any] = vars(arguments).copy()
    with tempfile.TemporaryDirectory(prefix="hazard-store-bench-") as scratch:
        path, small = Path(scratch) / "calc_1.hdf5", Path(scratch) / "calc_2.hdf5"
        print(f"writing {arguments.sites} sites x 12 realisations x 27 IMTs x 44 levels", flush=True)
        write_calculation(path, arguments.sites)
        write_calculation(small, arguments.list_sites)
        with PrefectServer.start(home=Path(scratch)) as server:
            os.environ.update(PREFECT_API_URL=server.api_url, PREFECT_HOME=scratch)
            results["pynamodb_lists_curves_per_sec"] = round(baseline(path, arguments.baseline_curves), 1)
            results["packed"] = through_the_flow(path, "packed", arguments.workers)
            results["list"] = through_the_flow(small, "list", arguments.workers)
    for encoding in ("packed", "list"):
        ratio = results[encoding]["curves_per_sec"] / results["pynamodb_lists_curves_per_sec"]
        results[encoding]["times_pynamodb_lists"] = round(ratio, 1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "store.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
