"""Stores through the flow, as an operator starts them, with what their workers used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Usage
from hazard_store.jobs import Silent, StoreReport, StoreRequest


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
    from flows.store_hazard import run

    request = StoreRequest(str(path), "BENCH", encoding=encoding, partition=partition, max_wcu=max_wcu)
    with Usage() as usage:
        started = time.perf_counter()
        report = run(request, "local", workers, Silent())
        seconds = time.perf_counter() - started
    if not report.complete:
        raise SystemExit(f"the store of the benchmark failed: {[o.error for o in report.failed]}")
    return FlowRun(report, seconds, usage)
