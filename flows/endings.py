"""How a run ends that did not do what it was asked for: Failed, with one sentence, and no traceback.

Prefect raises what a Failed state holds once more when the run's process ends, and logs it as unexpected, with a
traceback of its own engine, into the run's log in the UI. A run that says itself why it failed has no use for that.
"""

from __future__ import annotations

import logging
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Failed

from hazard_store.errors import HazardStoreError


class RunFailedError(HazardStoreError):
    """A run that ended in order, but without all that it was asked for.

    Attributes
    ----------
    outcome : object
        What it did, where there is something to tell: a report, or findings.
    """

    def __init__(self, message: str, outcome: object = None) -> None:
        super().__init__(message)
        self.outcome = outcome


def failed(message: str, outcome: object = None) -> State[Any]:
    """Give the state of a run that knows why it failed."""
    return Failed(message=message, data=RunFailedError(message, outcome))


def refused(error: HazardStoreError) -> State[Any]:
    """Give the state of a run that could not begin, or not go on."""
    return Failed(message=str(error), data=error)


class _OwnFailures(logging.Filter):
    """Holds back what Prefect logs of errors that are already the run's message."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HazardStoreError))


for _name in ("prefect.flow_runs", "prefect.engine", "prefect.task_runner.dask"):
    logging.getLogger(_name).addFilter(_OwnFailures())
