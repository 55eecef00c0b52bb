"""How many chunks a cluster stores at the same time, and how the processes of a local one start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from multiprocessing import forkserver

import pytest
from distributed import Client, LocalCluster

from flows.clusters import cluster_from_name
from flows.forking import prepare_cluster, start_fork_server
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


@pytest.fixture
def earlier_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What local workers are forked from has started, and the environment of this process is another one since."""
    monkeypatch.setenv("HAZARD_STORE_TEST_CHANGED", "before")
    start_fork_server.cache_clear()
    prepare_cluster("local")
    monkeypatch.setenv("HAZARD_STORE_TEST_CHANGED", "after")
    monkeypatch.setenv("HAZARD_STORE_TEST_NEW", "new")
    yield
    start_fork_server.cache_clear()


def look_at_worker() -> tuple[bool, str | None, str | None]:
    # Behind a fork, modules are there that nobody has imported in this process.
    is_forked = forkserver.get_inherited_fds() is not None and "prefect_aws" in sys.modules
    return is_forked, os.environ.get("HAZARD_STORE_TEST_CHANGED"), os.environ.get("HAZARD_STORE_TEST_NEW")


def ask_a_worker() -> tuple[bool, str | None, str | None]:
    kwargs = cluster_from_name("local", 1).runner.cluster_kwargs  # type: ignore[attr-defined]
    with LocalCluster(**kwargs) as cluster, Client(cluster, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        answer: tuple[bool, str | None, str | None] = client.submit(look_at_worker).result()
        return answer


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
@pytest.mark.usefixtures("earlier_environment")
class TestForkedWorkers:
    def test_have_what_was_imported_and_the_environment_of_now(self) -> None:
        assert ask_a_worker() == (True, "after", "new")

    def test_are_started_anew_where_a_variable_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HAZARD_STORE_TEST_CHANGED")
        assert ask_a_worker() == (False, None, "new")
