"""Real services: one DynamoDB Local and one Prefect server, deployed to once, for each process that runs tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from deployments.local.prefect_worker import WORK_POOL, deploy_all
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables
from tests.integration.fault_proxy import FaultProxy, fault_proxy

MAX_HEAP_MB = 512

# A run that finds its deployment's one place taken looks again after this, and not after half a minute.
SERVER_SETTINGS = """
[server.deployments]
concurrency_slot_wait_seconds = 1
"""


@pytest.fixture(scope="session")
def dynamodb_endpoint() -> Iterator[str]:
    """The URL of a DynamoDB Local with its tables in memory."""
    with DynamoDbLocal.start(max_heap_mb=MAX_HEAP_MB) as database:
        yield database.endpoint


@pytest.fixture
def stage(dynamodb_endpoint: str, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table suffix that no other test has, with the environment set to it and to the local database."""
    name = f"T{uuid.uuid4().hex[:12].upper()}"
    monkeypatch.setenv("HAZARD_STORE_ENDPOINT", dynamodb_endpoint)
    monkeypatch.setenv("HAZARD_STORE_STAGE", name)
    monkeypatch.setenv("HAZARD_STORE_REGION", "us-east-1")
    for variable, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server to which this process and those that it starts report."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from flows.server import send_the_last

    home = tmp_path_factory.mktemp("prefect")
    (home / "server").mkdir()
    (home / "server" / "prefect.toml").write_text(SERVER_SETTINGS)
    with PrefectServer.start(home=home / "server") as server, pytest.MonkeyPatch.context() as environment:
        client_home = home / "client"
        environment.setenv("PREFECT_API_URL", server.api_url)
        environment.setenv("PREFECT_HOME", str(client_home))
        environment.setenv("DO_NOT_TRACK", "1")
        # Prefect has read the environment at its import, which may have come before.
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_HOME: client_home}):
            yield server
            send_the_last()


@pytest.fixture(scope="session")
def deployed_server(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> PrefectServer:
    """The same with all deployments and their work pool, for which no worker runs yet."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    deploy_all(prefect_server.api_url, tmp_path_factory.mktemp("deploy"))
    return prefect_server


@pytest.fixture
def tables(stage: str) -> Settings:
    """A fresh set of tables, and where they are."""
    settings = Settings.from_environment()
    create_tables(settings)
    return settings


@pytest.fixture
def proxy(dynamodb_endpoint: str, tables: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy in front of the database, to which the environment points."""
    with fault_proxy(dynamodb_endpoint) as running:
        monkeypatch.setenv("HAZARD_STORE_ENDPOINT", running.endpoint)
        yield running
