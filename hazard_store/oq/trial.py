"""Opens a datastore first in a process of its own: HDF5's library loops or crashes on some damaged files.

``python -m hazard_store.oq.trial SOURCE`` reads all but the curves, and those too where they are in chunks: curves that
stand in one piece are read by calls that can fail but not loop. Bytes that have no path on this machine are its
standard input. What the reader refuses there is refused here: this process, which has no such limits, does not open it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hazard_store.errors import NotADatastoreError, NotStorableError, SourceError, UnfinishedError
from hazard_store.oq.calculation import Calculation, calculation_in
from hazard_store.sources import SourceStamp
from hazard_store.sources.content import Content, content_of, named_content

# Of processor time, which neither a busy machine nor a slow share uses up. A sound small file takes under one.
START_CPU_SECS = 5
BYTES_PER_CPU_SEC = 5e6

# Of time as such, for a share that does not answer.
START_SECS = 300.0
SLOWEST_BYTES_PER_SEC = 1e6

# What a trial may take besides the size of its file. HDF5 believes sizes that stand in a damaged file, and takes that
# memory before it finds that they are wrong, or never does. The second ends what would take all there is.
MAX_PEAK_BYTES = 512 << 20
MAX_DATA_BYTES = 2 << 30

REFUSED = 3

# What was found sound by this process.
_tried: set[tuple[str, SourceStamp]] = set()


def open_tried(
    source: str | os.PathLike[str], *, parent: str | os.PathLike[str] | None = None, **options: Any
) -> Calculation:
    """Open a calculation as ``open_calculation`` does, once a process of its own has read it without harm.

    Raises
    ------
    SourceError, UsageError
        What ``open_calculation`` and ``require_readable`` raise.
    """
    if parent is not None:
        theirs = content_of(parent)
        try:
            require_readable(theirs)
        finally:
            theirs.close()
    content = content_of(source)
    try:
        require_readable(content)
    except BaseException:
        content.close()
        raise
    return calculation_in(content, parent=parent, **options)


def require_readable(content: Content) -> None:
    """Refuse a file that HDF5's library cannot read without looping or crashing; asked once for each content.

    Raises
    ------
    NotADatastoreError
        If reading it does not end, crashes, or takes more memory than any datastore needs.
    NotADatastoreError, NotStorableError
        If it is refused there.
    """
    key = (content.source.name, content.stamp)
    if key in _tried:
        return
    name = content.source.name
    words, given = content.as_input()
    patience_secs = START_SECS + content.stamp.size / SLOWEST_BYTES_PER_SEC
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, *words, name],
            stdin=given,
            capture_output=True,
            timeout=patience_secs,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotADatastoreError(
            f"reading it did not end within {patience_secs:.0f} s: it is damaged, or its disk does not answer; "
            "copy the datastore again",
            source=name,
        ) from None
    if done.returncode == REFUSED:
        told = json.loads(done.stdout)
        refusals = {one.__name__: one for one in (NotADatastoreError, UnfinishedError, NotStorableError)}
        raise refusals[told["type"]](told["reason"], source=name)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"signal {-done.returncode}" if done.returncode < 0 else (lines or [f"exit code {done.returncode}"])[-1]
        raise NotADatastoreError(
            f"is damaged: HDF5 loops or crashes on it ({why}); copy the datastore again", source=name
        )
    _tried.add(key)


def main(arguments: Sequence[str]) -> int:
    """Read one file, within its share of processor time and memory; tells a refusal as JSON."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        content = named_content(arguments)
        size = content.stamp.size
        limit_secs, limit_bytes = START_CPU_SECS + int(size / BYTES_PER_CPU_SEC), MAX_DATA_BYTES + size
        resource.setrlimit(resource.RLIMIT_CPU, (limit_secs, limit_secs + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        with calculation_in(content, strict=False) as calculation:
            if calculation.has_chunked_curves:
                calculation.examine()
            if (peak_bytes := _peak_bytes()) > MAX_PEAK_BYTES + size:
                raise NotADatastoreError(
                    f"is damaged: it takes {peak_bytes / 1e6:,.0f} MB of memory to open; copy the datastore again",
                    source=calculation.source,
                )
    except SourceError as exc:
        print(json.dumps({"type": type(exc).__name__, "reason": exc.reason}))
        return REFUSED
    return 0


def _peak_bytes() -> int:
    """What this program has had in memory at most, where Linux tells; getrusage counts its parent's as well."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
