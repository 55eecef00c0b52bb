"""Stores through the flow, as an operator starts them, with what their workers used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

from benchmarks.options import Options
from benchmarks.processes import Usage
from benchmarks.stores import local_store
from hazard_store.cli.runner import STORE, load_runner, run_store
from hazard_store.jobs import Silent, StoreReport, StoreRequest
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.settings import Settings

# Sites of 16 curves. DynamoDB Local takes some 150 `list` curves a second, whoever sends them.
LOCAL_SITES = {"list": 150, "packed": 3_000}


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """A Prefect server for the flows of this process and their workers, which find it in the environment."""
    with PrefectServer.start(home=home) as server:
        os.environ.update(PREFECT_API_URL=server.api_url, PREFECT_HOME=str(home))
        # As the command does, before anything else of Prefect is loaded: its console stays quiet.
        load_runner(STORE)
        from flows.server import send_the_last

        try:
            yield
        finally:
            send_the_last()


@dataclass(frozen=True)
class FlowRun:
    """How a store went, from the call of the flow to its report."""

    report: StoreReport
    seconds: float
    usage: Usage

    @property
    def items(self) -> int:
        return self.report.totals().items

    @property
    def items_per_sec(self) -> float:
        return self.items / self.seconds


def store(
    path: Path,
    workers: int,
    *,
    encoding: str = "packed",
    partition: str = "solution",
    max_wcu: float | None = None,
) -> FlowRun:
    """Store a calculation on local workers, in the store that the environment names."""
    request = StoreRequest(str(path), "BENCH", encoding=encoding, partition=partition, max_wcu=max_wcu)
    settings = Settings.from_environment()
    _forget_fork_server()
    with Usage() as usage:
        started = time.perf_counter()
        report = run_store(request, settings, "local", workers, Silent())
        seconds = time.perf_counter() - started
    if not report.complete:
        raise SystemExit(f"the store of the benchmark failed: {[o.error for o in report.failed]}")
    return FlowRun(report, seconds, usage)


def _forget_fork_server() -> None:
    """Let a run start as a command does: what the last one's workers were forked from has imported all there is."""
    from flows.forking import start_fork_server

    # As Python's own tests do; there is no public name for it.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    start_fork_server.cache_clear()


@cache
def on_local_store(options: Options, encoding: str, repetition: int) -> FlowRun:
    """Store `LOCAL_SITES` in a fresh DynamoDB Local: each repetition once, for all sections that look at it."""
    with local_store():
        return store(options.calculation(LOCAL_SITES[encoding]), options.workers, encoding=encoding)
