"""What the command line wants to know while a flow runs in its process.

It stands in a module of its own because Prefect pickles a flow with all that its function refers to when it sends a
task to Dask, and a context variable cannot be pickled; a module is named, not copied.
"""

from __future__ import annotations

from contextvars import ContextVar

from hazard_store.jobs import Progress, Silent

current: ContextVar[Progress | None] = ContextVar("progress", default=None)


def of_this_run() -> Progress:
    """The listener that the command line set, or one that tells nothing."""
    return current.get() or Silent()
