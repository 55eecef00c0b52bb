"""What local workers are forked from has what a first task would otherwise look for, in each of a worker's threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

FIRST_TASK = """
import importlib.metadata, ssl, sys
import tasks.preloaded
from prefect.client.orchestration import SyncPrefectClient
from prefect.plugins import load_prefect_collections

def refuse(*args, **kwargs):
    raise AssertionError("looked for, or made, once more")

importlib.metadata.distributions = ssl.create_default_context = refuse
before = set(sys.modules)
assert {"prefect_aws", "prefect_dask"} <= set(load_prefect_collections())
SyncPrefectClient("https://prefect.example/api")
print(sorted(set(sys.modules) - before))
"""


def test_a_first_task_looks_for_no_collections_and_makes_no_tls_context() -> None:
    run = subprocess.run([sys.executable, "-c", FIRST_TASK], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
