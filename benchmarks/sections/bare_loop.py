"""The flow against a bare loop that sends prebuilt bodies to the same store with as many processes.

The loop's requests are the flow's, in the flow's order: that spreads writes for DynamoDB's sake, and DynamoDB Local
takes 2 % longer for it (by hand, two pairs of runs) than in the file's. It reads nothing, encodes nothing, keeps no
ledger, and has no cluster to start: what it reaches is what the store takes from this machine. Processor time by
process says where the rest goes.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice, zip_longest
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks import flow_runs
from benchmarks.options import Options, table
from benchmarks.processes import DATABASE, SELF, SERVER, WORKERS, Usage
from benchmarks.sections.worker_cost import ready_bodies
from benchmarks.stores import local_store
from hazard_store import chunks
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.ledger import META_CHUNK, Ledger
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.oq import Calculation, open_calculation
from hazard_store.planning import BLOCK_BYTES, CHUNKS_AT_ONCE, Chunk, chunks_a_worker, plan_chunks, spread_chunks
from hazard_store.settings import Settings
from hazard_store.storage.connection import ReadyBodyClient
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.models import table_name
from hazard_store.storage.spreading import WINDOW_BYTES, spread

NAME = "bare_loop"
TITLE = "Against a bare loop"

# The team's calculation, and by `--full` one of a million items: of a long run, its start is the smaller part.
SITES, FULL_SITES = (11_500,), (11_500, 62_500)
LAYOUT = LAYOUTS["packed+solution"]
CONNECTIONS = 3
IDLE = "idle"


def measure(options: Options) -> dict[str, Any]:
    """Give items a second and processor time of both by size, on a fresh DynamoDB Local each."""
    sizes = []
    for n_sites in FULL_SITES if options.full else SITES:
        path = options.calculation(n_sites)
        sizes.append(options.medians(partial(_compare, path, options.workers)))
    return {"sizes": sizes}


def _compare(path: Path, workers: int) -> dict[str, float]:
    with local_store() as settings:
        loop = send_prebuilt(path, settings, workers)
    with local_store() as settings:
        run = flow_runs.store(path, workers)
        writing_secs = _writing_secs(settings)
    return {
        "items": loop.items,
        "loop_items_per_sec": loop.items / loop.seconds,
        "flow_items_per_sec": run.items_per_sec,
        "flow_secs": run.seconds,
        "share": run.items_per_sec / (loop.items / loop.seconds),
        "writing_items_per_sec": run.items / writing_secs,
        "writing_share": loop.seconds / writing_secs,
        "worker_peak_mb": run.usage.peak_mb,
        **_costs("loop", loop.items, loop.seconds, loop.usage),
        **_costs("flow", run.items, run.seconds, run.usage),
    }


def to_markdown(result: dict[str, Any]) -> str:
    return "\n\n".join(_size_to_markdown(size) for size in result["sizes"])


def _size_to_markdown(result: dict[str, float]) -> str:
    rates = [
        ("bare loop", round(result["loop_items_per_sec"]), None),
        ("the flow, from its call to its report", round(result["flow_items_per_sec"]), round(result["share"], 3)),
        (
            "the flow, from its first chunk's begin to the last one's end",
            round(result["writing_items_per_sec"]),
            round(result["writing_share"], 3),
        ),
    ]
    costs = [
        (role, *(round(result.get(f"{who}: {role}", 0.0)) for who in ("loop", "flow")))
        for role in (DATABASE, WORKERS, SELF, SERVER, IDLE)
    ]
    return (
        f"{result['items']:,.0f} `packed` items to DynamoDB Local; the flow took {result['flow_secs']:.0f} s, a worker "
        f"at most {result['worker_peak_mb']:.0f} MB.\n\n"
        + table(("", "items/s", "of the bare loop"), rates)
        + "\n\nWhere the processor time goes, of all cores (the flow's starts included):\n\n"
        + table(("us an item", "bare loop", "the flow"), costs)
    )


def _costs(who: str, items: int, seconds: float, usage: Usage) -> dict[str, float]:
    """Give microseconds of processor time an item by process, and those that no process used."""
    secs = usage.cpu_secs | {IDLE: (os.cpu_count() or 1) * seconds - sum(usage.cpu_secs.values())}
    return {f"{who}: {role}": used / items * 1e6 for role, used in secs.items()}


@dataclass(frozen=True)
class Loop:
    """How the bare loop went, from the first request to the last answer."""

    items: int
    seconds: float
    usage: Usage


def _writing_secs(settings: Settings) -> float:
    """Seconds from the first chunk's begin to the last one's end, of which the ledger knows."""
    records = [
        record
        for chunk_id, record in Ledger(settings).chunks("BENCH", LAYOUT).items()
        if chunk_id != META_CHUNK and record.ended
    ]
    began = min(datetime.fromisoformat(record.started) for record in records)
    ended = max(datetime.fromisoformat(record.ended) for record in records if record.ended)
    return (ended - began).total_seconds()


def send_prebuilt(path: Path, settings: Settings, n_processes: int, layout: Layout = LAYOUT) -> Loop:
    """Send all curves of a calculation from some processes."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(n_processes + 1)
    with open_calculation(path) as calculation:
        items = sum(len(calculation.sites) * calculation.number_of(part) for part in CURVE_PARTS)
    processes = [
        context.Process(target=_send_share, args=(path, settings, number, n_processes, layout, ready))
        for number in range(n_processes)
    ]
    for process in processes:
        process.start()
    ready.wait()
    with Usage() as usage:
        started = time.perf_counter()
        for process in processes:
            process.join()
        seconds = time.perf_counter() - started
    if any(process.exitcode for process in processes):
        raise SystemExit("a process of the bare loop failed")
    return Loop(items, seconds, usage)


def _send_share(path: Path, settings: Settings, number: int, n_processes: int, layout: Layout, ready: Barrier) -> None:
    everything = (body for part in CURVE_PARTS for body in _bodies(path, settings, part, n_processes, layout))
    bodies = iter(list(islice(everything, number, None, n_processes)))
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


def _bodies(path: Path, settings: Settings, part: CurvePart, n_processes: int, layout: Layout) -> Iterator[bytes]:
    """Make the flow's requests, in about the order in which its workers send them."""
    table_ = table_name(layout.table_base(part), settings)
    with open_calculation(path) as calculation:
        plan = spread_chunks(plan_chunks(len(calculation.sites), {part: calculation.number_of(part)}))
        for first in range(0, len(plan), CHUNKS_AT_ONCE):
            some = plan[first : first + CHUNKS_AT_ONCE]
            under_way = [_chunk_bodies(calculation, chunk, table_, n_processes, layout) for chunk in some]
            for turn in zip_longest(*under_way):
                yield from (body for body in turn if body is not None)


def _chunk_bodies(
    calculation: Calculation, chunk: Chunk, table_: str, n_processes: int, layout: Layout
) -> Iterator[bytes]:
    at_once = chunks_a_worker(n_processes)
    for block in chunks.read_blocks(calculation, "BENCH", chunk, Metrics(), BLOCK_BYTES // at_once):
        items = layout.encoding.encode(block, layout.partition)
        yield from ready_bodies(table_, list(spread(items, WINDOW_BYTES // at_once)))
