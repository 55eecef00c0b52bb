"""The flow against a bare loop that sends prebuilt bodies to the same store with as many processes.

The loop reads nothing, encodes nothing, keeps no ledger, and has no cluster to start: what it reaches is what the store
takes from this machine.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks import flow_runs
from benchmarks.options import Options, table
from benchmarks.sections.worker_cost import ready_bodies
from benchmarks.stores import local_store
from hazard_store import chunks
from hazard_store.layouts import LAYOUTS
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.oq import open_calculation
from hazard_store.planning import Chunk
from hazard_store.settings import Settings
from hazard_store.storage.connection import ReadyBodyClient
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.models import table_name

NAME = "bare_loop"
TITLE = "Against a bare loop"

N_SITES = 6_000
# The team's calculation.
FULL_SITES = 11_500
CONNECTIONS = 3


def measure(options: Options) -> dict[str, Any]:
    """Give items a second of both, on a fresh DynamoDB Local each."""
    path = options.calculation(FULL_SITES if options.full else N_SITES)

    def both() -> dict[str, float]:
        with local_store() as settings:
            items, loop_secs = send_prebuilt(path, settings, options.workers)
        with local_store():
            run = flow_runs.store(path, options.workers)
        return {
            "items": items,
            "loop_items_per_sec": items / loop_secs,
            "flow_items_per_sec": run.items_per_sec,
            "flow_secs": run.seconds,
            "share": run.items_per_sec / (items / loop_secs),
            "worker_peak_mb": run.workers.peak_mb,
            "worker_cpu_us_per_item": run.workers.cpu_secs / run.items * 1e6,
        }

    return options.medians(both)


def to_markdown(result: dict[str, Any]) -> str:
    rows = [
        ("bare loop", round(result["loop_items_per_sec"]), None),
        ("the flow, whole run", round(result["flow_items_per_sec"]), round(result["share"], 2)),
    ]
    return (
        f"{result['items']:,.0f} `packed` items to DynamoDB Local; the flow took {result['flow_secs']:.0f} s, the "
        f"start of its Dask cluster included. A worker's peak memory was {result['worker_peak_mb']:.0f} MB.\n\n"
        + table(("", "items/s", "of the bare loop"), rows)
    )


def send_prebuilt(path: Path, settings: Settings, n_processes: int) -> tuple[int, float]:
    """Send all curves of a calculation from some processes; gives the items, and seconds from the first to the last."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(n_processes + 1)
    with open_calculation(path) as calculation:
        items = sum(len(calculation.sites) * calculation.number_of(part) for part in CURVE_PARTS)
    processes = [
        context.Process(target=_send_share, args=(path, settings, number, n_processes, ready))
        for number in range(n_processes)
    ]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - started
    if any(process.exitcode for process in processes):
        raise SystemExit("a process of the bare loop failed")
    return items, seconds


def _send_share(path: Path, settings: Settings, number: int, n_processes: int, ready: Barrier) -> None:
    bodies = iter([body for part in CURVE_PARTS for body in _bodies(path, settings, part, number, n_processes)])
    lock = threading.Lock()
    client = ReadyBodyClient(settings)

    def work() -> None:
        while True:
            with lock:
                body = next(bodies, None)
            if body is None:
                return
            if client.batch_write(body)["UnprocessedItems"]:
                raise SystemExit("DynamoDB Local left items unprocessed")

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    ready.wait()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _bodies(path: Path, settings: Settings, part: CurvePart, number: int, n_processes: int) -> list[bytes]:
    layout = LAYOUTS["packed+solution"]
    with open_calculation(path) as calculation:
        n_sites, kinds = len(calculation.sites), calculation.number_of(part)
        chunk = Chunk(part, n_sites * number // n_processes, n_sites * (number + 1) // n_processes, kinds)
        table_ = table_name(layout.table_base(part), settings)
        return [
            body
            for block in chunks.read_blocks(calculation, "BENCH", chunk, Metrics())
            for body in ready_bodies(table_, list(layout.encoding.encode(block, layout.partition)))
        ]
