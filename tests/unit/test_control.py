"""What the chunks of a process share while they are stored, and what the next chunk takes over."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import pytest

from hazard_store.storage.control import Controls, WriteControl


@pytest.fixture
def controls() -> Controls:
    return Controls()


def chunk(
    controls: Controls, table: str = "rlzs", *, max_wcu: float | None = 1_200.0, own_limit: bool = True
) -> AbstractContextManager[WriteControl]:
    return controls.of("run", table, max_wcu, 4, own_limit=own_limit)


def test_a_process_has_the_shares_of_its_chunks(controls: Controls) -> None:
    with chunk(controls, "stats") as stats:
        assert stats.rate.budget_wcu_per_sec == 300.0
        with chunk(controls) as rlzs:
            # One budget for both tables.
            assert stats.rate.budget_wcu_per_sec == rlzs.rate.budget_wcu_per_sec == 600.0
        assert stats.rate.budget_wcu_per_sec == 300.0


def test_chunks_that_are_left_take_over_what_others_leave(controls: Controls) -> None:
    with chunk(controls) as control:
        controls.share("run", 2)
        controls.share("run", 3)
        controls.share("another", 1)
        assert control.rate.budget_wcu_per_sec == 600.0
        with chunk(controls):
            assert control.rate.budget_wcu_per_sec == 1_200.0


def test_the_shares_of_all_chunks_are_the_budget() -> None:
    processes = [Controls(), Controls()]
    with ExitStack() as stack:
        found = [stack.enter_context(chunk(processes[n])) for n in (0, 0, 0, 1)]
        assert found[0].rate.budget_wcu_per_sec == 900.0
        assert found[3].rate.budget_wcu_per_sec == 300.0


def test_without_a_budget_there_is_none(controls: Controls) -> None:
    with chunk(controls, max_wcu=None) as control:
        controls.share("run", 1)
        assert control.rate.budget_wcu_per_sec is None


def test_a_range_of_keys_has_a_rate_of_its_own_which_the_next_chunk_takes_over(controls: Controls) -> None:
    with chunk(controls) as first:
        with chunk(controls) as second:
            assert first.rate is not second.rate
        with chunk(controls) as third:
            assert third.rate is second.rate
        with chunk(controls, "stats") as other:
            assert other.rate is not second.rate


def test_chunks_of_bins_share_the_rate_of_the_table(controls: Controls) -> None:
    with chunk(controls, own_limit=False) as first, chunk(controls, own_limit=False) as second:
        assert first.rate is second.rate
    with chunk(controls, own_limit=False) as third:
        assert third.rate is first.rate


def test_chunks_share_the_connections_of_their_process(controls: Controls) -> None:
    with chunk(controls) as first:
        first.concurrency.connections = 7
        assert first.concurrency.connections_each == 7
        with chunk(controls, "stats") as second:
            # Whichever tables they write to.
            assert first.concurrency.connections_each == second.concurrency.connections_each == 3
    first.concurrency.connections = 2
    with ExitStack() as stack:
        assert [stack.enter_context(chunk(controls)).concurrency.connections_each for _ in range(4)] == [2, 1, 1, 1]
