"""The local database, the Prefect server and `make up`, for real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import psutil
import pytest

from deployments.local import stack as stack_module
from deployments.local.stack import Service, Stack
from hazard_store.errors import LocalServiceError
from hazard_store.local import dynamodb
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.local.process import free_port, http_status, is_port_free

ITEM = {"k": {"S": "a key"}, "poe": {"N": "0.1"}}
HEAP_MB = 256


def client(endpoint: str) -> Any:
    return botocore.session.get_session().create_client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=LOCAL_CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=LOCAL_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def put_item(endpoint: str, table: str) -> None:
    database = client(endpoint)
    database.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    answer = database.put_item(TableName=table, Item=ITEM, ReturnConsumedCapacity="TOTAL")
    assert answer["ConsumedCapacity"]["CapacityUnits"] == 1


def get_item(endpoint: str, table: str) -> Any:
    return client(endpoint).get_item(TableName=table, Key={"k": ITEM["k"]})["Item"]


def test_database_of_the_fixture_stores_items(dynamodb_endpoint: str, stage: str) -> None:
    assert os.environ["HAZARD_STORE_ENDPOINT"] == dynamodb_endpoint
    put_item(dynamodb_endpoint, f"Test-{stage}")
    assert get_item(dynamodb_endpoint, f"Test-{stage}") == ITEM


def test_tables_on_disk_are_there_after_a_restart(tmp_path: Path) -> None:
    data_dir = tmp_path / "data dir"
    with DynamoDbLocal.start(data_dir=data_dir, max_heap_mb=HEAP_MB) as database:
        put_item(database.endpoint, "Kept")
    with DynamoDbLocal.start(data_dir=data_dir, max_heap_mb=HEAP_MB) as database:
        assert get_item(database.endpoint, "Kept") == ITEM


def test_stop_leaves_no_process_and_no_listener() -> None:
    database = DynamoDbLocal.start(max_heap_mb=HEAP_MB)
    assert psutil.pid_exists(database.pid)
    database.stop()
    database.stop()
    assert not psutil.pid_exists(database.pid)
    assert is_port_free(database.port)


def test_taken_port_is_named(dynamodb_endpoint: str) -> None:
    port = int(dynamodb_endpoint.rpartition(":")[2])
    with pytest.raises(LocalServiceError, match=f"port {port} is taken"):
        DynamoDbLocal.start(port)


def test_port_that_is_taken_while_starting(
    dynamodb_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = int(dynamodb_endpoint.rpartition(":")[2])
    monkeypatch.setattr(dynamodb, "is_port_free", lambda port: True)
    monkeypatch.setattr(dynamodb, "http_status", lambda port, path: None)
    with pytest.raises(LocalServiceError, match=f"another process took port {port}"):
        DynamoDbLocal.start(port, max_heap_mb=HEAP_MB, work_dir=tmp_path)


def test_database_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dynamodb, "ensure_dynamodb_local", lambda: Path("/no/such/folder"))
    with pytest.raises(LocalServiceError, match=r"DynamoDB Local ended with exit code 1 .*Unable to access jarfile"):
        DynamoDbLocal.start(work_dir=tmp_path)


def test_prefect_server_answers_and_is_where_clients_report(prefect_server: PrefectServer) -> None:
    from prefect.client.orchestration import get_client

    assert http_status(prefect_server.port, "/api/health") == 200
    assert http_status(prefect_server.port, "/") == 200
    with get_client(sync_client=True) as api:
        assert str(api.api_url).rstrip("/") == prefect_server.api_url


def test_ui_calls_its_own_server(prefect_server: PrefectServer) -> None:
    import httpx

    assert httpx.get(f"{prefect_server.ui_url}/ui-settings").json()["api_url"] == prefect_server.api_url


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Local services in a folder of the test's own, on ports that no one else uses."""
    port = free_port()
    monkeypatch.setattr(stack_module, "_USUAL_PORTS", {"database": port, "prefect": port + 100, "worker": port + 200})
    stack = Stack(tmp_path)
    yield stack
    stack.down()


def run_stack(state_dir: Path, command: str) -> str:
    """Run `python -m deployments.local.stack` as make does; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "deployments.local.stack", command, "--state", str(state_dir)],
        capture_output=True,
        text=True,
        check=True,
        cwd=stack_module.DEFAULT_STATE_DIR.parent,
    )
    assert done.stderr == ""
    return done.stdout


def test_up_status_and_down(tmp_path: Path) -> None:
    try:
        first = run_stack(tmp_path, "up")
        services = Stack(tmp_path).running()
        database, prefect = services["database"], services["prefect"]
        assert f"export HAZARD_STORE_ENDPOINT={database.url}\n" in first
        assert f"export PREFECT_API_URL={prefect.url}/api\n" in first
        assert http_status(prefect.port, "/api/health") == 200
        assert http_status(services["worker"].port, "/health") == 200
        assert http_status(prefect.port, "/api/deployments/name/store_hazard/store-hazard") == 200
        put_item(database.url, "Kept")

        assert run_stack(tmp_path, "up") == first, "a second `up` starts nothing"
        assert database.url in run_stack(tmp_path, "status")
    finally:
        last = run_stack(tmp_path, "down")
    assert f"process {database.pid}" in last
    assert f"process {prefect.pid}" in last
    assert not psutil.pid_exists(database.pid)
    assert not psutil.pid_exists(prefect.pid)
    assert not psutil.pid_exists(services["worker"].pid)
    assert run_stack(tmp_path, "down") == "stopped: nothing was running\n"
    with DynamoDbLocal.start(data_dir=tmp_path / "database", max_heap_mb=HEAP_MB) as reopened:
        assert get_item(reopened.endpoint, "Kept") == ITEM


def test_down_leaves_a_process_that_took_over_an_id(stack: Stack) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        started = psutil.Process(other.pid).create_time()
        stack._write_state({"database": Service("database", other.pid, started - 100, free_port())})
        assert stack.down() == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_two_commands_at_once(stack: Stack) -> None:
    with stack._lock(), pytest.raises(LocalServiceError, match="another `make up` or `make down`"):
        stack.up()


def test_unreadable_state_is_told(stack: Stack) -> None:
    stack._state_path.write_text("{")
    with pytest.raises(LocalServiceError, match=r"stack\.json cannot be read"):
        stack.running()
    stack._state_path.unlink()
