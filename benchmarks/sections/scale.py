"""Time and memory from ten thousand to ten million items, against an endpoint that acknowledges without storing.

The curves are short (3 IMTs x 8 levels), so that ten million of them fit on a disk: what grows with their number is
what is looked for.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks import flow_runs
from benchmarks.options import Options, medians, table
from benchmarks.processes import WORKERS
from benchmarks.stores import acknowledging_store

NAME = "scale"
TITLE = "From 10,000 to 10,000,000 items"

N_RLZS = 12
SHAPE = {"n_imts": 3, "n_levels": 8, "with_stats": False}
RUNS = ((10_000, 2), (100_000, 2), (1_000_000, 2))
FULL_RUNS = (
    *RUNS,
    *((items, workers) for items in (10_000, 100_000, 1_000_000) for workers in (1, 4)),
    (10_000_000, 2),
)
MOST_REPEATED = 1_000_000


def measure(options: Options) -> dict[str, Any]:
    """Give time, processor time and memory by number of items and of workers."""
    rows = []
    for items, workers in FULL_RUNS if options.full else RUNS:
        path = options.calculation(round(items / N_RLZS), **SHAPE)
        # Once where it takes long: those are the runs whose noise is small.
        repeat = options.repeat if items <= MOST_REPEATED else 1
        rows.append({"workers": workers, **medians([_store(path, workers) for _ in range(repeat)])})
    return {"rows": rows, "repeat": options.repeat}


def _store(path: Path, workers: int) -> dict[str, float]:
    with acknowledging_store():
        run = flow_runs.store(path, workers)
    return {
        "items": run.items,
        "seconds": round(run.seconds, 1),
        "items_per_sec": round(run.items_per_sec),
        "worker_us_per_item": round(run.usage.cpu_secs[WORKERS] / run.items * 1e6, 1),
        "worker_peak_mb": round(run.usage.peak_mb),
        **_growth(run.usage.seen_mb),
    }


def _growth(seen: list[tuple[float, float]]) -> dict[str, float]:
    """Compare a worker's memory in the second quarter of a run with that in its last."""
    last = seen[-1][0]
    quarters = [[mb for at, mb in seen if q * last / 4 <= at < (q + 1) * last / 4 and mb] for q in (1, 3)]
    if not all(quarters):
        return {"early_mb": 0.0, "late_mb": 0.0}
    early, late = (statistics.median(quarter) for quarter in quarters)
    return {"early_mb": round(early), "late_mb": round(late)}


def to_markdown(result: dict[str, Any]) -> str:
    columns = {
        "items": "items",
        "workers": "workers",
        "seconds": "seconds",
        "items_per_sec": "items/s",
        "worker_us_per_item": "worker CPU an item, us",
        "worker_peak_mb": "peak memory, MB",
        "early_mb": "in the second quarter",
        "late_mb": "in the last",
    }
    # 0 stands for a quarter too short to have been looked at.
    rows = [[row[name] or None for name in columns] for row in result["rows"]]
    repeat = result.get("repeat", 1)
    runs = "One run each." if repeat == 1 else f"Medians of {repeat} up to {MOST_REPEATED:,} items, and one run beyond."
    return (
        "Against an endpoint that acknowledges everything and stores nothing, with short curves of "
        f"{SHAPE['n_imts']} IMTs x {SHAPE['n_levels']} levels. {runs}\n\n"
        "The whole flow; workers' processor time has their start in it, which is most of it at 10,000 items. Memory is "
        "that of the largest worker.\n\n"
        f"{table(list(columns.values()), rows)}"
    )
