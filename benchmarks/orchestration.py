"""What Prefect costs a store: states, logs, artifacts and events, against the same store without it.

The same file is stored chunk after chunk in one process, by turns without Prefect (what ``--cluster none`` does) and
as the flow with its tasks in that process, so that nothing differs but Prefect. ``make bench-prefect`` runs it;
``benchmarks/results/orchestration.json`` takes what it measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.flow_runs import prefect_server
from benchmarks.run import RESULTS
from benchmarks.stores import local_store
from benchmarks.synthetic import write_calculation
from hazard_store.jobs import Silent, StoreReport, StoreRequest
from hazard_store.storing import store_in_process

KINDS = 16


def timed_store(path: Path, *, through_prefect: bool) -> tuple[float, StoreReport]:
    """Seconds from the request to the report, on a database that holds nothing yet."""
    from flows.store_hazard import run

    request = StoreRequest(str(path), "BENCH")
    with local_store() as settings:
        started = time.perf_counter()
        report = run(request, "none", 1, Silent()) if through_prefect else store_in_process(request, settings)
        seconds = time.perf_counter() - started
    if not report.complete:
        raise SystemExit(f"the store of the benchmark failed: {[o.error for o in report.failed]}")
    return seconds, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=9_400, help=f"{KINDS} items each")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="hazard-store-bench-") as scratch:
        path, small = Path(scratch) / "calc_1.hdf5", Path(scratch) / "calc_2.hdf5"
        write_calculation(path, arguments.sites)
        write_calculation(small, 20)
        with prefect_server(Path(scratch)):
            # What is loaded and made once belongs to no run.
            timed_store(small, through_prefect=True)
            for pair in range(arguments.pairs):
                # The order alternates, so that a machine that slows down does not favour one of the two.
                for through_prefect in (False, True) if pair % 2 else (True, False):
                    seconds, report = timed_store(path, through_prefect=through_prefect)
                    times[through_prefect].append(seconds)
                    name = "with Prefect" if through_prefect else "without"
                    print(f"{name}: {report.totals().items:,} items in {seconds:.1f} s", flush=True)
    without, with_prefect = median(times[False]), median(times[True])
    results: dict[str, Any] = {
        "items": report.totals().items,
        "chunks": report.chunks,
        "seconds_without": [round(s, 2) for s in times[False]],
        "seconds_with": [round(s, 2) for s in times[True]],
        "median_without": round(without, 2),
        "median_with": round(with_prefect, 2),
        "cost_share": round(with_prefect / without - 1, 4),
        "cost_secs_per_chunk": round((with_prefect - without) / report.chunks, 3),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "orchestration.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
