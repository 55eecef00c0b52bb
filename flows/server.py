"""A Prefect server for a flow that runs in a terminal, where none is configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    get_current_settings,
    temporary_settings,
)

from hazard_store.local.prefect_server import PrefectServer


@contextmanager
def some_server() -> Iterator[None]:
    """The server of ``PREFECT_API_URL``; without one, one of our own while the block runs, with the user's history.

    Prefect itself would start one in every process that asks, each Dask worker included, and leave them running when
    the command is interrupted.
    """
    if PREFECT_API_URL.value():
        yield
        return
    with (
        PrefectServer.start(home=PREFECT_HOME.value()) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):
        try:
            yield
        finally:
            # After Ctrl-C as well.
            send_the_last()


@contextmanager
def without_heartbeats() -> Iterator[None]:
    """Let a flow within the block end at once, unless somebody set how often it says that it lives.

    Prefect says so every three minutes, and at a flow's end waits up to a second for the thread that does. A run in a
    terminal that died is found by its lease.
    """
    if "heartbeat_frequency" in get_current_settings().flows.model_fields_set:
        yield
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def send_the_last() -> None:
    """Send the log lines and events that this process still has: they go to the server in batches.

    To be called before a server ends that this process reports to: Prefect would try to reach it for a minute more.
    """
    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
