"""What every local worker needs before its first task: a process imports this once, and the workers are forked from it.

It takes some 2.5 s of processor time; a worker's own start takes less than a tenth of that.
"""

from __future__ import annotations

from importlib import import_module

from hazard_store.importing import objects_that_stay
from hazard_store.layouts.packed import compile_codec

with objects_that_stay():
    # Prefect loads the first two when a task runs first.
    for _name in ("prefect_aws", "prefect_dask", "tasks.storing"):
        import_module(_name)
    # Numba makes itself ready for compiled code when some is loaded first, which is most of what that takes.
    compile_codec()
