"""What every local worker needs before its first task: a process imports this once, and the workers are forked from it.

It takes some 3 s of processor time; a worker's own start takes less than a tenth of that.
"""

from __future__ import annotations

# Prefect loads both when a task runs first.
import prefect_aws  # noqa: F401
import prefect_dask  # noqa: F401

import tasks.storing  # noqa: F401
from hazard_store.layouts.packed import compile_codec

# Numba makes itself ready for compiled code when some is loaded first, which is most of what that takes.
compile_codec()
