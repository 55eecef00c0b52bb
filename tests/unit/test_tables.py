"""Tables are made and dropped by what DynamoDB says of them: AWS takes its time for both."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import botocore.exceptions as bc
import pytest

from hazard_store.errors import StorageError
from hazard_store.settings import Settings
from hazard_store.storage import connection, tables
from hazard_store.storage.models import MODELS, table_name
from hazard_store.storage.tables import create_tables, drop_tables, list_tables

LOOKS = 3


class SlowDynamoDb:
    """Takes `LOOKS` descriptions of a table to make or drop it, and refuses what AWS refuses meanwhile."""

    # pynamodb looks whether a client has credentials.
    _request_signer = SimpleNamespace(_credentials=True)

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        self.looks: dict[str, int] = {}

    def begin(self, name: str, status: str) -> None:
        self.status[name], self.looks[name] = status, LOOKS

    def _make_api_call(self, operation: str, arguments: dict[str, Any]) -> Any:
        name = arguments["TableName"]
        if operation == "CreateTable":
            self._require(name not in self.status, "ResourceInUseException")
            self.begin(name, "CREATING")
            return {}
        self._require(name in self.status, "ResourceNotFoundException")
        if operation == "DeleteTable":
            self._require(self.status[name] == "ACTIVE", "ResourceInUseException")
            self.begin(name, "DELETING")
            return {}
        assert operation == "DescribeTable"
        described = {"TableName": name, "TableStatus": self.status[name], "ItemCount": 0, "TableSizeBytes": 0}
        self.looks[name] -= 1
        if not self.looks[name] and self.status.pop(name) == "CREATING":
            self.status[name] = "ACTIVE"
        return {"Table": {**described, "KeySchema": [], "AttributeDefinitions": []}}

    def _require(self, is_so: bool, code: str) -> None:
        if not is_so:
            raise bc.ClientError({"Error": {"Code": code, "Message": "m"}}, "DescribeTable")


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(endpoint="http://nowhere", stage=re.sub(r"\W", "-", request.node.name))


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> SlowDynamoDb:
    slow = SlowDynamoDb()
    monkeypatch.setattr(connection, "connect", lambda *_: SimpleNamespace(client=slow))
    monkeypatch.setattr(tables, "POLL_SECS", 0.0)
    return slow


def names_of(settings: Settings) -> list[str]:
    return [table_name(model.table_base, settings) for model in MODELS]


def test_dropped_tables_are_gone_and_can_be_made_at_once(database: SlowDynamoDb, settings: Settings) -> None:
    names = names_of(settings)
    assert create_tables(settings) == names
    assert set(database.status.values()) == {"ACTIVE"}
    assert create_tables(settings) == []
    assert drop_tables(settings) == names
    assert database.status == {}
    assert drop_tables(settings) == []
    assert create_tables(settings) == names


def test_what_somebody_else_drops_is_made_anew(database: SlowDynamoDb, settings: Settings) -> None:
    names = names_of(settings)
    create_tables(settings)
    database.begin(names[2], "DELETING")
    assert [state.name for state in list_tables(settings) if not state.is_there] == [names[2]]
    assert create_tables(settings) == [names[2]]
    assert list(database.status.values()) == ["ACTIVE"] * len(names)


def test_what_somebody_else_makes_is_waited_for(database: SlowDynamoDb, settings: Settings) -> None:
    names = names_of(settings)
    create_tables(settings)
    database.begin(names[0], "CREATING")
    assert create_tables(settings) == []
    assert database.status[names[0]] == "ACTIVE"
    database.begin(names[0], "CREATING")
    assert drop_tables(settings) == names


def test_waiting_ends(database: SlowDynamoDb, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "WAIT_SECS", 0.0)
    name = names_of(settings)[0]
    database.begin(name, "DELETING")
    with pytest.raises(StorageError, match=f"table {name} is DELETING still, after 0 s"):
        create_tables(settings)
