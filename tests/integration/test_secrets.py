"""What runs leave behind, byte by byte: nothing of it shows a secret that they had or were given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from hazard_store.local.prefect_server import PrefectServer
from hazard_store.local.process import free_port
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from tests.integration import operator as fixtures
from tests.integration.fault_proxy import FaultProxy
from tests.integration.operator import Operator
from tests.integration.processes import run

operator = fixtures.operator
pytestmark = pytest.mark.timeout(600)

KEY, TOKEN, SIGNATURE, PASSWORD = "plantedkey7f3a9c", "plantedtoken51b2d8", "plantedsign9e44c0", "plantedword0c77aa"
PLANTED = (KEY, TOKEN, SIGNATURE, PASSWORD)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": TOKEN}
URLS = (
    f"https://bucket.s3.amazonaws.com/calc_1.hdf5?X-Amz-Signature={SIGNATURE}",
    f"s3://user:{PASSWORD}@bucket/calc_1.hdf5",
)

# What AWS says to a wrong secret key, with a word by which it is found again.
MARK = "canonicalmark"
REFUSAL = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key. "
    f"The Canonical String for this request should have been 'POST\n/{MARK}\n\nhost:dynamodb.us-east-1.amazonaws.com\n"
    f"x-amz-date:20260101T000000Z\nx-amz-security-token:{TOKEN}\nx-amz-target:DynamoDB_20120810.BatchWriteItem\n'"
)
WAIT_SECS = 120.0


@pytest.fixture(scope="module")
def worker_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def services(
    dynamodb_endpoint: str, deployed_server: PrefectServer, worker_home: Path
) -> Iterator[tuple[Settings, FaultProxy]]:
    with fixtures.running(dynamodb_endpoint, deployed_server, worker_home, CREDENTIALS) as (settings, proxy, _):
        yield settings, proxy


@pytest.fixture
def source(data_dir: Path) -> str:
    return str(data_dir / "custom_ids.hdf5")


@pytest.fixture
def left(operator: Operator, prefect_server: PrefectServer, worker_home: Path) -> Callable[[], dict[str, str]]:
    """All that stays: every file of the Prefect server, its clients and its worker, and every item of every table."""

    def read() -> dict[str, str]:
        return {
            "server": text_of(prefect_server.log_path.parent),
            "clients": text_of(prefect_server.log_path.parents[1] / "client"),
            "worker": text_of(worker_home),
            "tables": items_of(operator.settings),
        }

    return read


def text_of(folder: Path) -> str:
    """The bytes of all files: a database with its journal, logs, results."""
    return "\n".join(path.read_bytes().decode("latin-1") for path in sorted(folder.rglob("*")) if path.is_file())


def items_of(settings: Settings) -> str:
    client = connect(settings).client
    tables = [name for name in client.list_tables()["TableNames"] if settings.stage in name]
    pages = (client.get_paginator("scan").paginate(TableName=table) for table in tables)
    return repr([page["Items"] for table_pages in pages for page in table_pages])


def until_found(mark: str, read: Callable[[], str]) -> None:
    """Wait for what reaches the server some seconds after its run has ended."""
    deadline = time.monotonic() + WAIT_SECS
    while mark not in read():
        assert time.monotonic() < deadline, f"{mark} was not found"
        time.sleep(0.5)


def show_nothing(places: dict[str, str]) -> None:
    assert [(place, secret) for place, text in places.items() for secret in PLANTED if secret in text] == []


def test_runs_of_a_worker_leave_no_secret(operator: Operator, left: Callable[[], dict[str, str]], source: str) -> None:
    stored = operator.start("store-hazard", source=source, haz_sol_id="LEFT-1", cluster="local", workers=1)
    assert operator.end(stored)[0] == "COMPLETED"

    operator.proxy.message = REFUSAL
    # Under this code it counts as a request that is wrong: Prefect retries its task, and logs the traceback at last.
    operator.proxy.rule = lambda name, _: (400, "SignatureDoesNotMatch") if name == "BatchWriteItem" else None
    broken = operator.start("store-hazard", source=source, haz_sol_id="LEFT-2", cluster="local", workers=1)
    assert operator.end(broken)[0] == "FAILED"

    # Here the refusal was told: in tracebacks, states and artifacts, in the log, and in the ledger.
    for place in ("server", "worker", "tables"):
        until_found(MARK, lambda place=place: left()[place])  # type: ignore[misc]
    until_found("botocore.exceptions.ClientError", lambda: left()["server"])
    places = left()
    for place in ("server", "worker", "tables"):
        assert "LEFT-1" in places[place]
        assert "x-amz-security-token:***" in places[place]
    show_nothing(places)


@pytest.mark.parametrize("url", URLS)
def test_forms_take_no_url_with_a_secret(
    operator: Operator, left: Callable[[], dict[str, str]], source: str, url: str
) -> None:
    forms = {
        "store-hazard": ({"source": url, "haz_sol_id": "LEFT-3"}, {"source": source, "parent": url, "haz_sol_id": "X"}),
        "rerun-failed-chunks": ({"haz_sol_id": "LEFT-3", "source": url},),
        "verify-hazard": ({"haz_sol_id": "LEFT-3", "source": url}, {"haz_sol_id": "LEFT-3", "parent": url}),
        "store-batch": ({"prefix": url}, {"prefix": "/data", "manifest": url}),
        "benchmark-layouts": ({"source": url},),
    }
    for name, refused in forms.items():
        for parameters in refused:
            with pytest.raises(PrefectHTTPStatusError, match="409"):
                operator.start(name, **parameters)
    show_nothing(left())


def test_commands_show_and_leave_no_secret(
    operator: Operator, left: Callable[[], dict[str, str]], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    flags = ("--cluster", "local", "--workers", 1)
    stored = run("store", source, "--id", "LEFT-4", *flags)
    operator.proxy.message = REFUSAL
    operator.proxy.rule = lambda name, _: (400, "InvalidSignatureException") if name == "BatchWriteItem" else None
    commands: dict[str, tuple[object, ...]] = {
        "a refused signature": ("store", source, "--id", "LEFT-5", *flags),
        "a refused signature, without Prefect": ("store", source, "--id", "LEFT-6", "--cluster", "none"),
        "no answer": ("store", source, "--id", "LEFT-7", *flags),
        "an endpoint": ("status", "LEFT-8"),
        **{f"store {url}": ("store", url, "--id", "LEFT-9", *flags) for url in URLS},
        **{f"verify {url}": ("verify", url, "--id", "LEFT-9") for url in URLS},
        **{f"notify-batch {url}": ("notify-batch", url) for url in URLS},
    }
    endpoints = {
        "no answer": f"http://127.0.0.1:{free_port()}",
        "an endpoint": f"http://user:{PASSWORD}@127.0.0.1",
    }
    # Some wait for a store that refuses them or does not answer, and the others can go on meanwhile.
    with ThreadPoolExecutor(3) as pool:
        running = {name: pool.submit(run, *words, endpoint=endpoints.get(name)) for name, words in commands.items()}
    ended = {"a store": stored, **{name: command.result() for name, command in running.items()}}
    shown = {name: command.out + command.err for name, command in ended.items()}
    assert stored.code == 0
    assert "LEFT-4" in shown["a store"]
    assert [name for name, command in ended.items() if command.code == 0] == ["a store"]
    assert "x-amz-security-token:***" in shown["a refused signature"]
    assert "x-amz-security-token:***" in shown["a refused signature, without Prefect"]
    assert "***" in shown["an endpoint"]
    assert "no answer from http://127.0.0.1" in shown["no answer"]
    until_found("LEFT-5", lambda: left()["server"])
    show_nothing({**left(), **shown})
