"""``hazard-store`` with short leases and small chunks, for runs that are killed: ``python -m tests.chaos.quick``.

A lease still outlasts several renewals. Dask's workers are processes of their own and keep the real times.
"""

from __future__ import annotations

import sys

from hazard_store import lease, planning
from hazard_store.cli import main

LEASE_SECS = 3.0


def quicken() -> None:
    lease.RENEW_SECS = 0.5
    lease.LEASE_SECS = LEASE_SECS
    planning.ITEMS_PER_CHUNK = 600


if __name__ == "__main__":
    quicken()
    sys.exit(main())
