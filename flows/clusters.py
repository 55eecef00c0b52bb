"""Where the tasks of a flow run: a Dask cluster of local processes or on Fargate, an existing one, or this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import dask
import distributed.utils
from prefect import Task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from flows.dask_settings import CONNECT_TIMEOUT_SECS, DASK_SETTINGS, set_up_dask
from flows.fargate import FARGATE, FargateSettings, container_variables
from flows.forking import start_method
from hazard_store.errors import UsageError
from hazard_store.names import SCHEDULER_SCHEMES
from hazard_store.planning import chunks_a_worker

# A worker takes some 250 MB (docs/performance.md). Dask's own default, all memory over all workers, would not notice a
# leak.
WORKER_MEMORY_LIMIT = "1GiB"


class ChunkTaskRunner(DaskTaskRunner):
    """Prefect's, which makes no token of a task's arguments to see whether an equal one was submitted before.

    That takes the flow's process 6 ms a chunk (by hand, four runs), while the workers wait for their first ones.
    """

    def submit(  # type: ignore[override]  # Prefect's says which futures as well
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectDaskFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> PrefectDaskFuture[Any]:
        """Submit a task whose parameters are no futures."""
        future = self.client.submit(  # type: ignore[no-untyped-call]
            task,
            parameters=parameters,
            wait_for=wait_for,
            dependencies=dependencies,
            return_type="state",
            pure=False,
        )
        return PrefectDaskFuture(wrapped_future=future, task_run_id=future.task_run_id)


@dataclass(frozen=True)
class Cluster:
    """A task runner, how many processes it has for tasks at most, and how many chunks each of them stores at once."""

    runner: TaskRunner[Any]
    workers: int
    chunks_a_worker: int


def cluster_from_name(name: str, workers: int | None) -> Cluster:
    """Give the cluster that a command or a form names.

    Parameters
    ----------
    name : str
        ``local``, ``none``, ``fargate``, or the ``tcp://HOST:PORT`` of a Dask scheduler.
    workers : int, optional
        Worker processes of ``local`` (default: one a core), threads of ``none`` (default: one), tasks of ``fargate``
        (default: between two numbers, as many as there is work for).

    Raises
    ------
    UsageError
        If the name means nothing, no scheduler answers at the address, or ``fargate`` lacks a setting or a package.
    """
    set_up_dask()
    if name == "none":
        threads = workers or 1
        return Cluster(ThreadPoolTaskRunner(max_workers=threads), 1, threads)
    if name == "local":
        processes = workers or os.cpu_count() or 1
        threads = chunks_a_worker(processes)
        dask.config.set({"distributed.worker.multiprocessing-method": start_method()})
        # Else Dask lets that process import what it names itself, and this one as well: pandas, for one.
        distributed.utils._forkserver_preload_set = True
        runner = ChunkTaskRunner(
            cluster_class="distributed.LocalCluster",
            cluster_kwargs={
                "n_workers": processes,
                "threads_per_worker": threads,
                "processes": True,
                "dashboard_address": ":0",
                "memory_limit": WORKER_MEMORY_LIMIT,
                # One that is forked has the environment of an earlier moment.
                "env": dict(os.environ),
            },
        )
        return Cluster(runner, processes, threads)
    if name == FARGATE:
        return _on_fargate(workers)
    if name.startswith(SCHEDULER_SCHEMES):
        _require_listener(name)
        threads_of_workers = _threads_at(name)
        return Cluster(
            ChunkTaskRunner(address=name), max(1, len(threads_of_workers)), max(threads_of_workers, default=1)
        )
    raise UsageError(
        f"unknown cluster {name!r}: choose local, none, fargate, or the tcp://HOST:PORT of a Dask scheduler"
    )


def _on_fargate(workers: int | None) -> Cluster:
    try:
        from flows.fargate_cluster import HazardCluster, start_cluster
    except ImportError as exc:
        raise UsageError(
            f"--cluster fargate needs dask-cloudprovider, which does not load ({exc}): "
            "pip install 'hazard-store[prefect,aws]'"
        ) from exc
    settings = FargateSettings.from_environment(workers)
    variables = container_variables(DASK_SETTINGS)

    def cluster_of_run() -> HazardCluster:
        return start_cluster(settings, variables)

    # It starts with the first chunk, and whatever ends the flow closes it.
    runner = ChunkTaskRunner(cluster_class=cluster_of_run)
    return Cluster(runner, settings.max_workers, settings.chunks_a_worker)


def _require_listener(address: str) -> None:
    """Fail within seconds where Dask itself would retry for half a minute and then print a traceback."""
    parts = urlsplit(address)
    try:
        if parts.hostname is None or parts.port is None:
            raise UsageError(f"{address!r} is not the address of a Dask scheduler: give tcp://HOST:PORT")
        socket.create_connection((parts.hostname, parts.port), timeout=CONNECT_TIMEOUT_SECS).close()
    except (OSError, ValueError) as exc:
        raise UsageError(f"no Dask scheduler answers at {address}: {exc}") from exc


def _threads_at(address: str) -> list[int]:
    """Give how many threads each worker has, which is how many chunks it stores at once."""
    from distributed import Client

    with Client(address, set_as_default=False, timeout=CONNECT_TIMEOUT_SECS) as client:  # type: ignore[no-untyped-call]
        return [worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
