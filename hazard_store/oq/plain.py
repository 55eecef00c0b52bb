"""A file of this machine, for HDF5 to read through: without its locks, and without its table of open files.

HDF5 knows the files that a process has opened by path, and opens none a second time with other settings of locks.
Other readers may be in the same process, so that this one leaves that table alone. It takes no lock, which read-only
and NFS mounts refuse, and which would keep an engine from opening the file for writing.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def open_plain(path: str) -> io.RawIOBase:
    """Open a file to be read by HDF5.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    return _PlainFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


class _PlainFile(io.RawIOBase):
    # `readinto` fills what it is given, or fails: HDF5 takes a short read for a whole one, and hands out what memory
    # held before. The position is not that of the descriptor, which processes share that were forked from each other.

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END:
            offset += os.fstat(self._descriptor).st_size
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            # One call of the system gives two GB at most.
            count = os.preadv(self._descriptor, [view[done:]], self._position + done)
            if not count:
                raise OSError(f"the file ends at {self._position + done:,} bytes, expected {len(view) - done:,} more")
            done += count
        self._position += done
        return done

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
