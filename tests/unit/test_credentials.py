"""Credentials that expire are renewed once a request, and nothing else is taken for that."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.hooks import HierarchicalEmitter

from hazard_store.errors import CredentialsError
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from hazard_store.storage.credentials import EXPIRED_CODES, renew_when_expired
from hazard_store.storage.faults import Fault, classify


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return SimpleNamespace(
        _request_signer=SimpleNamespace(_credentials=None), meta=SimpleNamespace(events=HierarchicalEmitter())
    )


def answer(code: str) -> tuple[Any, dict[str, Any]]:
    return None, {"Error": {"Code": code}}


def after_answer(client: Any, attempts: int, response: tuple[Any, dict[str, Any]] | None) -> object:
    """What the handlers say when an answer has come."""
    [(_, said)] = client.meta.events.emit("needs-retry.dynamodb.PutItem", attempts=attempts, response=response)
    return said


@pytest.mark.parametrize("code", sorted(EXPIRED_CODES))
def test_expired_credentials_are_fetched_anew_and_the_request_sent_once_more(client: Any, code: str) -> None:
    renew_when_expired(client)
    assert after_answer(client, 1, answer(code)) == 0.0
    assert client._request_signer._credentials.access_key == "NEW"
    assert after_answer(client, 2, answer(code)) is None


@pytest.mark.parametrize("response", [None, (None, {}), answer("AccessDeniedException")])
def test_other_answers_leave_credentials_alone(client: Any, response: tuple[Any, dict[str, Any]] | None) -> None:
    renew_when_expired(client)
    assert after_answer(client, 1, response) is None
    assert client._request_signer._credentials is None


def test_a_source_that_only_has_expired_credentials_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    settings = Settings(endpoint="http://127.0.0.1:9", stage="EXPIRED")
    expired = {"access_key": "A", "secret_key": "s", "token": "t", "expiry_time": "2020-01-01T00:00:00Z"}
    connect(settings).client._request_signer._credentials = RefreshableCredentials.create_from_metadata(
        expired, refresh_using=lambda: expired, method="custom-process"
    )
    with pytest.raises(CredentialRetrievalError, match=r"custom-process.*still expired") as raised:
        connect(settings).client.list_tables()
    assert classify(raised.value) is Fault.CREDENTIALS


@pytest.mark.parametrize(("variable", "content"), [("AWS_PROFILE", None), ("AWS_CONFIG_FILE", "[profile")])
def test_a_configuration_of_aws_that_cannot_be_used_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, content: str | None
) -> None:
    path = tmp_path / "config"
    path.write_text(content or "")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv(variable, str(path) if content else "nobody")
    with pytest.raises(CredentialsError, match="AWS_PROFILE"):
        connect(Settings(stage=f"T-{variable}"))
