"""Prefect's clients share their TLS context, but not one that verifies nothing."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_TLS_INSECURE_SKIP_VERIFY, temporary_settings

import tasks.storing

API_URL = "https://prefect.example/api"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The certificates of contexts that are made within the test."""
    files = []
    create = ssl.create_default_context

    def counted(*args: Any, cafile: str | None = None) -> ssl.SSLContext:
        files.append(cafile)
        return create(*args, cafile=cafile)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    return files


def verification(client: SyncPrefectClient) -> ssl.VerifyMode:
    """Whether a client's connections ask for a certificate."""
    context: ssl.SSLContext = client._client._transport._pool._ssl_context  # type: ignore[attr-defined]
    return context.verify_mode


def test_clients_share_their_context(made: list[str | None]) -> None:
    assert tasks.storing.meta_task.name == "meta"
    clients = [SyncPrefectClient(API_URL) for _ in range(3)]
    assert len(made) <= 1, "those of other tests may have made it before"
    assert {verification(client) for client in clients} == {ssl.CERT_REQUIRED}


def test_one_that_verifies_nothing_is_no_other_clients() -> None:
    with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        assert verification(SyncPrefectClient(API_URL)) == ssl.CERT_NONE
    assert verification(SyncPrefectClient(API_URL)) == ssl.CERT_REQUIRED
