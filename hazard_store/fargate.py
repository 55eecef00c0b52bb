"""Workers on AWS Fargate: the sizes that they may have, and which of them, how many, a store should be given.

Arithmetic only. A worker is one process, however many chunks it stores at the same time, so a size is how fast that
process computes; how chunks share workers, tables and the write budget is `pacing`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hazard_store.pacing import START_UP, Target, Work, pace
from hazard_store.planning import chunks_a_worker
from hazard_store.prices import FargatePrices


@dataclass(frozen=True)
class WorkerSize:
    """One of the sizes that Fargate has for a task."""

    vcpu: float
    memory_mib: int

    @property
    def cpu_units(self) -> int:
        """As ECS counts them: 1,024 a vCPU."""
        return round(1024 * self.vcpu)


# A worker takes 204 to 254 MB at its peak where it is forked, as on one machine, and took 344 MB at most before workers
# were, as those on Fargate are not (docs/performance.md). 1 GiB is the smallest memory of a task of 0.25 or 0.5 vCPU
# that holds it with room to spare, and 2 GiB the least that Fargate gives to one of 1 vCPU. More is of no use to one
# process: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size
SIZES = (WorkerSize(0.25, 1024), WorkerSize(0.5, 1024), WorkerSize(1.0, 2048))
SCHEDULER = SIZES[0]

# Numbers of workers that are weighed: a few percent of time do not decide between 24 and 25.
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

# From RunTask to a process that runs: network interface, image (1.1 GB) and container. Taken from AWS's own accounts of
# it, half a minute to a minute and a half; not measured.
TASK_START_SECS = 60.0

# Processor time of the imports of a worker, or a scheduler (`make bench`).
IMPORT_CPU_SECS = 3.0

# Fargate charges a task by the second, for a minute at least.
MIN_BILLED_SECS = 60.0

# Without a deadline: below ten minutes nobody waits for a store, and beyond twice the shortest time somebody may.
UNHURRIED_SECS = 600.0
UNHURRIED_FACTOR = 2.0

RULE = (
    f"the cheapest on Spot of those that take at most {UNHURRIED_SECS / 60:g} minutes, or at most {UNHURRIED_FACTOR:g} "
    "times as long as the fastest"
)
DEADLINE_RULE = "the cheapest on Spot of those that meet the deadline; if none does, the fastest"


ASSUMPTIONS = (
    f"a task on Fargate runs {TASK_START_SECS:g} s after it was asked for (not measured); the workers are asked for "
    "when the scheduler answers",
    "a vCPU is as fast as a core here, and a quarter of one a quarter as fast",
    "no Spot worker is reclaimed; each that is costs its chunk once more and a start",
    "all workers live from the first chunk to the last; the flow's own task, of 0.5 vCPU and 2 GB, is not in the price",
)


@dataclass(frozen=True)
class FargateWish:
    """What a cluster is recommended for.

    Parameters
    ----------
    deadline_secs : float, optional
        For all of the store, the start of the cluster included.
    """

    prices: FargatePrices = field(default_factory=FargatePrices)
    deadline_secs: float | None = None

    @property
    def rule(self) -> str:
        """How the cluster is chosen, in words."""
        return RULE if self.deadline_secs is None else DEADLINE_RULE

    def to_json(self) -> dict[str, Any]:
        """What ``hazard-store plan`` says of all layouts."""
        return {
            "deadline_seconds": self.deadline_secs,
            "rule": self.rule,
            "prices": asdict(self.prices),
            "assumptions": list(ASSUMPTIONS),
        }


@dataclass(frozen=True)
class FargateOption:
    """A cluster that would store it, and what that takes.

    Attributes
    ----------
    seconds : float
        From the start of the cluster, which is in it, to the last chunk.
    usd_spot, usd_on_demand : float
        Of the scheduler, which is never on Spot, and the workers; without the write units.
    """

    size: WorkerSize
    workers: int
    seconds: float
    bound_by: str
    usd_spot: float
    usd_on_demand: float


@dataclass(frozen=True)
class Recommendation:
    """The option that the rule chooses, and whether it meets the deadline, where there is one."""

    option: FargateOption
    deadline_secs: float | None

    @property
    def meets_deadline(self) -> bool | None:
        """None without a deadline."""
        return None if self.deadline_secs is None else self.option.seconds <= self.deadline_secs

    def to_json(self, wcu_usd: float) -> dict[str, Any]:
        """The JSON of ``hazard-store plan``, with the price of the write units beside that of the workers' time."""
        option = self.option
        return {
            "vcpu": option.size.vcpu,
            "memory_mib": option.size.memory_mib,
            "workers": option.workers,
            "seconds": option.seconds,
            "bound_by": option.bound_by,
            "meets_deadline": self.meets_deadline,
            "usd_wcu": wcu_usd,
            "usd_fargate_spot": option.usd_spot,
            "usd_fargate_on_demand": option.usd_on_demand,
        }


def recommend(
    works: Sequence[Work],
    target: Target,
    wish: FargateWish,
    *,
    connections: int,
    max_wcu: float | None = None,
) -> Recommendation:
    """Choose the size and the number of workers.

    Parameters
    ----------
    works : sequence of Work
        The plan's chunks, with the processor time that they take on a whole core.
    """
    deadline_secs = wish.deadline_secs
    found = list(options(works, target, wish.prices, connections=connections, max_wcu=max_wcu))
    fastest = min(found, key=lambda one: (one.seconds, one.usd_spot))
    limit = max(UNHURRIED_SECS, UNHURRIED_FACTOR * fastest.seconds) if deadline_secs is None else deadline_secs
    allowed = [one for one in found if one.seconds <= limit]
    return Recommendation(min(allowed, key=lambda one: (one.usd_spot, one.seconds), default=fastest), deadline_secs)


def options(
    works: Sequence[Work],
    target: Target,
    prices: FargatePrices,
    *,
    connections: int,
    max_wcu: float | None = None,
) -> Iterator[FargateOption]:
    """Give every cluster that is weighed; none has more workers than chunks, but for the one that it needs."""
    for size in SIZES:
        scaled = [replace(work, worker_cpu_secs=work.worker_cpu_secs / size.vcpu) for work in works]
        for workers in COUNTS:
            if workers > max(1, len(works)):
                break
            pacing = pace(
                scaled,
                target,
                workers=workers,
                cores=workers,
                connections=connections,
                chunks_a_worker=chunks_a_worker(workers),
                max_wcu=max_wcu,
            )
            yield _option(size, workers, pacing.seconds, pacing.bound_by, prices)


def start_secs(size: WorkerSize) -> float:
    """Seconds from RunTask to a scheduler or worker of this size that is ready."""
    return TASK_START_SECS + IMPORT_CPU_SECS / size.vcpu


def _option(size: WorkerSize, workers: int, storing_secs: float, bound_by: str, prices: FargatePrices) -> FargateOption:
    worker_secs = start_secs(size) + storing_secs
    # Workers are asked for when the scheduler answers.
    seconds = start_secs(SCHEDULER) + worker_secs
    if storing_secs < seconds - storing_secs:
        bound_by = START_UP
    scheduler_usd = _usd(SCHEDULER, seconds, prices, spot=False)
    return FargateOption(
        size,
        workers,
        seconds,
        bound_by,
        usd_spot=scheduler_usd + workers * _usd(size, worker_secs, prices, spot=True),
        usd_on_demand=scheduler_usd + workers * _usd(size, worker_secs, prices, spot=False),
    )


def _usd(size: WorkerSize, seconds: float, prices: FargatePrices, *, spot: bool) -> float:
    hours = max(seconds, MIN_BILLED_SECS) / 3600
    computing = size.vcpu * prices.usd_per_vcpu_hour + size.memory_mib / 1024 * prices.usd_per_gb_hour
    return hours * (computing * (prices.spot_share if spot else 1.0) + prices.usd_per_address_hour)
