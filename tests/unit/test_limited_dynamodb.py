"""The capacity-limited DynamoDB of the benchmarks: buckets, splits, sizes, answers, and the choice of faults."""

import zlib
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.limited_dynamodb import number_lists
from benchmarks.limited_dynamodb.capacity import HEAT_GAP_SECS, Bucket, Limits, TableCapacity
from benchmarks.limited_dynamodb.faults import KINDS, Effect, FaultTable
from benchmarks.limited_dynamodb.protocol import (
    Keys,
    batch_answer,
    batch_entry_to_write,
    keys_from_description,
    keys_from_item,
    single_to_write,
    throttled,
    writes_problem,
)
from benchmarks.limited_dynamodb.sizes import item_size, number_size, value_size, write_units


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spent_in(table: TableCapacity, start: float, secs: float, keys: list[tuple[str, str]], per_sec: int) -> float:
    """Write units let through when items of 1 WCU come evenly, their keys in turn."""
    before = table.wcu
    for number in range(int(secs * per_sec)):
        table.take(*keys[number % len(keys)], 1, start + number / per_sec)
    return table.wcu - before


def test_a_bucket_keeps_its_burst_and_no_more() -> None:
    bucket = Bucket(rate=100, burst_secs=2, now=0)
    taken = 0
    while bucket.has(1, now=50):
        bucket.spend(1)
        taken += 1
    assert taken == 200
    assert not bucket.has(1, now=50.005)
    assert bucket.has(1, now=50.011)


def test_an_item_larger_than_the_bucket_is_taken_when_it_is_full_and_paid_back() -> None:
    bucket = Bucket(rate=100, burst_secs=1, now=0)
    assert bucket.has(400, now=0)
    bucket.spend(400)
    assert not bucket.has(1, now=3)
    assert bucket.has(1, now=3.02)


@pytest.mark.parametrize(("hash_keys", "expected"), [(1, 1_000), (3, 3_000), (8, 4_000)])
def test_a_partition_gives_1000_and_a_table_4000(hash_keys: int, expected: int) -> None:
    table = TableCapacity(Limits(burst_secs=0.1), 0.0)
    keys = [(f"h{number}", "r") for number in range(hash_keys)]
    spent = spent_in(table, 0.0, 10, keys, 10_000)
    assert spent == pytest.approx(10.1 * expected, rel=0.01)
    assert (table.throttled_by_table > 0) == (hash_keys == 8)


def spread(number: int) -> tuple[str, str]:
    return "h", f"{number * 7919 % 1000:04d}"


def march(number: int) -> tuple[str, str]:
    return "h", f"{number:09d}"


@pytest.mark.parametrize(("key_of", "gain"), [(spread, 2.0), (march, 1.0)])
def test_a_split_helps_writes_that_spread_and_not_a_march(key_of: Any, gain: float) -> None:
    table = TableCapacity(Limits(burst_secs=0.1, split_after_secs=5), 0.0)
    keys = [key_of(number) for number in range(100_000)]
    before = spent_in(table, 0.0, 4, keys[:12_000], 3_000)
    assert table.splits == 0
    spent_in(table, 4.0, 2, keys[12_000:18_000], 3_000)
    assert table.splits == 1
    after = spent_in(table, 6.0, 3, keys[18_000:27_000], 3_000)
    assert after / 3 == pytest.approx(gain * before / 4, rel=0.05)


def test_a_partition_that_rests_is_not_split() -> None:
    table = TableCapacity(Limits(burst_secs=0.1, split_after_secs=20), 0.0)
    for start in range(0, 100, int(HEAT_GAP_SECS) + 3):
        spent_in(table, start, 2, [spread(number) for number in range(1000)], 3_000)
    assert table.splits == 0


def test_one_hot_item_cannot_be_split() -> None:
    table = TableCapacity(Limits(split_after_secs=1), 0.0)
    spent_in(table, 0.0, 10, [("h", "r")], 3_000)
    assert table.splits == 0
    assert len(table.partitions()) == 1


def test_splits_keep_every_write_in_one_partition() -> None:
    table = TableCapacity(Limits(partition_wcu=100, burst_secs=0.1, split_after_secs=1), 0.0)
    spent_in(table, 0.0, 30, [spread(number) for number in range(1000)], 2_000)
    starts = [one.start for _, one in table.partitions()]
    assert len(starts) == table.splits + 1 > 8
    assert starts == sorted(set(starts))
    assert sum(one.wcu for _, one in table.partitions()) == table.wcu


# As DynamoDB Local reports them; tests/integration compares.
@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("0", 1), ("0.0", 1), ("1", 2), ("12", 2), ("123", 3), ("1234", 3), ("0.1", 2), ("0.123", 3), ("0.0123", 3)),
        *(("12.3", 3), ("123.4", 4), ("100", 2), ("1000", 2), ("1.0", 2), ("-1", 3), ("-0.0123", 4), ("1.5e-05", 2)),
        *(("1e-07", 2), ("3.1415927", 6), ("1e10", 2), ("123456789.123456789", 11), ("-41.5", 4), ("9" * 40, 21)),
    ],
)
def test_number_sizes(text: str, size: int) -> None:
    assert number_size(text) == size
    assert number_lists.number_sizes(f"{text},1,".encode()).tolist() == [size, 2]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "é"}, 2),
        ({"B": "MTIzNDU="}, 5),
        ({"B": ""}, 0),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"L": []}, 3),
        ({"M": {}}, 3),
        ({"L": [{"N": "1"}, {"N": "2"}]}, 9),
        ({"M": {"ab": {"S": "c"}}}, 7),
        ({"SS": ["a", "bc"]}, 3),
        ({"NS": ["1", "22"]}, 4),
        ({"BS": ["YQ==", "YWJj"]}, 4),
        ({"L": [{"M": {"imt": {"S": "PGA"}, "v": {"L": [{"N": "0.1"}]}}}]}, 22),
    ],
)
def test_value_sizes(value: dict[str, Any], size: int) -> None:
    assert value_size(value) == size
    assert item_size({"name": value}) == 4 + size


def test_write_units_count_each_kb_begun() -> None:
    assert [write_units(size) for size in (0, 1, 1024, 1025, 2048, 2049)] == [1, 1, 1, 2, 2, 3]


numbers = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-1000, 1000, places=4).map(str),
)


@given(st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=6))
def test_lists_of_numbers_are_measured_together_as_one_by_one(lists: list[list[str]]) -> None:
    request = {"f": [{"L": [{"N": number} for number in one]} for one in lists], "pad": "x" * 20_000}
    folded = number_lists.loads(orjson.dumps(request))
    assert [value_size(one) for one in folded["f"]] == [value_size(one) for one in request["f"]]
    assert orjson.loads(number_lists.dumps(folded)) == request


@pytest.mark.parametrize(
    "odd",
    [
        [{"N": "1"}, {"S": '[{"N":"2"}]'}],
        [{"N": "1"}, {"BOOL": True}],
        [{"S": "x"}, {"N": "1"}],
        [{"N": "1"}, {"L": [{"N": "2"}]}],
        [],
    ],
)
def test_what_is_not_a_plain_list_of_numbers_stays_as_it_is(odd: list[Any]) -> None:
    request = {"odd": {"L": odd}, "even": {"L": [{"N": "1"}]}, "pad": "x" * 20_000}
    folded = number_lists.loads(orjson.dumps(request))
    assert value_size(folded["odd"]) == value_size(request["odd"])
    assert orjson.loads(number_lists.dumps(folded)) == request


ITEM = {"h": {"S": "A"}, "r": {"S": "B"}, "poes": {"B": "A" * 4 * 700}}


def test_writes_are_measured_by_operation() -> None:
    keys = Keys("h", "r")
    key = {"h": ITEM["h"], "r": ITEM["r"]}
    assert batch_entry_to_write({"PutRequest": {"Item": ITEM}}, keys) == ("A", "B", 3)
    assert batch_entry_to_write({"DeleteRequest": {"Key": key}}, keys) == ("A", "B", 1)
    assert single_to_write("PutItem", {"Item": ITEM}, keys) == ("A", "B", 3)
    assert single_to_write("DeleteItem", {"Key": key}, keys) == ("A", "B", 1)
    values = {":v": {"S": "x" * 1500}}
    assert single_to_write("UpdateItem", {"Key": key, "ExpressionAttributeValues": values}, keys) == ("A", "B", 2)


def test_keys_come_from_the_table_or_else_from_the_item() -> None:
    schema = [{"AttributeName": "r", "KeyType": "RANGE"}, {"AttributeName": "h", "KeyType": "HASH"}]
    assert keys_from_description({"Table": {"KeySchema": schema}}) == ("h", "r")
    assert keys_from_description({"Table": {"KeySchema": schema[1:]}}) == ("h", "")
    assert keys_from_item(ITEM) == ("h", "r")
    assert batch_entry_to_write({"PutRequest": {"Item": ITEM}}, None) == ("A", "B", 3)


def test_batches_that_the_service_refuses() -> None:
    write = batch_entry_to_write({"PutRequest": {"Item": ITEM}}, None)
    assert writes_problem([write]) is None
    assert "duplicates" in (writes_problem([write, write._replace(wcu=1)]) or "")
    assert "size" in (writes_problem([write._replace(wcu=401)]) or "")


def test_answers_carry_their_checksum() -> None:
    answer = batch_answer({"T": [1]}, {"T": 3, "idle": 0}, with_capacity=True)
    assert orjson.loads(answer.body) == {
        "UnprocessedItems": {"T": [1]},
        "ConsumedCapacity": [{"TableName": "T", "CapacityUnits": 3.0}],
    }
    assert f"x-amz-crc32: {zlib.crc32(answer.body)}\r\n".encode() in answer.head()
    assert "ConsumedCapacity" not in orjson.loads(batch_answer({}, {"T": 3}, with_capacity=False).body)


@pytest.mark.parametrize(
    ("billing", "code"),
    [("provisioned", "#ProvisionedThroughputExceededException"), ("on-demand", "#ThrottlingException")],
)
def test_throttling_is_worded_by_billing(billing: str, code: str) -> None:
    answer = throttled(billing)
    assert answer.status == 400
    assert orjson.loads(answer.body)["__type"].endswith(code)


def draw_many(faults: FaultTable, count: int = 10_000, operation: str = "BatchWriteItem") -> Counter[str]:
    drawn = [faults.draw(operation, "T") for _ in range(count)]
    return Counter(one[0] for one in drawn if one is not None)


def test_rates_add_up_and_repeat_with_the_seed() -> None:
    first, second = FaultTable(7, Clock()), FaultTable(7, Clock())
    for faults in (first, second):
        faults.set({"internal_error": 0.1, "throttled": {"rate": 0.2}})
    drawn = draw_many(first)
    assert drawn == draw_many(second) == first.counts
    first.reset()
    assert drawn == draw_many(first) == first.counts
    assert drawn["internal_error"] / 10_000 == pytest.approx(0.1, abs=0.01)
    assert drawn["throttled"] / 10_000 == pytest.approx(0.2, abs=0.015)


def test_a_fault_that_does_not_apply_does_not_make_others_more_frequent() -> None:
    faults = FaultTable(7, Clock())
    faults.set({"throttled_part": 0.3, "internal_error": 0.1, "timeout_after": {"rate": 0.3, "tables": "Other*"}})
    drawn = draw_many(faults, operation="PutItem")
    assert set(drawn) == {"internal_error"}
    assert drawn["internal_error"] / 10_000 == pytest.approx(0.1, abs=0.01)


def test_a_fault_for_every_request_goes_before_chance_and_ends_at_its_limit() -> None:
    faults = FaultTable(7, Clock())
    faults.set({"internal_error": 0.5, "reset_before": {"limit": 3}})
    drawn = [faults.draw("GetItem", "T") for _ in range(200)]
    assert [one[0] for one in drawn[:3] if one] == ["reset_before"] * 3
    assert {one[0] for one in drawn[3:] if one} == {"internal_error"}


def test_a_fault_keeps_its_time() -> None:
    clock = Clock()
    faults = FaultTable(7, clock)
    faults.set({"gone": {"after_secs": 5, "for_secs": 60}, "credentials_expired": {"after_secs": 5, "for_secs": 60}})
    seen = []
    for clock.now in (100.0, 104.9, 105.0, 164.9, 165.0):
        drawn = faults.draw("Query", "T")
        seen.append((faults.is_gone, drawn is not None and drawn[0] == "credentials_expired"))
    assert seen == [(False, False), (False, False), (True, True), (True, True), (False, False)]
    faults.set({})
    assert not faults.is_gone


@pytest.mark.parametrize(
    "given",
    [{"nonsense": 0.1}, {"throttled": 1.5}, {"throttled": {"ratio": 1}}, {"throttled": 0.6, "internal_error": 0.6}],
)
def test_settings_that_mean_nothing_are_refused_and_change_nothing(given: dict[str, Any]) -> None:
    faults = FaultTable(7, Clock())
    faults.set({"unavailable": 1})
    with pytest.raises(ValueError, match=r"rate|no fault|unexpected"):
        faults.set(given)
    assert faults.draw("Query", "T") is not None


@pytest.mark.parametrize("count", [1, 2, 25])
def test_part_of_a_batch_is_some_and_not_all(count: int) -> None:
    faults = FaultTable(7, Clock())
    for _ in range(200):
        chosen = faults.split_off(count)
        assert chosen <= set(range(count))
        assert 1 <= len(chosen) <= max(1, count - 1)


def test_every_effect_has_a_kind_and_every_answer_is_there() -> None:
    assert {kind.effect for kind in KINDS.values()} == set(Effect)
    assert all((kind.effect is Effect.ANSWER) == (kind.answer is not None) for kind in KINDS.values())
