"""A short, seeded part of ``make chaos``: faults of the store at 30 %, and a store that is killed and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hazard_store.layouts import LAYOUTS
from tests.chaos import crashes, store_faults
from tests.chaos.arena import Arena, arena
from tests.chaos.report import Row

SEED = 5


@pytest.fixture(scope="module")
def where(dynamodb_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("chaos"), SEED, dynamodb_endpoint) as made:
        yield made


@pytest.fixture
def where_now(where: Arena, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Arena:
    """The arena, with the credentials of a local database, which each test starts without."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    return where


def run(scenario: Callable[[Arena, Row], None], where: Arena) -> Row:
    row = Row("short")
    scenario(where, row)
    assert row.ok, row
    assert row.checked > 0
    return row


@pytest.mark.parametrize("layout_name", LAYOUTS)
def test_nothing_is_lost_when_three_of_ten_requests_fail(where_now: Arena, layout_name: str) -> None:
    row = run(
        lambda arena, row: store_faults.passing_faults(arena, row, store_faults.mixed(), 10, layout_name), where_now
    )
    assert row.faults > 10


def test_a_deleted_table_ends_a_run_at_once_and_the_same_command_mends_it(where_now: Arena) -> None:
    row = run(store_faults.table_deleted, where_now)
    assert row.endings == {"Failed, chunks named": 1, "Completed": 1}


@pytest.mark.parametrize("by", ["process", "profile"])
def test_credentials_that_expire_are_renewed_where_there_are_others(where_now: Arena, by: str) -> None:
    row = run(lambda arena, row: store_faults.credentials_renewed(arena, row, by), where_now)
    assert row.endings == {"Completed": 1}
    assert row.faults > 0


def test_a_store_that_is_killed_is_resumed_by_the_same_command(where_now: Arena) -> None:
    row = run(lambda arena, row: crashes.killed_again_and_again(arena, row, 1), where_now)
    assert row.kills == 1
    assert row.endings == {"Completed": 1}
