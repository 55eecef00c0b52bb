"""The writer against a DynamoDB that throttles, fails, answers in part and loses connections: a script of answers."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import botocore.exceptions as bc
import orjson
import pytest
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.errors import CredentialsError, StorageError, TableMissingError, UnacknowledgedError
from hazard_store.layouts.items import EncodedItem
from hazard_store.settings import Settings
from hazard_store.storage.connection import contact
from hazard_store.storage.control import WriteControl
from hazard_store.storage.faults import RetryPolicy
from hazard_store.storage.rate import RateController, WcuBudget
from hazard_store.storage.sender import MAX_BATCH_ITEMS, Sender
from hazard_store.storage.spreading import spread

TABLE = "T-TEST"
FAST = RetryPolicy(base_delay_secs=0.0001, max_delay_secs=0.001, deadline_secs=0.3)

Reply = Callable[[list[dict[str, Any]]], dict[str, Any]]


def items(count: int) -> list[EncodedItem]:
    return [
        EncodedItem("H", f"r{i}", b'{"PutRequest":{"Item":{"h":{"S":"H"},"r":{"S":"r%d"}}}}' % i) for i in range(count)
    ]


def accept(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"UnprocessedItems": {}, "ConsumedCapacity": [{"CapacityUnits": float(2 * len(entries))}]}


def give_back(count: int) -> Reply:
    def reply(entries: list[dict[str, Any]]) -> dict[str, Any]:
        answer = accept(entries[count:])
        return answer | {"UnprocessedItems": {TABLE: entries[:count]}}

    return reply


def fail(error: Exception) -> Reply:
    def reply(entries: list[dict[str, Any]]) -> dict[str, Any]:
        raise error

    return reply


def client_error(code: str, status: int = 400) -> bc.ClientError:
    return bc.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "BatchWriteItem"
    )


class ScriptedClient:
    """Answers with the script, then accepts everything; keeps what was acknowledged."""

    def __init__(self, script: Sequence[Reply] = (), forever: Reply | None = None) -> None:
        self.script = list(script)
        self.forever = forever or accept
        self.stored: list[str] = []
        self.requests = 0
        self.lock = threading.Lock()

    def batch_write(self, body: bytes) -> dict[str, Any]:
        entries = orjson.loads(body)["RequestItems"][TABLE]
        with self.lock:
            self.requests += 1
            answer = (self.script.pop(0) if self.script else self.forever)(entries)
            left = {e["PutRequest"]["Item"]["r"]["S"] for e in answer["UnprocessedItems"].get(TABLE, [])}
            self.stored += [k for e in entries if (k := e["PutRequest"]["Item"]["r"]["S"]) not in left]
        return answer


class Unpaced(RateController):
    """Lets everything through at once."""

    def take(self, units: float, sleep: object = None) -> float:
        return 0.0


def unpaced() -> WriteControl:
    return WriteControl(rate=Unpaced())


def send(client: ScriptedClient, count: int, **options: Any) -> Sender:
    chosen: dict[str, Any] = {"policy": FAST, "connections": 1, "control": unpaced()} | options
    with Sender(TABLE, Settings(), client=client, **chosen) as sender:
        for item in items(count):
            sender.put(item)
    return sender


def test_throttle_then_part_then_success() -> None:
    client = ScriptedClient(
        [fail(client_error("ProvisionedThroughputExceededException")), give_back(10), fail(client_error("X", 500))]
    )
    metrics = send(client, 25).metrics
    assert sorted(client.stored) == sorted(i.range_key for i in items(25))
    assert (metrics.items, metrics.wcu, metrics.requests, metrics.retries, metrics.throttles) == (25, 50.0, 4, 3, 2)
    assert sum(metrics.latency_buckets.values()) == 4


def test_what_is_under_way_can_be_seen_while_it_waits() -> None:
    seen = []

    def look(entries: list[dict[str, Any]]) -> dict[str, Any]:
        seen.append(sender.so_far())
        return accept(entries)

    client = ScriptedClient([fail(client_error("ThrottlingException")), give_back(10), look])
    with Sender(TABLE, Settings(), client=client, policy=FAST, connections=1, control=unpaced()) as sender:
        for item in items(25):
            sender.put(item)
    assert [(m.items, m.wcu, m.retries, m.throttles) for m in seen] == [(15, 30.0, 2, 2)]
    after = sender.so_far()
    assert (after.items, after.wcu, after.throttles) == (25, 50.0, 2) == (25, sender.metrics.wcu, 2)


@pytest.mark.parametrize("count", [1, 24, 25, 26, 1_000])
def test_every_item_is_sent_once_in_batches_of_at_most_25(count: int) -> None:
    client = ScriptedClient()
    metrics = send(client, count, connections=4).metrics
    assert sorted(client.stored) == sorted(i.range_key for i in items(count))
    assert client.requests == -(-count // MAX_BATCH_ITEMS) == metrics.requests
    assert metrics.items == count


def test_with_one_connection_who_gives_the_items_sends_them() -> None:
    senders = set()

    def note(entries: list[dict[str, Any]]) -> dict[str, Any]:
        senders.add(threading.current_thread())
        return accept(entries)

    send(ScriptedClient([fail(client_error("ThrottlingException"))], forever=note), 100)
    assert senders == {threading.current_thread()}


def test_as_many_requests_are_under_way_as_there_are_connections() -> None:
    class Together:
        """Answers no request before three are there."""

        def __init__(self) -> None:
            self.barrier = threading.Barrier(3)

        def batch_write(self, body: bytes) -> dict[str, Any]:
            self.barrier.wait(timeout=10)
            return accept(orjson.loads(body)["RequestItems"][TABLE])

    control = unpaced()
    control.concurrency.connections = 3
    with Sender(TABLE, Settings(), client=Together(), policy=FAST, control=control) as sender:
        for item in items(6 * MAX_BATCH_ITEMS):
            sender.put(item)
    assert sender.metrics.requests == 6


@pytest.mark.parametrize(
    "error",
    [
        bc.ReadTimeoutError(endpoint_url="x"),
        bc.ConnectTimeoutError(endpoint_url="x"),
        bc.EndpointConnectionError(endpoint_url="x"),
        bc.ConnectionClosedError(endpoint_url="x"),
        bc.ResponseStreamingError(error="cut"),
        ResponseParserError("cut short"),
        client_error("InternalServerError", 500),
        client_error("ServiceUnavailable", 503),
        client_error("ThrottlingException"),
    ],
)
def test_what_passes_is_tried_again(error: Exception) -> None:
    client = ScriptedClient([fail(error)] * 3)
    assert send(client, 5).metrics.retries == 3
    assert len(client.stored) == 5


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ResourceNotFoundException", TableMissingError),
        ("ExpiredTokenException", CredentialsError),
        ("UnrecognizedClientException", CredentialsError),
        ("ValidationException", StorageError),
    ],
)
def test_what_cannot_pass_fails_at_once(code: str, kind: type[StorageError]) -> None:
    client = ScriptedClient(forever=fail(client_error(code)))
    with pytest.raises(kind):
        send(client, 1_000)
    assert client.requests == 1


def test_the_deadline_ends_it_with_what_is_left() -> None:
    client = ScriptedClient([give_back(3)], forever=give_back(3))
    with pytest.raises(UnacknowledgedError, match="3 items were not acknowledged") as caught:
        send(client, 10)
    assert set(caught.value.keys) == {("H", "r0"), ("H", "r1"), ("H", "r2")}
    assert len(client.stored) == 7


def test_who_is_told_next_does_not_wait_as_long_for_a_silent_store_once_more() -> None:
    settings = Settings(stage="SILENT")
    for error, is_known in (
        (bc.EndpointConnectionError(endpoint_url="http://nowhere"), False),
        (client_error("ThrottlingException"), True),
    ):
        contact(settings).answered()
        with (
            pytest.raises(UnacknowledgedError),
            Sender(TABLE, settings, client=ScriptedClient(forever=fail(error)), policy=FAST, control=unpaced()) as one,
        ):
            one.put(items(1)[0])
        contact(settings).expect()
        assert contact(settings).is_known is is_known


def test_what_a_foreign_error_says_is_told_in_one_line_without_secrets() -> None:
    error = bc.EndpointConnectionError(endpoint_url="http://me:5ec7e7@host/\x1b[31m\n?X-Amz-Signature=5ec7e7")
    with pytest.raises(UnacknowledgedError, match="Could not connect") as caught:
        send(ScriptedClient(forever=fail(error)), 1)
    assert str(caught.value).isprintable()
    assert "5ec7e7" not in str(caught.value)


def test_after_a_failed_batch_nothing_counts_as_written_that_was_not() -> None:
    client = ScriptedClient([accept], forever=fail(client_error("ThrottlingException")))
    with pytest.raises(UnacknowledgedError) as caught:
        send(client, 75)
    assert len(caught.value.keys) == 50
    assert len(client.stored) == 25


def test_cancelling_stops_the_retries() -> None:
    cancelled = threading.Event()
    client = ScriptedClient(forever=give_back(1))
    cancelled.set()
    with pytest.raises(UnacknowledgedError, match="cancelled"):
        send(client, 10, cancelled=cancelled)
    assert client.requests == 0


def test_an_error_of_the_caller_is_not_hidden() -> None:
    def fail_while_sending() -> None:
        with Sender(TABLE, Settings(), client=ScriptedClient()) as sender:
            sender.put(items(1)[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_sending()


def test_what_a_batch_leaves_behind_does_not_hold_up_the_others() -> None:
    class Slow(RetryPolicy):
        def delay_secs(self, attempt: int) -> float:
            return 0.2

    order: list[str] = []

    def note(entries: list[dict[str, Any]]) -> dict[str, Any]:
        order.append(entries[0]["PutRequest"]["Item"]["r"]["S"])
        return accept(entries)

    client = ScriptedClient([give_back(3)], forever=note)
    metrics = send(client, 75, policy=Slow()).metrics
    assert order == ["r25", "r50", "r0"]
    assert (metrics.items, metrics.requests, metrics.retries) == (75, 4, 1)
    assert len(client.stored) == 75


def test_under_a_small_budget_batches_are_small() -> None:
    control = WriteControl(rate=Unpaced(WcuBudget(40.0)))
    client = ScriptedClient(
        forever=lambda entries: accept(entries) | {"ConsumedCapacity": [{"CapacityUnits": float(len(entries))}]}
    )
    # An item is taken for one unit, and a batch for at most 0.15 s of the budget: 6 units.
    assert send(client, 60, control=control).metrics.requests == 10


@given(
    keys=st.lists(st.sampled_from("abc"), max_size=60),
    body_bytes=st.integers(0, 3),
    window_bytes=st.integers(1, 200),
)
def test_items_are_spread_over_hash_keys_and_none_is_lost(keys: list[str], body_bytes: int, window_bytes: int) -> None:
    given_items = [EncodedItem(key, str(i), b"x" * body_bytes) for i, key in enumerate(keys)]
    spread_items = list(spread(given_items, window_bytes))
    assert sorted(spread_items) == sorted(given_items)
    whole = list(spread(given_items))
    for i, item in enumerate(whole[1:]):
        # An item follows one of its own hash key only where no other one is left.
        assert item.hash_key != whole[i].hash_key or {left.hash_key for left in whole[i:]} == {item.hash_key}
