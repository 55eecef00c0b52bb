"""dask-cloudprovider's cluster on Fargate, with an end: of every wait, of every failed start, and of all its tasks.

Nothing outlives a run for long, however it ends. The run itself stops its tasks; where it cannot, because its process
was killed, its scheduler has nothing to do any more and ends after `IDLE_SECS`, and with it the workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import dask
from dask_cloudprovider.aws import FargateCluster
from dask_cloudprovider.aws.ecs import Scheduler, Task, Worker
from distributed.core import Status
from distributed.deploy.spec import SpecCluster
from prefect import get_run_logger
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger
from prefect.runtime import flow_run
from tornado.ioloop import IOLoop

from flows.fargate import FargateSettings
from flows.fargate_tasks import EcsTasks, Role
from hazard_store.errors import ClusterError, UsageError
from hazard_store.fargate import SCHEDULER
from hazard_store.texts import to_message

# From RunTask until a container runs and answers: a minute as a rule, and longer where images come slowly.
START_SECS = 240.0
CLOSE_SECS = 30.0
POLL_SECS = 1.0

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html: its answers are consistent eventually.
MAX_LOOKS_WITHOUT = 30

# A scheduler without anything to do for so long has lost its run: it is started when there are chunks to store, and its
# first worker may take START_SECS.
IDLE_SECS = 600

# Adaptive: how often it looks, and how often in a row a worker must have had nothing to do. Fargate charges a minute at
# least, so that a worker is not given back for a pause of seconds.
ADAPT_SECS = 5
IDLE_LOOKS = 12

# What did not come up, for want of Spot capacity for one, is asked for again after this long.
AGAIN_SECS = 30.0


class _BoundedTask(Task):  # type: ignore[misc]
    """A task whose start ends: with the task, or with nothing left of it."""

    @property
    def _use_public_ip(self) -> bool:
        # Asked for with RunTask, and then never looked up: flows and workers reach each other by private addresses.
        return bool(super()._use_public_ip) and self.task is None

    _starting: asyncio.Task[Any] | None = None
    _looks_without = 0

    async def start(self) -> None:
        self._starting = asyncio.current_task()
        try:
            async with asyncio.timeout(START_SECS):
                await super().start()
                await self._ready()
        except BaseException as exc:
            reason = self._reason(exc)
            await self.close()
            self.status = Status.failed
            if isinstance(exc, Exception):
                raise ClusterError(f"its {self.task_type} did not come up: {reason}") from exc
            raise
        finally:
            self._starting = None

    async def close(self, **kwargs: Any) -> None:
        # What cannot be stopped now is stopped with the run, whose cluster has others to close.
        with suppress(Exception):
            await super().close(**kwargs)
        self.status = Status.closed

    def give_up(self) -> None:
        """End a start that is under way."""
        if self._starting is not None:
            self._starting.cancel()

    def _reason(self, exc: BaseException) -> str:
        if self.task is not None and self.task.get("stoppedReason"):
            return str(self.task["stoppedReason"])
        if isinstance(exc, TimeoutError):
            return f"nothing answers at {self.private_ip} after {START_SECS:g} s"
        # What dask-cloudprovider raises where RunTask gave no task.
        answer = exc.args[0] if exc.args else None
        if isinstance(answer, dict) and answer.get("failures"):
            return ", ".join(str(failure.get("reason")) for failure in answer["failures"])
        return f"{exc}"

    async def _ready(self) -> None:
        """Wait until it can be used; a task is RUNNING before its program is."""

    async def _update_task(self) -> None:
        # dask-cloudprovider asks again and again without a pause while a task is pending.
        await asyncio.sleep(POLL_SECS)
        try:
            await super()._update_task()
        except ValueError as exc:
            # No task in the answer: for some seconds DescribeTasks may not know what RunTask has just given.
            self._looks_without += 1
            if self._looks_without > MAX_LOOKS_WITHOUT:
                raise RuntimeError("ECS does not know the task that it has started") from exc


class _Scheduler(_BoundedTask, Scheduler):  # type: ignore[misc]
    async def _ready(self) -> None:
        while not await _answers(self.private_ip, self.port):
            if not await self._task_is_running():
                raise RuntimeError("the scheduler stopped before it answered")


class _Worker(_BoundedTask, Worker):  # type: ignore[misc]
    pass


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(POLL_SECS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


class _Persistent(SpecCluster):
    """Between FargateCluster and SpecCluster: with our tasks, and workers that are replaced.

    SpecCluster starts no worker in place of one that is lost, and none in place of one that did not come up.
    """

    trouble: Exception | None = None

    async def _start(self) -> None:
        if self.scheduler_spec and self.new_spec:
            self.scheduler_spec["cls"] = _Scheduler
            self.new_spec["cls"] = _Worker
        await super()._start()  # type: ignore[no-untyped-call]

    async def _correct_state_internal(self) -> None:
        try:
            await super()._correct_state_internal()
        except Exception as exc:
            # The others go on meanwhile; why it is so is told where no worker at all comes up.
            self.trouble = exc
            for name in [name for name, worker in self.workers.items() if worker.status == Status.failed]:
                del self.workers[name]
            self._correct_state_after(AGAIN_SECS)

    def _update_worker_status(self, op: Any, msg: Any) -> None:
        super()._update_worker_status(op, msg)  # type: ignore[no-untyped-call]
        if op == "remove":
            # Until then SpecCluster waits whether a lost worker comes back.
            lost = dask.utils.parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
            self._correct_state_after(lost + 1)

    def _correct_state_after(self, secs: float) -> None:
        IOLoop.current().call_later(secs, self._correct_state_if_running)

    def _correct_state_if_running(self) -> None:
        if self.status == Status.running:
            self._correct_state()  # type: ignore[no-untyped-call]

    async def _close(self) -> None:
        # A start under way holds the lock that closing waits for.
        for task in list(self._created):
            task.give_up()
        await super()._close()  # type: ignore[no-untyped-call]


class HazardCluster(FargateCluster, _Persistent):  # type: ignore[misc]
    """The cluster of a run."""

    _taken_away = False

    def __init__(self, settings: FargateSettings, name: str, definitions: Mapping[Role, str], ecs: EcsTasks) -> None:
        self._ecs = ecs
        started_by = {"startedBy": name}
        options: dict[str, Any] = {
            "name": name,
            "region_name": settings.region,
            "cluster_arn": settings.cluster_arn,
            "image": settings.image,
            "execution_role_arn": settings.execution_role_arn,
            "task_role_arn": settings.task_role_arn,
            "cloudwatch_logs_group": settings.log_group,
            "vpc": settings.vpc,
            "subnets": list(settings.subnets),
            "security_groups": list(settings.security_groups),
            "fargate_use_private_ip": not settings.public_ip,
            # The workers; the scheduler, whose end would be the run's, is on demand.
            "fargate_spot": True,
            "scheduler_task_definition_arn": definitions["scheduler"],
            "scheduler_task_kwargs": started_by,
            "scheduler_cpu": SCHEDULER.cpu_units,
            "scheduler_mem": SCHEDULER.memory_mib,
            "scheduler_timeout": f"{IDLE_SECS} seconds",
            "scheduler_extra_args": ["--no-dashboard"],
            "worker_task_definition_arn": definitions["worker"],
            "worker_task_kwargs": started_by,
            "worker_cpu": settings.size.cpu_units,
            "worker_mem": settings.size.memory_mib,
            "worker_nthreads": settings.chunks_a_worker,
            # ECS watches over the process, and a nanny would take 100 MB beside it.
            "worker_extra_args": ["--no-nanny", "--no-dashboard", "--memory-limit", f"{settings.size.memory_mib}MiB"],
            "n_workers": 0,
            "environment": {},
            "tags": {"project": "hazard-store", "stage": settings.stage},
            # It would deregister what other users of dask-cloudprovider left, and look at every definition for that.
            "skip_cleanup": True,
        }
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def close(self, timeout: float | None = None) -> None:
        """Close it, and stop and take away whatever is left of it then."""
        # Not by its status: a cluster that lost its scheduler may be closed already, and its tasks be there.
        if self._taken_away:
            return
        self._taken_away = True
        try:
            super().close(timeout=timeout or CLOSE_SECS)
        except Exception as exc:
            _logger().warning("the Dask cluster did not close in order: %s", to_message(f"{exc}"))
        finally:
            remove(self._ecs, self.name)


def start_cluster(settings: FargateSettings, variables: Mapping[str, str]) -> HazardCluster:
    """Start a cluster for this run, and give it when its first worker is there.

    Parameters
    ----------
    variables : mapping of str to str
        The environment of the containers.

    Raises
    ------
    ClusterError
        If it does not come up within some minutes; nothing of it is left.
    """
    run = flow_run.get_id()
    if run is None:
        raise UsageError("a cluster on Fargate is that of a flow run: it has the run's id")
    name = settings.name_of(run.replace("-", ""))
    ecs = EcsTasks(settings)
    _remove_abandoned(ecs)
    definitions = ecs.register(name, variables)
    cluster = None
    try:
        cluster = HazardCluster(settings, name, definitions, ecs)
        if settings.min_workers == settings.max_workers:
            cluster.scale(settings.max_workers)  # type: ignore[no-untyped-call]
        else:
            cluster.adapt(
                minimum=settings.min_workers,
                maximum=settings.max_workers,
                interval=f"{ADAPT_SECS} s",
                wait_count=IDLE_LOOKS,
            )
        _wait_for_a_worker(cluster)
    except BaseException as exc:
        if cluster is None:
            remove(ecs, name)
        else:
            cluster.close()
        if isinstance(exc, Exception):
            raise ClusterError(
                f"the Dask cluster on Fargate did not come up: {_cause(exc)}. The logs of its containers are in "
                f"{settings.log_group}; see docs/aws.md, or use another --cluster"
            ) from exc
        raise
    return cluster


def remove(ecs: EcsTasks, name: str) -> None:
    """Take away what is left of a cluster; where that cannot be, say that it ends by itself."""
    try:
        ecs.remove(name)
    except ClusterError as exc:
        _logger().warning("the Dask cluster %s ends by itself after %d s without work: %s", name, IDLE_SECS, exc)


def _remove_abandoned(ecs: EcsTasks) -> None:
    try:
        ecs.remove_abandoned()
    except ClusterError as exc:
        # What others left costs nothing, and two runs may be taking it away at once.
        _logger().warning("task definitions of runs that were killed are left: %s", exc)


def _wait_for_a_worker(cluster: HazardCluster) -> None:
    deadline = time.monotonic() + START_SECS
    while not cluster.scheduler_info["workers"]:
        # A start that failed is tried again while others go on, but not where none did better.
        if cluster.trouble is not None and not cluster.workers:
            raise cluster.trouble
        if time.monotonic() > deadline:
            raise ClusterError(f"no worker came to its scheduler within {START_SECS:g} s")
        time.sleep(POLL_SECS)


def _cause(exc: BaseException) -> str:
    """Give what dask wraps into errors of its own."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, ClusterError):
            return f"{found}"
        found = found.__cause__
    return f"{type(exc).__name__}: {exc}"


def _logger() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("fargate")
