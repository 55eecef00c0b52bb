"""What becomes of a task run, and of its chunk, when the task cannot say so itself."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State

from flows import store_hazard as flow_module
from hazard_store.jobs import ChunkOutcome
from hazard_store.names import ChunkId
from hazard_store.storage.metrics import Metrics

TASK_RUN = UUID(int=7)
CHUNK = ChunkId("stats:00000-00001")
WHY = "worker died\n\x1b[31m https://bucket/calc_1.hdf5?X-Amz-Signature=5ec7e7"


@pytest.mark.parametrize(
    ("outcome", "state", "message"),
    [
        (ChunkOutcome(CHUNK, "stats", Metrics(), WHY), "CRASHED", "worker died ?[31m https://bucket/calc_1.hdf5?***"),
        (ChunkOutcome(CHUNK, "stats", Metrics()), "COMPLETED", "stored; the worker was lost before it could say so"),
    ],
    ids=["not stored", "stored"],
)
def test_a_lost_task_run_has_the_state_of_its_chunk_in_one_line_without_secrets(
    outcome: ChunkOutcome, state: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dask's own error, which only a worker that dies again and again brings about.
    told: dict[UUID, State[Any]] = {}
    monkeypatch.setattr(flow_module, "get_client", lambda **options: nullcontext())
    monkeypatch.setattr(flow_module, "force_state", lambda client, run_id, state: told.update({run_id: state}))
    monkeypatch.setattr(flow_module, "outcome_without_worker", lambda *arguments: outcome)
    future: Any = SimpleNamespace(task_run_id=TASK_RUN)
    job: Any = None
    assert flow_module._without_worker(job, future, CHUNK, "stats", WHY) is outcome
    assert (told[TASK_RUN].type.value, told[TASK_RUN].message) == (state, message)
