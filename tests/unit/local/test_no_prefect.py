"""The local database, like all of the library, is there without Prefect and Dask."""

from __future__ import annotations

import subprocess
import sys


def test_local_database_imports_no_prefect() -> None:
    code = "import sys, hazard_store.local.dynamodb; print({'prefect', 'distributed', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
