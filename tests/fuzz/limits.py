"""What one reading may take of memory and disk."""

from __future__ import annotations

import resource
from pathlib import Path
from types import TracebackType
from typing import Self

# Of address space: an allocation beyond fails at once, and failing allocations are defects.
ADDRESS_SPACE_BYTES = 3 << 30
# What one mutation of a file of 0.2 MB may have in memory at most above what was there before.
GROWTH_BYTES = 256 << 20
# Above every mutation but a bomb that unpacks.
FILE_BYTES = 100 << 20

_SOFT = ((resource.RLIMIT_AS, ADDRESS_SPACE_BYTES), (resource.RLIMIT_FSIZE, FILE_BYTES))


class Limits:
    """Limits this process within its block, and measures by how much its memory grew at most."""

    max_growth_bytes = GROWTH_BYTES

    def __init__(self) -> None:
        self.growth_bytes = 0
        self._before_bytes = 0

    def __enter__(self) -> Self:
        self._before_bytes = _status_bytes("VmRSS:")
        # https://docs.kernel.org/filesystems/proc.html: 5 resets the peak resident set size.
        Path("/proc/self/clear_refs").write_text("5")
        for limit, value in _SOFT:
            resource.setrlimit(limit, (value, resource.RLIM_INFINITY))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for limit, _ in _SOFT:
            resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.growth_bytes = _status_bytes("VmHWM:") - self._before_bytes


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/self/status has no {field}")
