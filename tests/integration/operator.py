"""What an operator has: a store behind a proxy, a Prefect server with all deployments, and a worker that runs them.

The two fixtures are for the modules that name them: each gets a worker, a proxy and tables of its own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from deployments.local import prefect_worker
from deployments.local.prefect_worker import PrefectWorker
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import ChunkRecord, Ledger
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables
from tests.integration.fault_proxy import FaultProxy, fault_proxy

# A run takes some ten seconds; many times that on a machine that has other work.
RUN_SECS = 240.0


@dataclass(frozen=True)
class Operator:
    """A store behind a proxy, a Prefect server with all deployments, and a worker that runs them."""

    settings: Settings
    proxy: FaultProxy
    client: SyncPrefectClient

    def deployment(self, name: str) -> DeploymentResponse:
        return self.client.read_deployment_by_name(f"{name.replace('-', '_')}/{name}")

    def start(self, name: str, **parameters: Any) -> FlowRun:
        return self.client.create_flow_run_from_deployment(self.deployment(name).id, parameters=parameters)

    def end(self, run: FlowRun) -> tuple[str, str]:
        """The type and the message of the state in which a run ends."""
        deadline = time.monotonic() + RUN_SECS
        while True:
            state = self.client.read_flow_run(run.id).state
            if state is not None and state.is_final():
                return state.type.value, state.message or ""
            assert time.monotonic() < deadline, f"{run.name} is still {state}"
            # Each look takes the server and this process some 20 ms, which the run itself has less.
            time.sleep(0.5)

    def runs(self, name: str) -> list[FlowRun]:
        """The runs of a deployment, the last one first."""
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment(name).id]))
        return self.client.read_flow_runs(deployment_filter=mine, sort=FlowRunSort.EXPECTED_START_TIME_DESC)

    def artifact(self, key: str) -> str:
        """The newest of that key."""
        found = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC
        )
        return str(found[0].data)

    def chunks(self, haz_sol_id: str) -> dict[str, ChunkRecord]:
        return dict(Ledger(self.settings).chunks(haz_sol_id, LAYOUTS["packed+solution"]))


@pytest.fixture(scope="module")
def services(
    dynamodb_endpoint: str, deployed_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, FaultProxy]]:
    home = tmp_path_factory.mktemp("worker")
    with running(dynamodb_endpoint, deployed_server, home, LOCAL_CREDENTIALS) as (settings, proxy, _):
        yield settings, proxy


@contextmanager
def running(
    dynamodb_endpoint: str, server: PrefectServer, home: Path, credentials: Mapping[str, str]
) -> Iterator[tuple[Settings, FaultProxy, PrefectWorker]]:
    """A proxy, and a worker whose runs reach the store through it, with these credentials."""
    with fault_proxy(dynamodb_endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefect_worker, "QUERY_SECS", 1)
        settings = Settings(endpoint=proxy.endpoint, stage=f"D{uuid.uuid4().hex[:12].upper()}")
        variables = {"HAZARD_STORE_ENDPOINT": proxy.endpoint, "HAZARD_STORE_STAGE": settings.stage, **credentials}
        with PrefectWorker.start(api_url=server.api_url, home=home, variables=variables) as worker:
            yield settings, proxy, worker


@pytest.fixture
def operator(services: tuple[Settings, FaultProxy], monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    settings, proxy = services
    for name, value in LOCAL_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HAZARD_STORE_ENDPOINT", str(settings.endpoint))
    monkeypatch.setenv("HAZARD_STORE_STAGE", settings.stage)
    create_tables(settings)
    proxy.rule = lambda operation, body: None
    with get_client(sync_client=True) as client:
        yield Operator(settings, proxy, client)
