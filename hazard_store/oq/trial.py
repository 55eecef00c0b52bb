"""Opens a datastore first in a process of its own: HDF5's library loops or crashes on some damaged files.

``python -m hazard_store.oq.trial SOURCE`` reads all but the curves, and those too where they are in chunks: curves that
stand in one piece are read by calls that can fail but not loop. What the reader refuses ends the process well: the
caller will refuse it for itself, and say why. Bytes that have no path on this machine are its standard input.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from hazard_store.errors import HazardStoreError, NotADatastoreError
from hazard_store.oq.calculation import Calculation, calculation_in
from hazard_store.sources import SourceStamp
from hazard_store.sources.content import Content, content_of, named_content

# Of processor time, which neither a busy machine nor a slow share uses up. A sound small file takes under one.
START_CPU_SECS = 5
BYTES_PER_CPU_SEC = 5e6

# Of time as such, for a share that does not answer.
START_SECS = 300.0
SLOWEST_BYTES_PER_SEC = 1e6

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
        If reading it does not end or crashes.
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
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = f"signal {-done.returncode}" if done.returncode < 0 else (lines or [f"exit code {done.returncode}"])[-1]
        raise NotADatastoreError(
            f"is damaged: HDF5 loops or crashes on it ({why}); copy the datastore again", source=name
        )
    _tried.add(key)


def main(arguments: Sequence[str]) -> None:
    """Read one file, within its share of processor time."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        content = named_content(arguments)
        limit_secs = START_CPU_SECS + int(content.stamp.size / BYTES_PER_CPU_SEC)
        resource.setrlimit(resource.RLIMIT_CPU, (limit_secs, limit_secs + 1))
        with calculation_in(content, strict=False) as calculation:
            if calculation.has_chunked_curves:
                calculation.examine()
    except HazardStoreError:
        # The caller will meet the same, and say it.
        return


if __name__ == "__main__":
    main(sys.argv[1:])
