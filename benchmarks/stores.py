"""Databases to measure against, each fresh: DynamoDB Local slows down as its memory fills."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.limited_dynamodb import LimitedDynamoDb, limited_dynamodb
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables

_UNLIMITED_WCU = 1e12


@contextmanager
def local_store() -> Iterator[Settings]:
    """DynamoDB Local with the project's tables, named in the environment as well."""
    with DynamoDbLocal.start(max_heap_mb=4096) as database:
        yield _prepared(database.endpoint)


@contextmanager
def limited_store(**options: Any) -> Iterator[tuple[Settings, LimitedDynamoDb]]:
    """The capacity-limited proxy, which acknowledges curves without storing them; all else is stored."""
    with DynamoDbLocal.start() as database, limited_dynamodb(database.endpoint, acknowledge=True, **options) as store:
        yield _prepared(store.endpoint), store


@contextmanager
def acknowledging_store() -> Iterator[Settings]:
    """The same without limits: what is measured is the client."""
    with limited_store(partition_wcu=_UNLIMITED_WCU, table_wcu=_UNLIMITED_WCU) as (settings, _):
        yield settings


def _prepared(endpoint: str) -> Settings:
    os.environ.update(LOCAL_CREDENTIALS, HAZARD_STORE_ENDPOINT=endpoint, HAZARD_STORE_STAGE="BENCH")
    settings = Settings.from_environment()
    create_tables(settings)
    return settings
