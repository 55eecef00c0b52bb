"""The capacity-limited DynamoDB before a real DynamoDB Local: its limits, and its faults as our sender sees them."""

from __future__ import annotations

import base64
import itertools
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import botocore.exceptions as bc
import botocore.session
import numpy as np
import orjson
import pytest
from botocore.config import Config

from benchmarks.limited_dynamodb import LimitedDynamoDb, limited_dynamodb
from benchmarks.limited_dynamodb.faults import KINDS
from benchmarks.limited_dynamodb.sizes import WCU_BYTES, item_size
from hazard_store.errors import CredentialsError, TableMissingError
from hazard_store.layouts import LAYOUTS, CurveBlock, EncodedItem
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from hazard_store.settings import Settings
from hazard_store.storage import connection
from hazard_store.storage.connection import ReadyBodyClient, connect
from hazard_store.storage.faults import REQUEST_ERRORS, Fault, RetryPolicy, classify
from hazard_store.storage.models import LedgerEntry, PackedStats, bind, table_name
from hazard_store.storage.sender import Sender, items_to_body
from hazard_store.storage.tables import create_tables

# As the project's own client sees each kind: what `classify` makes of the exception, None where there is none.
SEEN_AS: dict[str, Fault | None] = {
    "internal_error": Fault.SERVER,
    "unavailable": Fault.SERVER,
    "bad_gateway": Fault.SERVER,
    "throttled": Fault.THROTTLED,
    "throttled_on_demand": Fault.THROTTLED,
    "throttled_account": Fault.THROTTLED,
    "throttled_as_validation": Fault.THROTTLED,
    "throttled_part": None,
    "timeout_before": Fault.CONNECTION,
    "timeout_after": Fault.CONNECTION,
    "reset_before": Fault.CONNECTION,
    "reset_midway": Fault.CONNECTION,
    "cut_short": Fault.CONNECTION,
    "cut_json": Fault.CONNECTION,
    "wrong_crc32": Fault.CONNECTION,
    "lost_unprocessed": Fault.CONNECTION,
    "gone": Fault.CONNECTION,
    "table_deleted": Fault.TABLE_MISSING,
    "credentials_expired": Fault.CREDENTIALS,
}
LASTING = ("table_deleted", "credentials_expired")
PASSING = [name for name in KINDS if name not in LASTING and name != "gone"]

FAST = RetryPolicy(base_delay_secs=0.01, max_delay_secs=0.1, deadline_secs=20)
READ_TIMEOUT_SECS = 0.7
UNLIMITED = {"partition_wcu": 1e9, "table_wcu": 1e9}

_numbers = itertools.count()


@pytest.fixture(scope="module")
def running(dynamodb_endpoint: str) -> Iterator[LimitedDynamoDb]:
    with limited_dynamodb(dynamodb_endpoint, **UNLIMITED) as store:
        yield store


@pytest.fixture
def store(running: LimitedDynamoDb) -> Iterator[LimitedDynamoDb]:
    """A proxy without limits, for faults."""
    running.reset()
    yield running
    running.set_faults()


@pytest.fixture(scope="module")
def made_tables(dynamodb_endpoint: str) -> Settings:
    settings = Settings(endpoint=dynamodb_endpoint, stage=f"T{uuid.uuid4().hex[:12].upper()}")
    with pytest.MonkeyPatch.context() as environment:
        for variable, value in LOCAL_CREDENTIALS.items():
            environment.setenv(variable, value)
        create_tables(settings)
    return settings


@pytest.fixture
def tables(made_tables: Settings, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One set of tables for this module: every test stores under an id of its own."""
    for variable, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(variable, value)
    return made_tables


@pytest.fixture
def behind(store: LimitedDynamoDb, tables: Settings) -> Settings:
    """Settings whose clients speak to the proxy."""
    return replace(tables, endpoint=store.endpoint)


@pytest.fixture
def impatient(behind: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same, and its clients do not wait half a minute for an answer."""
    monkeypatch.setattr(connection, "READ_TIMEOUT_SECS", READ_TIMEOUT_SECS)
    # Connections are kept by settings: these are others than those of the patient.
    return replace(behind, workers=1)


def encoded_items(layout_name: str, sites: int, imts: int = 12) -> list[EncodedItem]:
    """Items under an id that no other call gives."""
    layout = LAYOUTS[layout_name]
    number = next(_numbers)
    rng = np.random.default_rng(number)
    levels = np.geomspace(1e-4, 5, 40)
    block = CurveBlock(
        part="stats",
        haz_sol_id=f"A{number}",
        codes=[f"[{-40 - 0.01 * site:.3f}~175.000]" for site in range(sites)],
        lat=-40 - 0.01 * np.arange(sites),
        lon=np.full(sites, 175.0),
        kinds=["mean", "0.1", "0.5", "0.9", "std"],
        imts=[f"SA({number})" for number in range(imts)],
        levels=np.tile(levels, (imts, 1)),
        # Over many powers of ten, so that numbers with exponents and zeros are among them.
        poes=np.float32(rng.random((sites, 5, imts, 40)) ** rng.integers(1, 30, (sites, 5, 1, 1))),
        created=1,
    )
    return list(layout.encoding.encode(block, layout.partition))


def stats_table(layout_name: str, settings: Settings) -> str:
    return table_name(LAYOUTS[layout_name].table_base("stats"), settings)


def send(items: list[EncodedItem], settings: Settings, layout_name: str = "packed+solution", **options: Any) -> Sender:
    with Sender(stats_table(layout_name, settings), settings, **{"policy": FAST} | options) as sender:
        for item in items:
            sender.put(item)
    return sender


def stored_items(settings: Settings, haz_sol_id: str) -> dict[str, str]:
    items = bind(PackedStats, settings).query(haz_sol_id)
    return {item.sk: base64.b64encode(item.poes).decode() for item in items}


def assert_all_stored(items: list[EncodedItem], tables: Settings) -> None:
    entries = {item.range_key: orjson.loads(item.body)["PutRequest"]["Item"] for item in items}
    stored = stored_items(tables, items[0].hash_key)
    assert stored == {key: entry["poes"]["B"] for key, entry in entries.items()}


@pytest.mark.parametrize("layout_name", LAYOUTS)
@pytest.mark.parametrize("imts", [1, 27])
def test_items_cost_what_the_database_says(
    store: LimitedDynamoDb, behind: Settings, layout_name: str, imts: int
) -> None:
    metrics = send(encoded_items(layout_name, 4, imts), behind, layout_name).metrics
    assert metrics.items == store.counts()["items"] == 20
    assert store.counts()["wcu"] == metrics.wcu > 0


def test_every_type_costs_what_the_database_says(store: LimitedDynamoDb, behind: Settings) -> None:
    client, table = connect(behind).client, table_name("HazardStorePackedStats", behind)
    values: list[dict[str, Any]] = [
        *({"N": text} for text in ("0", "-1", "12.3", "123456789.123456789", "1.5e-05", "-0.0123", "9" * 38)),
        *({"S": "é"}, {"B": b"12345"}, {"BOOL": True}, {"NULL": True}, {"L": []}, {"M": {}}),
        *({"SS": ["a", "bc"]}, {"NS": ["1", "22.5"]}, {"BS": [b"a", b"bcd"]}),
        {"L": [{"N": "1"}, {"M": {"imt": {"S": "PGA"}, "vals": {"L": [{"N": "0.1"}, {"N": "1e-7"}]}}}]},
    ]
    for value in values:
        key = {"pk": {"S": "A"}, "sk": {"S": f"{next(_numbers):06d}"}}
        padding = WCU_BYTES - item_size(key | {"v": json_form(value), "pad": {"S": ""}})
        # The last byte of one write unit and the first of the next: so the size is right to the byte.
        for extra in (0, 1):
            store.reset()
            item = key | {"v": value, "pad": {"S": "x" * (padding + extra)}}
            answer = client.put_item(TableName=table, Item=item, ReturnConsumedCapacity="TOTAL")
            assert answer["ConsumedCapacity"]["CapacityUnits"] == store.counts()["wcu"] == 1 + extra, value


def json_form(value: dict[str, Any]) -> dict[str, Any]:
    """Binary values as the client sends them."""
    text = {"B": lambda raw: base64.b64encode(raw).decode(), "BS": lambda raws: [text["B"](raw) for raw in raws]}
    return {kind: text.get(kind, lambda same: same)(content) for kind, content in value.items()}


def test_all_arrives_under_limits_and_the_counts_agree(dynamodb_endpoint: str, tables: Settings) -> None:
    items = encoded_items("packed+solution", 200)
    limits = {"partition_wcu": 500, "table_wcu": 800, "burst_secs": 0.5, "latency_ms": 5}
    with limited_dynamodb(dynamodb_endpoint, **limits) as store:
        started = time.monotonic()
        metrics = send(items, replace(tables, endpoint=store.endpoint)).metrics
        seconds = time.monotonic() - started
        counts = store.counts()
    assert_all_stored(items, tables)
    assert counts["items"] == metrics.items == len(items)
    assert counts["wcu"] == metrics.wcu >= 1_000
    assert counts["requests"]["BatchWriteItem"] == metrics.requests
    assert counts["throttled_requests"] + counts["partial_requests"] == metrics.throttles > 0
    assert counts["partial_requests"] > 0
    # A hash key's 500 WCU/s, after the quarter of a thousand that lay ready.
    assert seconds >= (metrics.wcu - 250 - 20) / 500
    (table,) = (one for one in counts["tables"].values() if one["wcu"])
    (partition,) = table["partitions"]
    assert (partition["hash_key"], partition["wcu"]) == (items[0].hash_key, metrics.wcu)
    assert sum(second["wcu"] for second in counts["history"]) == metrics.wcu
    assert all(second["wcu"] <= 500 + 250 + 20 for second in counts["history"])


@pytest.mark.parametrize(
    ("billing", "code"),
    [("provisioned", "ProvisionedThroughputExceededException"), ("on-demand", "ThrottlingException")],
)
def test_without_capacity_the_service_refuses(
    dynamodb_endpoint: str, tables: Settings, billing: str, code: str
) -> None:
    items = encoded_items("packed+solution", 10)
    with limited_dynamodb(dynamodb_endpoint, table_wcu=0.01, burst_secs=1_500, billing=billing) as store:
        settings = replace(tables, endpoint=store.endpoint)
        client, table = connect(settings).client, stats_table("packed+solution", settings)
        sending = ReadyBodyClient(settings)
        part = sending.batch_write(items_to_body(table, items[:25]))
        left = part["UnprocessedItems"][table]
        assert 0 < len(left) < 25
        assert part["ConsumedCapacity"][0]["CapacityUnits"] == store.counts()["wcu"]
        with pytest.raises(bc.ClientError) as whole:
            sending.batch_write(items_to_body(table, items[25:]))
        with pytest.raises(bc.ClientError) as single:
            client.put_item(TableName=table, Item=left[0]["PutRequest"]["Item"])
        assert len(stored_items(tables, items[0].hash_key)) == 25 - len(left)
    assert {e.value.response["Error"]["Code"] for e in (whole, single)} == {code}
    assert classify(whole.value) is classify(single.value) is Fault.THROTTLED


def test_a_hot_key_is_split(dynamodb_endpoint: str, tables: Settings) -> None:
    items = encoded_items("packed+solution", 150, imts=1)
    np.random.default_rng(1).shuffle(items)  # type: ignore[arg-type]
    limits = {"partition_wcu": 200, "burst_secs": 0.1, "split_after_secs": 1}
    with limited_dynamodb(dynamodb_endpoint, **limits) as store:
        send(items, replace(tables, endpoint=store.endpoint))
        counts = store.counts()
    (table,) = (one for one in counts["tables"].values() if one["wcu"])
    assert table["splits"] >= 1
    assert len(table["partitions"]) == table["splits"] + 1
    assert_all_stored(items, tables)


def test_acknowledged_only_curves_are_not_stored_and_the_ledger_is(dynamodb_endpoint: str, tables: Settings) -> None:
    items = encoded_items("packed+solution", 20)
    with limited_dynamodb(dynamodb_endpoint, acknowledge=True, **UNLIMITED) as store:
        settings = replace(tables, endpoint=store.endpoint)
        metrics = send(items, settings).metrics
        ledger = bind(LedgerEntry, settings)
        ledger(items[0].hash_key, "e", status="done", fingerprint="f", record={}).save()
        assert ledger.get(items[0].hash_key, "e").status == "done"
        counts = store.counts()
        with pytest.raises(TableMissingError):
            send(items, replace(settings, stage="NOWHERE"))
    assert stored_items(tables, items[0].hash_key) == {}
    assert metrics.items == len(items)
    assert metrics.wcu + 1 == counts["wcu"]


def test_without_a_database_writes_are_acknowledged_and_reads_refused(own_environment: None) -> None:
    with limited_dynamodb(**UNLIMITED) as store:
        settings = Settings(endpoint=store.endpoint, stage=uuid.uuid4().hex)
        client = client_of(settings)
        table = stats_table("packed+solution", settings)
        entries = [orjson.loads(item.body) for item in encoded_items("packed+solution", 5)]
        answer = client.batch_write_item(RequestItems={table: entries}, ReturnConsumedCapacity="TOTAL")
        assert answer["UnprocessedItems"] == {}
        assert answer["ConsumedCapacity"] == [{"TableName": table, "CapacityUnits": store.counts()["wcu"]}]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{store.endpoint}/counts") as counts:
            assert orjson.loads(counts.read())["items"] == len(entries)
        with pytest.raises(bc.ClientError, match="target"):
            client.list_tables()
        with pytest.raises(bc.ClientError, match="duplicates"):
            client.batch_write_item(RequestItems={table: [entries[0], entries[0]]})


def client_of(settings: Settings, **config: Any) -> Any:
    return botocore.session.get_session().create_client(
        "dynamodb",
        region_name=settings.region,
        endpoint_url=settings.endpoint,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


def test_expectations_are_complete() -> None:
    assert set(SEEN_AS) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_botocore_sees_a_fault_as_what_it_is(store: LimitedDynamoDb, impatient: Settings, name: str) -> None:
    client = ReadyBodyClient(impatient)
    body = items_to_body(stats_table("packed+solution", impatient), encoded_items("packed+solution", 2))
    client.batch_write(body)  # a connection that is open already
    store.set_faults(**{name: 1})
    try:
        answer, seen = client.batch_write(body), None
    except REQUEST_ERRORS as exc:
        seen = classify(exc)
    assert seen is SEEN_AS[name]
    if name == "throttled_part":
        assert 0 < len(answer["UnprocessedItems"][stats_table("packed+solution", impatient)]) < 10
    # With expired credentials the client asks for new ones, and once more.
    assert store.counts()["faults"] == {name: 2 if name == "credentials_expired" else 1}
    store.set_faults()
    wait_until_back(store, impatient)
    assert client.batch_write(body)["UnprocessedItems"] == {}


def wait_until_back(store: LimitedDynamoDb, settings: Settings) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            connect(settings).client.list_tables()
        except bc.EndpointConnectionError:
            time.sleep(0.02)
        else:
            return


def test_a_client_that_compares_checksums_finds_the_wrong_ones(store: LimitedDynamoDb, impatient: Settings) -> None:
    client = client_of(impatient)
    for name in ("wrong_crc32", "lost_unprocessed"):
        store.set_faults(**{name: 1})
        table, entries = stats_table("packed+solution", impatient), encoded_items("packed+solution", 1)
        requests = {table: [orjson.loads(item.body) for item in entries]}
        with pytest.raises(bc.ChecksumError) as caught:
            client.batch_write_item(RequestItems=requests)
        assert classify(caught.value) is Fault.CONNECTION


@pytest.mark.parametrize("name", PASSING)
def test_the_sender_survives(store: LimitedDynamoDb, impatient: Settings, tables: Settings, name: str) -> None:
    # Many requests, and few write units: after a throttle they are sent slowly.
    items = encoded_items("packed+solution", 40, imts=1)
    store.set_faults(**{name: 0.3})
    metrics = send(items, impatient).metrics
    assert store.counts()["faults"][name] > 0
    assert metrics.items == len(items)
    assert_all_stored(items, tables)


@pytest.mark.parametrize(
    "name", ["internal_error", "timeout_after", "reset_midway", "cut_short", "cut_json", "wrong_crc32"]
)
def test_the_sender_survives_under_limits(dynamodb_endpoint: str, tables: Settings, name: str) -> None:
    items = encoded_items("packed+solution", 20, imts=3)
    with limited_dynamodb(dynamodb_endpoint, table_wcu=200, burst_secs=0.1) as store:
        store.set_faults(**{name: {"rate": 0.3, "hang_secs": 0.5}})
        metrics = send(items, replace(tables, endpoint=store.endpoint)).metrics
        counts = store.counts()
    assert counts["faults"][name] > 0
    assert counts["throttled_items"] > 0
    assert metrics.items == len(items)
    assert_all_stored(items, tables)


@pytest.mark.parametrize("name", ["cut_short", "cut_json", "lost_unprocessed"])
def test_what_a_damaged_answer_gave_back_is_not_lost(dynamodb_endpoint: str, tables: Settings, name: str) -> None:
    items = encoded_items("packed+solution", 5)
    with limited_dynamodb(dynamodb_endpoint, table_wcu=50, burst_secs=0.3) as store:
        store.set_faults(**{name: {"limit": 1}})
        metrics = send(items, replace(tables, endpoint=store.endpoint)).metrics
    assert metrics.items == len(items)
    assert_all_stored(items, tables)


def test_the_sender_survives_all_of_them_mixed(store: LimitedDynamoDb, impatient: Settings, tables: Settings) -> None:
    items = encoded_items("packed+solution", 200, imts=3)
    store.set_faults(**dict.fromkeys(PASSING, 0.3 / len(PASSING)))
    metrics = send(items, impatient).metrics
    assert len(store.counts()["faults"]) > 5
    assert metrics.items == len(items)
    assert_all_stored(items, tables)


def test_the_sender_survives_a_store_that_is_gone_for_a_while(
    store: LimitedDynamoDb, impatient: Settings, tables: Settings
) -> None:
    items = encoded_items("packed+solution", 200)
    store.set_faults(gone={"after_secs": 0.1, "for_secs": 2})
    started = time.monotonic()
    metrics = send(items, impatient).metrics
    assert time.monotonic() - started >= 2
    assert metrics.retries > 0
    assert store.counts()["faults"] == {"gone": 1}
    assert_all_stored(items, tables)


@pytest.mark.parametrize(
    ("name", "kind"), [("table_deleted", TableMissingError), ("credentials_expired", CredentialsError)]
)
def test_the_sender_stops_at_what_lasts(
    store: LimitedDynamoDb, impatient: Settings, tables: Settings, name: str, kind: type[Exception]
) -> None:
    items = encoded_items("packed+solution", 200)
    # After some batches, in the middle.
    store.set_faults(**{name: {"after_secs": 0.05, "operations": "BatchWriteItem"}})
    with pytest.raises(kind):
        send(items, impatient)
    store.set_faults()
    send(items, impatient)
    assert_all_stored(items, tables)


def test_faults_of_single_writes_are_retried_by_the_models(store: LimitedDynamoDb, impatient: Settings) -> None:
    ledger = bind(LedgerEntry, impatient)
    store.set_faults(internal_error={"limit": 2, "operations": "PutItem", "tables": "*Ledger*"})
    ledger("A", "e", status="done", fingerprint="f", record={}).save()
    assert ledger.get("A", "e").status == "done"
    counts = store.counts()
    assert counts["faults"] == {"internal_error": 2}
    assert counts["requests"]["PutItem"] == 1
