"""What storing a calculation would take in each layout: chunks, items, write units, price and time; nothing is written.

A sample of the calculation's own curves goes through the encoders that a store uses. Its items are measured by
DynamoDB's size rules, and the processor time that they took here is what a worker is taken to need.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hazard_store import fargate
from hazard_store.chunks import RENEW_EVERY_SECS
from hazard_store.fargate import FargateWish, Recommendation
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.lease import RENEW_SECS
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.oq import Calculation
from hazard_store.pacing import AWS, LOCAL, START_UP, Pace, Target, Work, pace
from hazard_store.planning import Chunk, chunks_a_worker, plan_chunks
from hazard_store.prices import DEFAULT_USD_PER_MILLION_WCU
from hazard_store.sampling import MAX_SAMPLED_ITEMS, Measured, measure, sample
from hazard_store.settings import Settings
from hazard_store.storage.concurrency import connections_for
from hazard_store.storage.sender import MAX_BATCH_ITEMS

# What the client needs for one request besides what is measured: botocore's signing, connection and answer (process
# time of a store on DynamoDB Local less what is measured here, two cores, 2026-11).
REQUEST_CPU_SECS = 1.2e-3

# A Prefect task on Dask (docs/architecture.md), and a chunk's entries in the ledger.
TASK_SECS = 0.2

# A flow with a cluster of local processes, besides its chunks: 3.5 to 4.2 s before the first one is stored, whatever
# the number of workers, for they are forked from one process that imports; 0.3 s behind the last (four runs by hand of
# 96,000 items on DynamoDB Local, two cores).
STARTUP_SECS = 4.0

# Less processor time than this says nothing about how busy a machine is.
MIN_BUSY_CPU_SECS = 0.2
NOTABLY_BUSY = 1.1

# Write units beside the curves: the meta twice, the calculation's record and its lease, and two entries a chunk; the
# lease is renewed, and each worker's chunk tells the ledger how far it is, every few seconds.
BOOKKEEPING_WCU_OF_RUN = 10.0
BOOKKEEPING_WCU_OF_CHUNK = 3.0


@dataclass(frozen=True)
class LayoutEstimate:
    """What storing takes in one layout.

    Attributes
    ----------
    wcu : dict of part to float
        Of the curves, as runs report them.
    bookkeeping_wcu : float
        Of meta, ledger and lease, besides.
    seconds : float
        From the moment that the plan stands, as the reports of runs count; the start of a local cluster is in it.
    on_fargate : Recommendation, optional
        The cluster that should store it, where that was asked for.
    """

    wcu: dict[CurvePart, float]
    items: int
    item_bytes_mean: float
    bookkeeping_wcu: float
    usd: float
    seconds: float
    bound_by: str
    on_fargate: Recommendation | None = None

    @property
    def wcu_all(self) -> float:
        """Of all curves."""
        return sum(self.wcu.values())

    @property
    def wcu_per_item(self) -> float:
        """Mean over all curves."""
        return self.wcu_all / self.items if self.items else 0.0

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``hazard-store plan``."""
        return {
            "wcu": {**self.wcu, "all": self.wcu_all},
            "wcu_per_item": self.wcu_per_item,
            "item_bytes_mean": self.item_bytes_mean,
            "bookkeeping_wcu": self.bookkeeping_wcu,
            "usd": self.usd,
            "seconds": self.seconds,
            "bound_by": self.bound_by,
        }


@dataclass(frozen=True)
class Estimate:
    """What storing a calculation takes, by layout, and what that assumes."""

    chunks: tuple[Chunk, ...]
    layouts: dict[str, LayoutEstimate]
    workers: int
    usd_per_million_wcu: float
    sampled_items: int
    startup_secs: float
    assumptions: tuple[str, ...]
    fargate: FargateWish | None = None

    @property
    def items(self) -> dict[CurvePart, int]:
        """By part."""
        items: Counter[CurvePart] = Counter()
        for chunk in self.chunks:
            items[chunk.part] += chunk.items
        return dict(items)

    def to_json(self) -> dict[str, Any]:
        """The value of ``plan`` in the JSON of ``hazard-store plan``."""
        return {
            "chunks": dict(Counter(chunk.part for chunk in self.chunks)),
            "items": {**self.items, "all": sum(self.items.values())},
            "layouts": {name: one.to_json() for name, one in self.layouts.items()},
            "workers": self.workers,
            "usd_per_million_wcu": self.usd_per_million_wcu,
            "sampled_items": self.sampled_items,
            "startup_seconds": self.startup_secs,
            "assumptions": list(self.assumptions),
            "fargate": self._fargate_to_json(),
        }

    def _fargate_to_json(self) -> dict[str, Any] | None:
        if self.fargate is None:
            return None
        found = {name: (one.on_fargate, one.usd) for name, one in self.layouts.items()}
        return self.fargate.to_json() | {
            "layouts": {name: cluster.to_json(usd) for name, (cluster, usd) in found.items() if cluster is not None}
        }


TARGETS = {"aws": AWS, "local": LOCAL}


def target_of(settings: Settings) -> Target:
    """Give the database that a store of these settings writes to: AWS, or DynamoDB Local at any other endpoint."""
    return AWS if settings.endpoint is None or "amazonaws.com" in settings.endpoint else LOCAL


def connections_of(target: Target) -> int:
    """Give the requests that a worker has under way."""
    return connections_for(target.request_latency_secs, REQUEST_CPU_SECS)


def estimate(
    calculation: Calculation,
    haz_sol_id: str,
    *,
    target: Target,
    workers: int | None = None,
    max_wcu: float | None = None,
    layouts: Sequence[str] = tuple(LAYOUTS),
    usd_per_million_wcu: float = DEFAULT_USD_PER_MILLION_WCU,
    max_sites: int | None = None,
    max_sampled_items: int = MAX_SAMPLED_ITEMS,
    startup: float | None = None,
    on_fargate: FargateWish | None = None,
) -> Estimate:
    """Estimate what storing a calculation takes.

    Parameters
    ----------
    haz_sol_id : str
        The id counts in every item's size.
    workers : int, optional
        Worker processes, on the cores of this machine; by default one a core.
    max_wcu : float, optional
        Write units a second of the whole run.
    max_sites : int, optional
        Only the first so many sites.
    max_sampled_items : int
        Of each part.
    startup : float, optional
        Seconds before the first chunk; by default those of a flow with a local cluster.
    on_fargate : FargateWish, optional
        Which cluster to recommend; None for no recommendation.
    """
    cores = os.cpu_count() or 1
    workers = workers or cores
    n_sites = min(len(calculation.sites), max_sites or len(calculation.sites))
    curves_per_site: dict[CurvePart, int] = {
        part: calculation.number_of(part) for part in CURVE_PARTS if calculation.curves[part] is not None
    }
    chunks = tuple(plan_chunks(n_sites, curves_per_site))
    samples = {part: sample(calculation, haz_sol_id, part, n_sites, max_sampled_items) for part in curves_per_site}
    measured_of = {name: {part: measure(LAYOUTS[name], *one) for part, one in samples.items()} for name in layouts}
    busy = _busy([measured for parts in measured_of.values() for measured in parts.values()])
    starting = busy * STARTUP_SECS if startup is None else startup
    connections = connections_of(target)
    estimates = {}
    for name, measured in measured_of.items():
        layout = LAYOUTS[name]
        works = [_work(chunk, measured[chunk.part], busy, calculation, haz_sol_id, layout, target) for chunk in chunks]
        at_once = chunks_a_worker(workers)
        pacing = pace(
            works,
            target,
            workers=workers,
            cores=cores,
            connections=connections,
            chunks_a_worker=at_once,
            max_wcu=max_wcu,
        )
        told = pacing.seconds * (1 / RENEW_SECS + min(workers * at_once, len(chunks)) / RENEW_EVERY_SECS)
        found = _estimate_of(chunks, measured, pacing, starting, told, usd_per_million_wcu)
        if on_fargate is not None:
            # There no worker waits for others that are at work on this machine.
            alone = [replace(work, worker_cpu_secs=work.worker_cpu_secs / busy) for work in works]
            recommended = fargate.recommend(alone, target, on_fargate, connections=connections, max_wcu=max_wcu)
            found = replace(found, on_fargate=recommended)
        estimates[name] = found
    return Estimate(
        chunks=chunks,
        layouts=estimates,
        workers=workers,
        usd_per_million_wcu=usd_per_million_wcu,
        sampled_items=sum(
            sum(block.poes.shape[0] * block.poes.shape[1] for block in blocks) for blocks, _ in samples.values()
        ),
        startup_secs=starting,
        assumptions=tuple(_assumptions(target, workers, cores, starting, busy)),
        fargate=on_fargate,
    )


def _estimate_of(
    chunks: Sequence[Chunk],
    measured: dict[CurvePart, Measured],
    pacing: Pace,
    starting: float,
    told: float,
    price: float,
) -> LayoutEstimate:
    items: Counter[CurvePart] = Counter()
    for chunk in chunks:
        items[chunk.part] += chunk.items
    wcu = {part: n * measured[part].wcu for part, n in items.items()}
    total = sum(items.values())
    return LayoutEstimate(
        wcu=wcu,
        items=total,
        item_bytes_mean=sum(n * measured[part].item_bytes for part, n in items.items()) / total if total else 0.0,
        bookkeeping_wcu=BOOKKEEPING_WCU_OF_RUN + BOOKKEEPING_WCU_OF_CHUNK * len(chunks) + told,
        usd=sum(wcu.values()) * price / 1e6,
        seconds=starting + pacing.seconds,
        bound_by=pacing.bound_by if pacing.seconds > starting else START_UP,
    )


def _busy(measured: Sequence[Measured]) -> float:
    """How much longer than its processor time things take here, because others are at work on this machine."""
    cpu_secs = sum(one.encoding_cpu_secs for one in measured)
    wall_secs = sum(one.encoding_wall_secs for one in measured)
    return max(1.0, wall_secs / cpu_secs) if cpu_secs >= MIN_BUSY_CPU_SECS else 1.0


def _work(
    chunk: Chunk,
    measured: Measured,
    busy: float,
    calculation: Calculation,
    haz_sol_id: str,
    layout: Layout,
    target: Target,
) -> Work:
    requests = math.ceil(chunk.items / MAX_BATCH_ITEMS)
    sites = calculation.sites
    keys = Counter(
        layout.partition.hash_key(haz_sol_id, lat, lon)
        for lat, lon in zip(
            sites.lat[chunk.start : chunk.stop].tolist(), sites.lon[chunk.start : chunk.stop].tolist(), strict=True
        )
    )
    wcu = chunk.items * measured.wcu
    return Work(
        part=chunk.part,
        wcu=wcu,
        requests=requests,
        worker_cpu_secs=busy * (chunk.items * measured.cpu_secs + requests * REQUEST_CPU_SECS),
        database_cpu_secs=busy * chunk.items * (target.item_cpu_secs + measured.numbers * target.number_cpu_secs),
        largest_key_wcu=wcu * max(keys.values()) / (chunk.stop - chunk.start),
        overhead_secs=TASK_SECS,
    )


def _assumptions(target: Target, workers: int, cores: int, starting: float, busy: float) -> list[str]:
    texts = [
        f"the database is {target.name}, {1e3 * target.request_latency_secs:g} ms a request of {MAX_BATCH_ITEMS} items",
        f"{workers} worker processes on {cores} cores like this one, {connections_of(target)} requests each under way",
        f"{starting:.0f} s until the processes of a local cluster are up; the time is that of a run's report, to which "
        "a command adds some seconds to load its programs and to check the file",
        "every item is new, or not larger than what it replaces; the price is that of the curves' units",
    ]
    if busy >= NOTABLY_BUSY:
        texts.append(f"this machine stays as busy with other things as it is now: all takes {busy:.1f} times its time")
    if target.partition_wcu is not None:
        texts.append(
            f"{target.partition_wcu:,.0f} WCU/s for one hash key and {target.table_wcu or 0:,.0f} for a table from the "
            "start: a new table on demand begins with 4,000"
        )
    return texts
