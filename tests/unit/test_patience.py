"""The models' client: it sends again what can pass, and is patient with a store that is known to be there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import botocore.exceptions as bc
import pytest

from hazard_store.errors import StorageError, StoreUnreachableError
from hazard_store.settings import Settings
from hazard_store.storage import connection
from hazard_store.storage.connection import PatientClient, contact
from hazard_store.storage.faults import RetryPolicy
from hazard_store.storage.reader import Reader

UNREACHABLE = bc.EndpointConnectionError(endpoint_url="http://nowhere")


def error(code: str) -> bc.ClientError:
    return bc.ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutItem")


class Database:
    """Raises or gives what it was told, one after the other, and the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests = 0

    def _make_api_call(self, operation: str, arguments: dict[str, Any]) -> Any:
        self.requests += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store of its own, of which nothing is known; one attempt is patience enough with strangers, nine otherwise."""
    monkeypatch.setattr(connection, "FIRST_CONTACT", RetryPolicy(0.0, 0.0, deadline_secs=0.0, min_attempts=2))
    monkeypatch.setattr(connection, "RetryPolicy", lambda: RetryPolicy(0.0, 0.0, deadline_secs=0.0, min_attempts=9))
    return Settings(endpoint="http://nowhere", stage=request.node.name)


def client_of(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> PatientClient:
    monkeypatch.setattr(connection, "connect", lambda *_: SimpleNamespace(client=database))
    return PatientClient(settings)


@pytest.mark.parametrize("code", ["InternalServerError", "ThrottlingException"])
def test_what_passes_is_sent_again(settings: Settings, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    database = Database({}, error(code), UNREACHABLE, {"Item": 1})
    client = client_of(database, settings, monkeypatch)
    assert client._make_api_call("PutItem", {}) == {}
    assert client._make_api_call("PutItem", {}) == {"Item": 1}
    assert database.requests == 4


def test_what_does_not_pass_is_raised_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(error("ConditionalCheckFailedException"))
    with pytest.raises(bc.ClientError):
        client_of(database, settings, monkeypatch)._make_api_call("PutItem", {})
    assert database.requests == 1


def test_patience_is_for_stores_that_are_known_and_ends_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(UNREACHABLE)
    client = client_of(database, settings, monkeypatch)
    attempts = []
    for expected in (False, True, True):
        if expected:
            contact(settings).expect()
        with pytest.raises(bc.EndpointConnectionError):
            client._make_api_call("GetItem", {})
        attempts.append(database.requests)
        database.requests = 0
    # A stranger; still one, for it gave no answer to this process; and so on until it does.
    assert attempts == [2, 2, 2]
    database.answers = [{}, UNREACHABLE]
    client._make_api_call("GetItem", {})
    with pytest.raises(bc.EndpointConnectionError):
        client._make_api_call("GetItem", {})
    assert database.requests == 1 + 9
    contact(settings).expect()
    with pytest.raises(bc.EndpointConnectionError):
        client._make_api_call("GetItem", {})
    assert database.requests == 1 + 9 + 2


def test_another_process_word_is_enough_for_patience(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(UNREACHABLE)
    contact(settings).expect()
    with pytest.raises(bc.EndpointConnectionError):
        client_of(database, settings, monkeypatch)._make_api_call("GetItem", {})
    assert database.requests == 9


@pytest.mark.parametrize("code", ["InternalServerError", "ThrottlingException", "ConditionalCheckFailedException"])
def test_an_answer_of_the_service_makes_it_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    # The last attempt that a stranger has is the one that it answers.
    database = Database(UNREACHABLE, error(code))
    with pytest.raises(bc.ClientError):
        client_of(database, settings, monkeypatch)._make_api_call("GetItem", {})
    assert contact(settings).is_known
    assert database.requests == (2 if code.startswith("Conditional") else 1 + 9)


def test_the_reader_is_as_patient_as_the_models(settings: Settings) -> None:
    def requests_of(*answers: Any) -> int:
        database = Database(*answers)
        reader = Reader(
            settings, client=SimpleNamespace(batch_get_item=lambda **_: database._make_api_call("BatchGetItem", {}))
        )
        with pytest.raises(StorageError) as raised:
            reader.get("T", ("h", "r"), [("H", "1")])
        assert isinstance(raised.value, StoreUnreachableError) is (answers[-1] is UNREACHABLE)
        assert reader.requests == database.requests
        return database.requests

    assert requests_of(UNREACHABLE) == 2
    assert requests_of(error("InternalServerError")) == 9
    assert requests_of(UNREACHABLE) == 9
    assert requests_of(UNREACHABLE) == 2
