"""Taking items away: those of the calculation, all of them, whatever DynamoDB gives back unprocessed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hazard_store.deletion import DeleteReport
from hazard_store.errors import StorageError, UnacknowledgedError
from hazard_store.layouts import LAYOUTS, CurveBlock, Layout
from hazard_store.removal import remove_items
from hazard_store.settings import Settings
from hazard_store.storage.faults import RetryPolicy
from hazard_store.storage.models import table_name
from hazard_store.storage.reader import Reader
from hazard_store.stored import Place, StoredCurves
from tests.unit.fake_dynamodb import FakeDynamoDb, lose_connection, refuse

SETTINGS = Settings(stage="UNIT")
FAST = RetryPolicy(base_delay_secs=0.0001, max_delay_secs=0.001, deadline_secs=0.2)
PLACES = [Place(f"S{number}", -41.0 - number / 10, 175.0) for number in range(9)]
KINDS = [f"{rlz:05d}" for rlz in range(7)]


def store(database: FakeDynamoDb, layout: Layout, haz_sol_id: str) -> set[tuple[str, str]]:
    before = database.keys(table_name(layout.table_base("realisations"), SETTINGS))
    block = CurveBlock(
        part="realisations",
        haz_sol_id=haz_sol_id,
        codes=[place.code for place in PLACES],
        lat=np.array([place.lat for place in PLACES]),
        lon=np.array([place.lon for place in PLACES]),
        kinds=KINDS,
        imts=["PGA"],
        levels=np.array([[0.1, 1.0]]),
        poes=np.ones((len(PLACES), len(KINDS), 1, 2), np.float32),
        created=0,
    )
    database.load_block(table_name(layout.table_base("realisations"), SETTINGS), layout, block)
    return database.keys(table_name(layout.table_base("realisations"), SETTINGS)) - before


def stored_in(database: FakeDynamoDb, layout: Layout) -> StoredCurves:
    reader = Reader(SETTINGS, client=database, policy=FAST)
    return StoredCurves("CALC", layout, "realisations", SETTINGS, reader)


def remove(stored: StoredCurves, places: list[Place]) -> Iterator[int]:
    return remove_items(stored, stored.everything(places, keys_only=True))


@settings(deadline=None)
@given(
    layout=st.sampled_from(list(LAYOUTS.values())),
    page=st.sampled_from([1, 10, 1_000]),
    portion=st.sampled_from([None, 1, 24]),
)
def test_a_calculation_goes_and_those_whose_ids_start_alike_stay(
    layout: Layout, page: int, portion: int | None
) -> None:
    database = FakeDynamoDb(page=page, portion=portion)
    others = store(database, layout, "CALC2") | store(database, layout, "CAL")
    mine = store(database, layout, "CALC")
    # Where the hash key is a bin, one place of each bin is enough to find all.
    deleted = sum(remove(stored_in(database, layout), PLACES[::4]))
    assert deleted == len(mine) == 63
    assert database.keys(stored_in(database, layout).table) == others


def test_throttles_and_lost_connections_are_waited_out() -> None:
    layout = LAYOUTS["packed+solution"]
    database = FakeDynamoDb(failures=[refuse("ThrottlingException"), lose_connection] * 3)
    store(database, layout, "CALC")
    assert sum(remove(stored_in(database, layout), PLACES)) == 63
    assert not database.keys(stored_in(database, layout).table)


def test_what_is_not_acknowledged_is_named() -> None:
    layout = LAYOUTS["packed+solution"]
    database = FakeDynamoDb(portion=0)
    store(database, layout, "CALC")
    with pytest.raises(UnacknowledgedError, match="were not deleted") as caught:
        list(remove(stored_in(database, layout), PLACES))
    assert set(caught.value.keys) <= database.keys(stored_in(database, layout).table)
    assert len(caught.value.keys) in (25, 13)


def test_a_refusal_ends_it() -> None:
    layout = LAYOUTS["packed+solution"]
    database = FakeDynamoDb(failures=[refuse("ValidationException")])
    store(database, layout, "CALC")
    with pytest.raises(StorageError, match="ValidationException"):
        list(remove(stored_in(database, layout), PLACES))


def test_a_table_that_does_not_exist_holds_nothing() -> None:
    database = FakeDynamoDb(failures=[refuse("ResourceNotFoundException")])
    assert list(remove(stored_in(database, LAYOUTS["packed+solution"]), PLACES)) == []


def test_the_summary_counts() -> None:
    report = DeleteReport("ID", ("packed+solution",), 1_234, 1, 4)
    assert report.summary == "deleted ID from packed+solution: 1,234 items, 1 meta items, 4 ledger entries"
