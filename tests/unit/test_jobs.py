"""What a run's tasks are told of how it is shared out."""

from __future__ import annotations

from typing import Any

import pytest

from hazard_store.jobs import StoreJob, StorePlan
from hazard_store.layouts import LAYOUTS
from hazard_store.names import HazSolId
from hazard_store.planning import BLOCK_BYTES, plan_chunks
from hazard_store.settings import Settings
from hazard_store.sources import SourceStamp


def plan_of(n_chunks: int, *, meta_todo: bool) -> StorePlan:
    job = StoreJob(
        source="calc_1.hdf5",
        stamp=SourceStamp(1_000, 0),
        fingerprint="sha256:0",
        haz_sol_id=HazSolId("A"),
        layout=LAYOUTS["packed+solution"],
        parts=("meta", "realisations"),
        settings=Settings(),
    )
    chunks = tuple(plan_chunks(n_chunks * 500, {"realisations": 12}))
    record: Any = None
    return StorePlan(job, record, chunks, chunks, meta_todo, ())


@pytest.mark.parametrize(
    ("n_chunks", "meta_todo", "workers", "chunks_a_worker", "under_way"),
    [(20, True, 2, 4, 8), (20, False, 3, 3, 9), (3, True, 2, 4, 4), (3, False, 2, 4, 3), (0, False, 2, 4, 1)],
)
def test_no_more_chunks_are_under_way_than_there_are(
    n_chunks: int, meta_todo: bool, workers: int, chunks_a_worker: int, under_way: int
) -> None:
    job = plan_of(n_chunks, meta_todo=meta_todo).job_of(workers, chunks_a_worker)
    assert job.chunks_under_way == under_way


def test_the_chunks_of_a_worker_share_its_memory() -> None:
    plan = plan_of(20, meta_todo=True)
    assert plan.job_of(8).block_bytes == BLOCK_BYTES
    assert 4 * plan.job_of(2, 4).block_bytes == BLOCK_BYTES
