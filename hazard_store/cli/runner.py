"""Where a store runs: in this process, or as the Prefect flow that an entry point names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.importing import objects_that_stay
from hazard_store.names import CLUSTER_WORDS, SCHEDULER_SCHEMES

if TYPE_CHECKING:
    from hazard_store.cli.progress import StoreProgress
    from hazard_store.jobs import StoreReport, StoreRequest
    from hazard_store.settings import Settings

RUNNER_GROUP = "hazard_store.runners"
STORE = "prefect"
PREPARE = "prepare-cluster"
NOTIFY = "notify-batch"

# The command says itself how a run goes and what failed. On the console Prefect would say it again, with tracebacks;
# its server gets everything all the same. Whoever sets these variables, sees what he asks for.
QUIET_CONSOLE = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FLOW_RUNS_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_TASK_RUNS_LEVEL": "CRITICAL",
    "DASK_LOGGING__DISTRIBUTED": "critical",
    # Ctrl-C reaches the processes of a local cluster as well. They end with their cluster, not each with a traceback.
    "DASK_DISTRIBUTED__WORKER__PRELOAD": "['import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)']",
    "DO_NOT_TRACK": "1",
}


def check_cluster(cluster: str) -> None:
    """Refuse what no runner knows, before anything is read.

    Raises
    ------
    UsageError
        If the word is unknown.
    """
    if cluster not in CLUSTER_WORDS and not cluster.startswith(SCHEDULER_SCHEMES):
        raise UsageError(
            f"unknown cluster {cluster!r}: choose local, none, fargate, or the tcp://HOST:PORT of a Dask scheduler"
        )


def load_runner(name: str) -> Callable[..., Any]:
    """Load what needs Prefect or Dask: the flow, its cluster, or what emits events.

    Raises
    ------
    UsageError
        If it, or Prefect, is not installed.
    """
    remedy = "install them with `pip install 'hazard-store[prefect]'`"
    if name != NOTIFY:
        remedy += ", or use --cluster none"
    found = entry_points(group=RUNNER_GROUP, name=name)
    if not found:
        raise UsageError(f"Prefect and Dask are needed for this: {remedy}")
    for variable, value in QUIET_CONSOLE.items():
        os.environ.setdefault(variable, value)
    try:
        with objects_that_stay():
            runner: Callable[..., Any] = next(iter(found)).load()
    except ImportError as exc:
        raise UsageError(f"Prefect and Dask are needed for this and do not load ({exc}): {remedy}") from exc
    return runner


def run_store(
    request: StoreRequest, settings: Settings, cluster: str, workers: int | None, progress: StoreProgress
) -> StoreReport:
    """Store a calculation on a cluster, or in this process.

    Raises
    ------
    HazardStoreError
        What was refused before any chunk was tried, or what kept the run from ending in order.
    """
    if cluster == "none":
        from hazard_store.storing import store_in_process

        return store_in_process(with_connections(request, settings, workers), settings, progress)
    # The process that workers are forked from loads as much as this one: both at once.
    load_runner(PREPARE)(cluster)
    runner: Callable[..., StoreReport] = load_runner(STORE)
    try:
        return runner(request, cluster, workers, progress)
    except HazardStoreError:
        raise
    except Exception as exc:
        if any(isinstance(one, KeyboardInterrupt) or "KeyboardInterrupt" in str(one) for one in _chain(exc)):
            # Ctrl-C reaches a server that runs for this command alone as well, and its silence comes first. Of one that
            # came while pydantic wrote an object, its own error has only the name.
            raise KeyboardInterrupt from exc
        if (reason := _server_trouble(exc)) is not None:
            raise HazardStoreError(
                f"the Prefect server does not answer ({reason}): is PREFECT_API_URL right? --cluster none does without"
            ) from exc
        raise


def with_connections(request: StoreRequest, settings: Settings, workers: int | None) -> StoreRequest:
    """Let this process have as many requests under way as workers were asked for."""
    from hazard_store.storage.connection import MAX_CONNECTIONS

    wanted = workers or settings.workers
    return replace(request, connections=min(wanted, MAX_CONNECTIONS)) if wanted else request


def _server_trouble(exc: BaseException) -> str | None:
    """Find the HTTP client's error behind what Prefect raises, by the name of its module: nothing here imports it."""
    for one in _chain(exc):
        if type(one).__module__.split(".")[0] in ("httpx", "httpcore") or "Failed to reach API" in str(one):
            return str(one) or type(one).__name__
    return None


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """Give an exception and those that led to it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
