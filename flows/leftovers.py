"""What a run that was cancelled or killed leaves on the Prefect server: task runs, and progress that moves no more.

A worker that dies with its run never says how its task ended, and the UI would show it as running for ever. The hooks
of the flows run where the run is not: in its process once its cluster is closed, or in the worker's, when a run that
it started is gone.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed

# Task runs reach the server as events, some of which are on their way when a run ends: so the server is asked again
# after this long, until it has none that did not end.
EVENTS_SECS = 1.5

# Chunks on workers that live end by themselves, and task runs that still come then are not this run's leftovers.
MAX_ROUNDS = 5

_UNENDED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


def end_leftovers(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Give a run's task runs that never ended the state in which the run ended, and say it in its progress."""
    with get_client(sync_client=True) as client:
        _end_all(client, flow_run.id, state)


def end_dead_run(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    """End a run whose process is known to be dead, and what it left, if nobody did: no hook runs where no worker is."""
    try:
        flow_run = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return
    if flow_run.state is not None and not flow_run.state.is_final():
        crashed: State[Any] = Crashed(message="the process of the run is gone; the run that took its place goes on")
        client.set_flow_run_state(flow_run_id, crashed, force=True)
        _end_all(client, flow_run_id, crashed)


def _end_all(client: SyncPrefectClient, flow_run_id: UUID, state: State[Any]) -> None:
    for number in range(MAX_ROUNDS):
        left = _unended_task_runs(client, flow_run_id)
        for task_run_id in left:
            force_state(client, task_run_id, _end_of(state))
        if number and not left:
            break
        time.sleep(EVENTS_SECS)
    _end_progress(client, flow_run_id, "crashed" if state.is_crashed() else "cancelled")


def force_state(client: SyncPrefectClient, task_run_id: UUID, state: State[Any]) -> None:
    """Set a task run's state, whatever it is in."""
    try:
        client.set_task_run_state(task_run_id, state, force=True)
    except (ObjectNotFound, PrefectHTTPStatusError) as exc:
        # A task that no worker ever began is not known to the server, and so does not run there for ever.
        if isinstance(exc, PrefectHTTPStatusError) and exc.response.status_code != HTTPStatus.NOT_FOUND:
            raise


def _end_of(state: State[Any]) -> State[Any]:
    if state.is_crashed():
        return Crashed(message="the run crashed before this chunk ended; the ledger says what is stored")
    return Cancelled(message="the run was cancelled before this chunk ended; the ledger says what is stored")


def _unended_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> list[UUID]:
    found = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNENDED))),
    )
    return [task_run.id for task_run in found]


def _end_progress(client: SyncPrefectClient, flow_run_id: UUID, ended: str) -> None:
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]), type=ArtifactFilterType(any_=["progress"])
        )
    )
    for artifact in found:
        text = f"{ended}; the last that was heard of it: {artifact.description}"
        client.update_artifact(artifact.id, ArtifactUpdate(data=artifact.data, description=text))
