"""One TLS context for all of a process's Prefect clients, of which each task has two.

Prefect makes a context for every client, and reads the certificates of all authorities for it: 17 ms (by hand), whether
or not the server speaks TLS, so for a task as long as a worker takes for 500 items.
"""

from __future__ import annotations

import ssl
import threading
from functools import lru_cache
from types import ModuleType
from typing import Any

from prefect.client import orchestration

_making = threading.Lock()


class _Ssl(ModuleType):
    """Python's `ssl`, as Prefect's clients see it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)

    @staticmethod
    def create_default_context(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        if args or kwargs.keys() != {"cafile"}:
            # One without certificates Prefect goes on to weaken.
            return ssl.create_default_context(*args, **kwargs)
        # A worker's first tasks start together.
        with _making:
            return _context(**kwargs)


@lru_cache(maxsize=4)
def _context(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)


def make_tls_context() -> None:
    """Make the context that clients of this process will want, and of those that are forked from it.

    Raises
    ------
    OSError
        If the certificates that Prefect's settings name cannot be read.
    """
    # It connects to nothing before it is used.
    orchestration.SyncPrefectClient("http://localhost/api")


def share_tls_context() -> None:
    """Let Prefect's clients that are made in this process from now on share their context."""
    orchestration.ssl = _Ssl("ssl")  # type: ignore[attr-defined]
