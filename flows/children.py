"""The runs that a batch starts end with it."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Cancelling

_NOT_STARTED = (StateType.SCHEDULED, StateType.PENDING)


def cancel(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the runs that a batch's run started and that have not ended: a hook for its end."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]),
                state=FlowRunFilterState(
                    type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PAUSED, *_NOT_STARTED])
                ),
            )
        )
        for child in found:
            why = f"its batch {flow_run.name} ended {state.name}"
            # What no worker has begun has no process to stop.
            end = Cancelled if child.state is not None and child.state.type in _NOT_STARTED else Cancelling
            client.set_flow_run_state(child.id, end(message=why), force=True)
