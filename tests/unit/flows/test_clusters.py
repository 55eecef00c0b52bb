"""How many chunks a cluster stores at the same time."""

from __future__ import annotations

import pytest

from flows.clusters import cluster_from_name
from hazard_store.errors import UsageError


@pytest.mark.parametrize(("workers", "chunks_a_worker"), [(1, 8), (2, 4), (3, 3), (8, 1), (20, 1)])
def test_local_workers_store_eight_chunks_together(workers: int, chunks_a_worker: int) -> None:
    cluster = cluster_from_name("local", workers)
    assert (cluster.workers, cluster.chunks_a_worker) == (workers, chunks_a_worker)
    assert cluster.runner.cluster_kwargs["threads_per_worker"] == chunks_a_worker  # type: ignore[attr-defined]
    assert cluster.runner.cluster_kwargs["n_workers"] == workers  # type: ignore[attr-defined]


@pytest.mark.parametrize(("workers", "chunks_a_worker"), [(None, 1), (3, 3)])
def test_this_process_stores_as_many_as_it_has_threads(workers: int | None, chunks_a_worker: int) -> None:
    cluster = cluster_from_name("none", workers)
    assert (cluster.workers, cluster.chunks_a_worker) == (1, chunks_a_worker)


def test_an_unknown_cluster_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="choose local, none, fargate, or the tcp://HOST:PORT"):
        cluster_from_name("lokal", None)
