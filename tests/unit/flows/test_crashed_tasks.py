"""What a task run is told to have died of, when it cannot say so itself."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State

from flows import store_hazard as flow_module

TASK_RUN = UUID(int=7)


def test_the_state_of_a_crashed_task_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    # Dask's own error, which only a worker that dies again and again brings about.
    told: dict[UUID, State[Any]] = {}
    monkeypatch.setattr(flow_module, "get_client", lambda **options: nullcontext())
    monkeypatch.setattr(flow_module, "force_state", lambda client, run_id, state: told.update({run_id: state}))
    why = "worker died\n\x1b[31m https://bucket/calc_1.hdf5?X-Amz-Signature=5ec7e7"
    flow_module._mark_crashed(SimpleNamespace(task_run_id=TASK_RUN), why)  # type: ignore[arg-type]
    assert told[TASK_RUN].is_crashed()
    assert told[TASK_RUN].message == "worker died ?[31m https://bucket/calc_1.hdf5?***"
