"""The matrix: all scenarios, run side by side where they do not disturb each other, and their table."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.chaos import crashes, network, report, store_faults
from tests.chaos.arena import Arena, own_arena
from tests.chaos.processes import RestartableServer
from tests.chaos.report import Row

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"

# Stores under faults wait most of their time for the next attempt.
FAULT_LANES = 3


def run(name: str, scenario: Callable[[Arena, Row], Any], where: Arena) -> Row:
    """Run one; what it raises is a problem of its row, and the others run all the same."""
    row = Row(name)
    began = time.monotonic()
    try:
        scenario(where, row)
    except Exception as exc:
        row.problems.append(f"{type(exc).__name__}: {exc}")
    row.seconds = time.monotonic() - began
    return row


def run_store_faults(name: str, where: Arena) -> Row:
    """Run one in a process of a pool: it changes settings of its whole process."""
    # That the ledger was not told how far a chunk is, is what was asked for here.
    logging.getLogger("hazard_store").setLevel(logging.ERROR)
    return run(name, store_faults.scenarios()[name], where)


def main() -> int:
    """Run what the command line names; 1 if anything was not as promised."""
    servers: list[RestartableServer] = []

    def server() -> RestartableServer:
        if not servers:
            servers.append(RestartableServer(Path(home) / "prefect-server"))
        return servers[0]

    faults = store_faults.scenarios()
    kills = crashes.scenarios(server) | network.scenarios(server)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="scenarios whose name holds this text")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    wanted = [name for name in (*faults, *kills) if any(text in name for text in arguments.only or [""])]
    if not wanted:
        parser.error(f"no such scenario; there are: {'; '.join((*faults, *kills))}")
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-") as home, own_arena(Path(home), arguments.seed) as where:
        try:
            # What kills and restarts shared services takes its turn, beside what only meets faults.
            with (
                ProcessPoolExecutor(FAULT_LANES, multiprocessing.get_context("spawn")) as processes,
                ThreadPoolExecutor(1) as killing,
                ThreadPoolExecutor(1) as restarting,
            ):
                futures: list[Future[Row]] = [
                    processes.submit(run_store_faults, name, where)
                    if name in faults
                    else (killing if name in crashes.ALONE else restarting).submit(run, name, kills[name], where)
                    for name in wanted
                ]
                for future in as_completed(futures):
                    row = future.result()
                    rows[row.scenario] = row
                    print(
                        f"{'ok ' if row.ok else 'BAD'} {row.seconds:6.1f} s  {row.scenario}: {row.ending}", flush=True
                    )
                    for problem in row.problems:
                        print(f"      {problem}", flush=True)
        finally:
            for one in servers:
                one.server.stop()
    ordered = [rows[name] for name in wanted]
    print(f"\nseed {arguments.seed}\n\n{report.table(ordered)}")
    report.write(ordered, arguments.seed, arguments.results)
    return 0 if all(row.ok for row in ordered) else 1
