"""How Dask behaves in the processes of a run: the flow's, and its workers'."""

from __future__ import annotations

import logging
from typing import Any

import dask

CONNECT_TIMEOUT_SECS = 10.0

DASK_SETTINGS: dict[str, Any] = {
    # No more chunks a worker than it has threads: the death of a worker would count against those prefetched as well.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT_SECS:g}s",
    # A worker looks 100 times a second where its tasks are, 50 times how late its loop is, 10 times at its memory, and
    # twice at the machine: a sixth of a core and more, and the interpreter's lock when the sending threads need it.
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.gil.enabled": False,
}


def set_up_dask() -> None:
    """Let this process, and the workers that it starts, behave so; `forking` has what these read when they load."""
    dask.config.set(DASK_SETTINGS)
    # By Dask, C's allocator gives every 64 KB back to the system, which clears them when they are taken again: for each
    # block and batch anew. Without that a worker's memory is as large, and an item takes it 5 us less (by hand).
    dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None})
    # Every connection and every worker says hello and goodbye on INFO.
    logging.getLogger("distributed").setLevel(logging.ERROR)
