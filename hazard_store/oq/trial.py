"""Opens a file first in a process of its own: HDF5's library loops or crashes on some damaged files.

``python -m hazard_store.oq.trial SOURCE`` reads all but the curves, and those too where they are in chunks: curves that
stand in one piece are read by calls that can fail but not loop. What the reader refuses ends the process well: the
caller will refuse it for itself, and say why.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hazard_store.errors import HazardStoreError, NotADatastoreError
from hazard_store.oq.archive import resolve_source, stamp_of
from hazard_store.oq.calculation import Calculation, open_calculation

# Of processor time, which neither a busy machine nor a slow share uses up. A sound small file takes under one.
START_CPU_SECS = 5
BYTES_PER_CPU_SEC = 5e6

# Of time as such, for a share that does not answer.
START_SECS = 300.0
SLOWEST_BYTES_PER_SEC = 1e6


def open_tried(
    source: str | os.PathLike[str], *, parent: str | os.PathLike[str] | None = None, **options: Any
) -> Calculation:
    """Open a calculation as ``open_calculation`` does, once a process of its own has read it without harm.

    Raises
    ------
    SourceError, UsageError
        What ``open_calculation`` and ``require_readable`` raise.
    """
    for path in (source, parent):
        if path is not None:
            require_readable(path)
    return open_calculation(source, parent=parent, **options)


def require_readable(source: str | os.PathLike[str]) -> None:
    """Refuse a file that HDF5's library cannot read without looping or crashing; asked once for each content.

    Raises
    ------
    NotADatastoreError
        If there is no such file, or reading it does not end or crashes.
    UsageError
        If it lies outside the folders that the operator allows.
    """
    path = resolve_source(source)
    stamp = stamp_of(path)
    _require_readable(path, stamp.size, stamp.mtime_ns)


@lru_cache(maxsize=64)
def _require_readable(path: Path, size: int, mtime_ns: int) -> None:
    command = [sys.executable, "-m", __name__, str(path)]
    patience_secs = START_SECS + size / SLOWEST_BYTES_PER_SEC
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience_secs, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotADatastoreError(
            f"reading it did not end within {patience_secs:.0f} s: it is damaged, or its disk does not answer; "
            "copy the datastore again",
            source=str(path),
        ) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"signal {-done.returncode}" if done.returncode < 0 else (lines or [f"exit code {done.returncode}"])[-1]
        raise NotADatastoreError(
            f"is damaged: HDF5 loops or crashes on it ({why}); copy the datastore again", source=str(path)
        )


def main(arguments: Sequence[str]) -> None:
    """Read one file, within its share of processor time."""
    (source,) = arguments
    limit_secs = START_CPU_SECS + int(stamp_of(Path(source)).size / BYTES_PER_CPU_SEC)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_secs, limit_secs + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open_calculation(source, strict=False) as calculation:
            if calculation.has_chunked_curves:
                calculation.examine()
    except HazardStoreError:
        # The caller will meet the same, and say it.
        return


if __name__ == "__main__":
    main(sys.argv[1:])
