"""Credentials that expire are renewed once a request, and nothing else is taken for that."""

from types import SimpleNamespace
from typing import Any

import pytest

from hazard_store.storage.credentials import EXPIRED_CODES, CredentialRenewal


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return SimpleNamespace(_request_signer=SimpleNamespace(_credentials=None))


def answer(code: str) -> tuple[Any, dict[str, Any]]:
    return None, {"Error": {"Code": code}}


@pytest.mark.parametrize("code", sorted(EXPIRED_CODES))
def test_expired_credentials_are_fetched_anew_and_the_request_sent_once_more(client: Any, code: str) -> None:
    renewal = CredentialRenewal(client)
    assert renewal(attempts=1, response=answer(code)) == 0.0
    assert client._request_signer._credentials.access_key == "NEW"
    assert renewal(attempts=2, response=answer(code)) is None


@pytest.mark.parametrize("response", [None, (None, {}), answer("AccessDeniedException")])
def test_other_answers_leave_credentials_alone(client: Any, response: tuple[Any, dict[str, Any]] | None) -> None:
    assert CredentialRenewal(client)(attempts=1, response=response) is None
    assert client._request_signer._credentials is None
