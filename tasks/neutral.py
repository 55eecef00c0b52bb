"""What Prefect keeps of a task that raised, its logs and its state: without secrets and signs that steer a terminal.

Our own errors are neutral. Prefect also logs the traceback, and with it the foreign error that ours came from:
DynamoDB's refusal of a signature, for one, quotes the session's token.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hazard_store.errors import HazardStoreError
from hazard_store.texts import to_log

LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine", "prefect.task_engine", "prefect.flow_engine")


@contextmanager
def neutral_errors() -> Iterator[None]:
    """Turn what leaves this block into an error of ours: Prefect makes its message that of the task run.

    Raises
    ------
    HazardStoreError
        In place of a foreign exception, which is its cause.
    """
    try:
        yield
    except HazardStoreError:
        raise
    except Exception as exc:
        raise HazardStoreError(f"{type(exc).__name__}: {exc}") from exc


class NeutralLogs(logging.Filter):
    """Makes messages and tracebacks neutral before any handler sees them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and let it pass."""
        record.msg, record.args = to_log(record.getMessage()), ()
        if record.exc_info:
            # A formatter that finds this text does not make its own.
            record.exc_text = to_log(logging.Formatter().formatException(record.exc_info))
        return True


for _name in LOGGERS:
    logging.getLogger(_name).addFilter(NeutralLogs())
