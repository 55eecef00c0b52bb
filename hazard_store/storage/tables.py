"""Making, dropping and listing the tables of a stage."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hazard_store.errors import StorageError, TableMissingError
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import MODELS, StoreModel, bind, table_name

# What is said of a table here, besides what DynamoDB says: that it knows none.
MISSING = "missing"

# AWS makes or drops a table in some 10 to 30 s, and takes minutes to drop a large one. DynamoDB Local does it at once.
WAIT_SECS = 600.0
POLL_SECS = 1.0


@dataclass(frozen=True)
class TableState:
    """A table of the stage: its name and whether it is there (`status` as DynamoDB says, or ``missing``)."""

    name: str
    status: str
    items: int
    size_bytes: int

    @property
    def is_there(self) -> bool:
        """Whether it stays there as things are: one that is being dropped can be described, and is not."""
        return self.status not in (MISSING, "DELETING")


def create_tables(settings: Settings) -> list[str]:
    """Make the tables that are missing, on demand, and wait until all can be used; gives the names of those made.

    A table that is still being dropped is waited for, and made anew.

    Raises
    ------
    StorageError
        If one is not ready after `WAIT_SECS`.
    """
    made = []
    for model in MODELS:
        if _status_after({"DELETING"}, model, settings) == MISSING:
            bound = bind(model, settings)
            with translated(settings, bound.Meta.table_name):
                bound.create_table()
            made.append(bound.Meta.table_name)
    for model in MODELS:
        # What was made a moment ago may not be known to who is asked.
        _status_after({MISSING, "CREATING"}, model, settings)
    return made


def drop_tables(settings: Settings) -> list[str]:
    """Drop the tables of the stage with all they hold, and wait until they are gone; gives the names of those dropped.

    Raises
    ------
    StorageError
        If one is still there after `WAIT_SECS`.
    """
    dropped = []
    for model in MODELS:
        # One that is being made cannot be dropped.
        if _status_after({"CREATING"}, model, settings) not in (MISSING, "DELETING"):
            bound = bind(model, settings)
            with translated(settings, bound.Meta.table_name):
                bound.delete_table()
            dropped.append(bound.Meta.table_name)
    for model in MODELS:
        _status_after({"ACTIVE", "UPDATING", "DELETING"}, model, settings)
    return dropped


def list_tables(settings: Settings) -> list[TableState]:
    """Say of every table whether it is there, with DynamoDB's own count, which AWS renews every six hours."""
    states = []
    for model in MODELS:
        name = table_name(model.table_base, settings)
        try:
            table = _describe(model, settings)
        except TableMissingError:
            states.append(TableState(name, MISSING, 0, 0))
        else:
            states.append(TableState(name, table["TableStatus"], int(table["ItemCount"]), int(table["TableSizeBytes"])))
    return states


def require_tables(bases: Container[str], settings: Settings) -> dict[str, datetime]:
    """Check that tables exist before anything is written to one of them.

    Returns
    -------
    dict of str to datetime
        By the table's base name, when it was made.

    Raises
    ------
    TableMissingError, StoreUnreachableError, CredentialsError
    """
    return {
        model.table_base: _describe(model, settings)["CreationDateTime"]
        for model in MODELS
        if model.table_base in bases
    }


def _status_after(passing: Container[str], model: type[StoreModel], settings: Settings) -> str:
    """Wait while a table has one of the `passing` states, and give the one that it has then."""
    deadline = time.monotonic() + WAIT_SECS
    while True:
        try:
            status = str(_describe(model, settings)["TableStatus"])
        except TableMissingError:
            status = MISSING
        if status not in passing:
            return status
        if time.monotonic() >= deadline:
            name = table_name(model.table_base, settings)
            raise StorageError(f"table {name} is {status} still, after {WAIT_SECS:g} s: see to it, and try again")
        time.sleep(POLL_SECS)


def _describe(model: type[StoreModel], settings: Settings) -> dict[str, Any]:
    bound = bind(model, settings)
    with translated(settings, bound.Meta.table_name):
        description: dict[str, Any] = bound.describe_table()
    return description
