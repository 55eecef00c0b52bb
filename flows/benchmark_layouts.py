"""Flow `benchmark_layouts`: the team's own comparison of layouts, on tables of its own, within a budget."""

from __future__ import annotations

from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows import layout_trials
from flows.fargate import end_cluster
from flows.layout_report import Trial
from flows.leftovers import end_leftovers
from flows.parameters import ClusterName, NamedSourceText, WcuPerSec, Workers

LayoutName = Literal["packed+solution", "packed+location", "list+solution", "list+location"]


@flow(
    name="benchmark_layouts",
    flow_run_name="benchmark {source}",
    persist_result=False,
    on_cancellation=[layout_trials.drop_tables_of_run, end_leftovers, end_cluster],
    on_crashed=[layout_trials.drop_tables_of_run, end_leftovers, end_cluster],
)
def benchmark_layouts(
    source: NamedSourceText,
    layouts: list[LayoutName] = ["packed+solution", "packed+location", "list+solution", "list+location"],  # noqa: B006 - the form shows it; nothing changes it
    workers: list[Workers] = [1, 2],  # noqa: B006 - likewise
    max_usd: Annotated[float, Field(gt=0)] = 0.05,
    max_sites: Annotated[int, Field(ge=1)] | None = 50,
    max_wcu: WcuPerSec | None = None,
    cluster: ClusterName = "local",
) -> State[list[Trial]]:
    """Store a calculation in several layouts with several numbers of workers, and say which is fastest and cheapest.

    Tables are made for the run, under a stage of its own, and dropped when it ends, however it ends.

    Args:
        source: Path of the datastore (calc_N.hdf5) or of a zip archive that holds one.
        layouts: Encoding and partition of each trial; packed+solution is the default of a store, list+solution the V2
            tables.
        workers: Numbers of workers to try; each of the layouts is stored with each of them. With the address of a Dask
            scheduler, the workers that it has count instead.
        max_usd: What all writes together may cost. A benchmark that would cost more is refused before anything is made.
        max_sites: Only the first so many sites are stored, so that it is quick and cheap; empty for all.
        max_wcu: Write units per second that each trial may use; empty for no limit.
        cluster: local (worker processes on this machine), none (in this process), fargate (on AWS), or the
            tcp://HOST:PORT of a Dask scheduler.
    """
    return layout_trials.benchmark(
        layout_trials.Wanted(
            source, tuple(dict.fromkeys(layouts)), tuple(workers), max_usd, max_sites, max_wcu, cluster
        )
    )
