"""Making, dropping and listing the tables of a stage."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hazard_store.errors import TableMissingError
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import MODELS, StoreModel, bind, table_name


@dataclass(frozen=True)
class TableState:
    """A table of the stage: its name and whether it is there (`status` as DynamoDB says, or ``missing``)."""

    name: str
    status: str
    items: int
    size_bytes: int


def create_tables(settings: Settings) -> list[str]:
    """Make the tables that are missing, on demand, and wait until they can be used; gives the names of those made."""
    made = []
    for model in MODELS:
        bound = bind(model, settings)
        with translated(settings, bound.Meta.table_name):
            if not bound.exists():
                bound.create_table(wait=True)
                made.append(bound.Meta.table_name)
    return made


def drop_tables(settings: Settings) -> list[str]:
    """Drop the tables of the stage with all they hold; gives the names of those dropped."""
    dropped = []
    for model in MODELS:
        bound = bind(model, settings)
        with translated(settings, bound.Meta.table_name):
            if bound.exists():
                bound.delete_table()
                dropped.append(bound.Meta.table_name)
    return dropped


def list_tables(settings: Settings) -> list[TableState]:
    """Say of every table whether it is there, with DynamoDB's own count, which AWS renews every six hours."""
    states = []
    for model in MODELS:
        name = table_name(model.table_base, settings)
        try:
            table = _describe(model, settings)
        except TableMissingError:
            states.append(TableState(name, "missing", 0, 0))
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


def _describe(model: type[StoreModel], settings: Settings) -> dict[str, Any]:
    bound = bind(model, settings)
    with translated(settings, bound.Meta.table_name):
        description: dict[str, Any] = bound.describe_table()
    return description
