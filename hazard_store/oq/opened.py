"""A datastore's HDF5 file, open for reading."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

import h5py

from hazard_store.errors import NotADatastoreError, UnfinishedError
from hazard_store.oq.plain import open_plain
from hazard_store.sources.content import HDF5_SIGNATURE, Content
from hazard_store.texts import one_line

# From version 3 of the superblock on, which engines write, these bits of its twelfth byte are set while a program
# writes to the file, and taken back when it closes it. A program that is killed leaves them.
FIRST_SUPERBLOCK_WITH_MARK = 3
OPEN_FOR_WRITING = 0x01 | 0x04
_HEAD_BYTES = 12

BEING_WRITTEN = (
    "is marked as open for writing: the engine is at work on it, or was stopped while it was; wait until it has ended, "
    "or run the calculation again"
)

# What HDF5 allows a user to put before the superblock: 0, 512, 1024, 2048, ... bytes.
_FIRST_USER_BLOCK = 512


@dataclass
class OpenedFile:
    """An HDF5 file, and the content that it is read from."""

    file: h5py.File
    content: Content
    stream: io.RawIOBase | IO[bytes]

    @classmethod
    def of(cls, content: Content) -> OpenedFile:
        """Open a content, read only and without locks; it is closed if that fails.

        Raises
        ------
        UnfinishedError
            If it is truncated, or a program writes to it or was killed while it did.
        NotADatastoreError
            If it cannot be read as HDF5.
        """
        try:
            stream = open_plain(content.source.name) if content.stream is None else content.stream
            _require_closed(stream, content.shown)
            return cls(h5py.File(stream, "r"), content, stream)
        except UnfinishedError:
            content.close()
            raise
        except (OSError, RuntimeError, ValueError) as exc:
            content.close()
            text = one_line(str(exc))
            if "truncated" in text:
                raise UnfinishedError(
                    f"is truncated or still being written ({text}); copy the datastore again", source=content.shown
                ) from exc
            raise NotADatastoreError(
                f"cannot be opened as HDF5 ({text}); copy the datastore again", source=content.shown
            ) from exc

    def close(self) -> None:
        """Close the file, and give back what its content holds."""
        self.file.close()
        self.stream.close()
        self.content.close()


def _require_closed(stream: io.RawIOBase | IO[bytes], shown: str) -> None:
    # HDF5 itself looks at the mark of a path only, and not at that of a stream.
    if is_open_for_writing(stream):
        raise UnfinishedError(BEING_WRITTEN, source=shown)


def is_open_for_writing(stream: io.RawIOBase | IO[bytes]) -> bool:
    """Return whether the superblock of an HDF5 file says that a program writes to it."""
    size = stream.seek(0, io.SEEK_END)
    start = 0
    while start + _HEAD_BYTES <= size:
        stream.seek(start)
        head = stream.read(_HEAD_BYTES) or b""
        if head.startswith(HDF5_SIGNATURE):
            version, flags = head[len(HDF5_SIGNATURE)], head[-1]
            return version >= FIRST_SUPERBLOCK_WITH_MARK and bool(flags & OPEN_FOR_WRITING)
        start = max(_FIRST_USER_BLOCK, 2 * start)
    return False
