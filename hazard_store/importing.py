"""Loading libraries faster."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def objects_that_stay() -> Iterator[None]:
    """Let what is made within the block, as by imports, never be looked at by the garbage collector.

    It would look through all of it again and again meanwhile, which is a fifth of the time that Prefect and Dask take
    to load (by hand); and a process that is forked later shares no memory that it has looked at.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
