"""The tasks of a store: the meta, and chunks of statistics and realisations.

A task ends Completed with its figures as its message, or raises after its retries; the ledger has its chunk's state in
either case. Quick retries of single requests belong to the writer: a task's own delay would hold a Dask worker's slot.
"""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from hazard_store.chunks import store_chunk, store_meta
from hazard_store.jobs import ChunkOutcome, StoreJob
from hazard_store.ledger import META_CHUNK
from hazard_store.planning import Chunk
from hazard_store.storing import CHUNK_RETRY_DELAYS_SECS, HOPELESS
from tasks.neutral import neutral_errors
from tasks.sources import use_credentials_block
from tasks.tls_once import share_tls_context

# Whatever runs these tasks imports this.
share_tls_context()


def _worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Do not repeat what fails the same way each time."""
    error = state.result(raise_on_failure=False)
    return not isinstance(error, HOPELESS)


_OPTIONS: dict[str, Any] = {
    "retries": len(CHUNK_RETRY_DELAYS_SECS),
    "retry_delay_seconds": list(CHUNK_RETRY_DELAYS_SECS),
    "retry_condition_fn": _worth_retrying,
    "persist_result": False,
}


@task(name="meta", task_run_name="meta", **_OPTIONS)
def meta_task(job: StoreJob) -> State[ChunkOutcome]:
    """Write the calculation's meta."""
    with neutral_errors():
        use_credentials_block()
        metrics = store_meta(job)
    return Completed(message=metrics.summary(), data=ChunkOutcome(META_CHUNK, "meta", metrics))


@task(name="stats", task_run_name="{chunk.id}", **_OPTIONS)
def stats_task(job: StoreJob, chunk: Chunk) -> State[ChunkOutcome]:
    """Store a chunk of statistics."""
    return _store(job, chunk)


@task(name="realisations", task_run_name="{chunk.id}", **_OPTIONS)
def realisations_task(job: StoreJob, chunk: Chunk) -> State[ChunkOutcome]:
    """Store a chunk of realisations."""
    return _store(job, chunk)


def _store(job: StoreJob, chunk: Chunk) -> State[ChunkOutcome]:
    logger = get_run_logger()
    logger.info("%s: storing %s items", chunk.id, f"{chunk.items:,}")
    with neutral_errors():
        use_credentials_block()
        metrics = store_chunk(job, chunk)
    logger.info("%s: stored %s", chunk.id, metrics.summary())
    return Completed(message=metrics.summary(), data=ChunkOutcome(chunk.id, chunk.part, metrics))
