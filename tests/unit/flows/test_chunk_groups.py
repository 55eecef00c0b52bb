"""How a run's chunks are handed to a cluster, without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows import store_hazard
from hazard_store.jobs import ChunkOutcome, StoreJob
from hazard_store.layouts import LAYOUTS
from hazard_store.names import HazSolId
from hazard_store.planning import Chunk, plan_chunks
from hazard_store.settings import Settings
from hazard_store.sources import SourceStamp
from hazard_store.storage.metrics import Metrics

JOB = StoreJob(
    source="calc_1.hdf5",
    stamp=SourceStamp(1_000, 0),
    fingerprint="sha256:0",
    haz_sol_id=HazSolId("A"),
    layout=LAYOUTS["packed+solution"],
    parts=("meta", "realisations"),
    settings=Settings(),
    chunks_under_way=3,
)
CHUNKS = plan_chunks(5_000, {"realisations": 12})


class Future:
    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk

    def add_done_callback(self, callback: Callable[[Future], None]) -> None:
        self.callback = callback

    def result(self) -> ChunkOutcome:
        return ChunkOutcome(self.chunk.id, self.chunk.part, Metrics(items=self.chunk.items))


class Runner:
    """A cluster on which whatever was submitted first ends as soon as nothing more is."""

    def __init__(self) -> None:
        self.under_way: list[Future] = []
        self.most = 0

    def submit(self, task: Any, parameters: dict[str, Any]) -> Future:
        future = Future(parameters["chunk"])
        self.under_way.append(future)
        self.most = max(self.most, len(self.under_way))
        return future

    def end_one(self) -> None:
        future = self.under_way.pop(0)
        future.callback(future)


@pytest.mark.parametrize(("max_wcu", "most"), [(None, len(CHUNKS)), (1_500.0, 3)])
def test_no_more_chunks_are_submitted_than_share_the_write_budget(
    max_wcu: float | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner: Any = Runner()
    group = store_hazard._Group(replace(JOB, max_wcu=max_wcu), runner)
    wait = group._next

    def next_one() -> Any:
        runner.end_one()
        return wait()

    monkeypatch.setattr(group, "_next", next_one)
    outcomes = list(group.run(list(CHUNKS)))
    assert [outcome.chunk_id for outcome, _ in outcomes] == [chunk.id for chunk in CHUNKS]
    assert all(has_ended for _, has_ended in outcomes)
    assert runner.most == most
    assert len(CHUNKS) > 3


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_chunk_that_goes_on_is_waited_for(goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_hazard, "STALLED_SECS", 0.3)
    runner: Any = Runner()
    group = store_hazard._Group(JOB, runner)
    looks: list[int] = []

    def progress() -> dict[Any, Any]:
        looks.append(len(looks))
        if goes_on and len(looks) == 3 * store_hazard.LOOKS:
            runner.end_one()
        return {"realisations:00000-00500": ("running", 1, len(looks) if goes_on else 7)}

    monkeypatch.setattr(group, "_progress", progress)
    monkeypatch.setattr(
        store_hazard, "_without_worker", lambda job, future, chunk, part, why: ChunkOutcome(chunk, part, Metrics(), why)
    )
    ((outcome, has_ended),) = group.run([CHUNKS[0]])
    assert (outcome.error is None, has_ended) == (goes_on, goes_on)
    if not goes_on:
        assert "is a worker left?" in str(outcome.error)
