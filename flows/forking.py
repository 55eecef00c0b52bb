"""How workers of a local cluster start: forked from a process that imports for all of them, where that is safe.

That process is to start as soon as it can: so nothing here needs Dask or Prefect, which take long to load.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver, resource_tracker

# Workers' libraries look at these when they are loaded. The first three Dask sets as well, too late for what is forked;
# by the last, not every connection and worker says hello and goodbye.
_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "DASK_LOGGING__DISTRIBUTED": "error",
}


def prepare_cluster(name: str) -> None:
    """Begin what a cluster of this name takes longest for, where there is other work to be done before it is needed.

    The command line loads Prefect and Dask meanwhile.
    """
    if name == "local":
        start_method()


def start_method() -> str:
    """Give how the processes of local workers start, and let what they will be forked from start at once."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    # Only Linux forks safely what has loaded the system's libraries.
    if sys.platform != "linux":
        return "spawn"
    # A forked worker would still have what was taken out of the environment since.
    return "forkserver" if start_fork_server() <= os.environ.keys() else "spawn"


@cache
def start_fork_server() -> frozenset[str]:
    """Start the process that workers are forked from, which imports while this one goes on; gives its variables."""
    multiprocessing.set_forkserver_preload(["tasks.preloaded"])
    # Ctrl-C reaches that process and the workers as well, which end with this one: not each with a traceback. Python's
    # resource tracker comes first, for its start would let the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # Python 3.11 does not tell it where this process finds its modules: it could be in another checkout.
        with _variable("PYTHONPATH", os.pathsep.join(filter(None, sys.path))):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return frozenset(os.environ)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Let the processes that start within the block have a variable of the environment."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
