"""What every local worker needs before its first task: a process imports this once, and the workers are forked from it.

It takes some 2.5 s of processor time; a worker's own start takes less than a tenth of that.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from hazard_store.importing import objects_that_stay

with objects_that_stay():
    # Prefect itself would look through all installed packages for its collections when a task runs first, in each of
    # a worker's threads.
    import_module("prefect.plugins").load_prefect_collections()
    import_module("tasks.storing")
    # Numba makes itself ready for compiled code when some is loaded first, which is most of what that takes.
    import_module("hazard_store.layouts.packed").compile_codec()
    # What is wrong with a configuration is said where a client is needed, and must not end this process.
    with suppress(Exception):
        import_module("tasks.tls_once").make_tls_context()
    with suppress(Exception):
        import_module("hazard_store.storage.connection").get_ready()
