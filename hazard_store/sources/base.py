"""What all kinds of sources have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol


@dataclass(frozen=True)
class SourceStamp:
    """What tells cheaply whether a source is still the one that it was.

    Attributes
    ----------
    size : int
        In bytes.
    mtime_ns : int
        When it was last changed, in ns since the epoch; S3 has whole seconds.
    etag : str
        S3's name of the content; empty for files.
    """

    size: int
    mtime_ns: int
    etag: str = ""

    def __str__(self) -> str:
        return f"{self.size:,} bytes of {self.mtime_ns} ns{f', {self.etag}' if self.etag else ''}"


class Source(Protocol):
    """One file or object: a datastore, or a zip archive that holds one."""

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine; None for what lies elsewhere."""

    @property
    def name(self) -> str:
        """Absolute path or URL."""

    def stamp(self) -> SourceStamp:
        """Look at it, without reading it.

        Raises
        ------
        SourceChangedError
            If it is not there any more.
        SourceError, StorageError
            If it cannot be seen.
        """

    def open(self, *, chunked: bool = False) -> IO[bytes]:
        """Open it for reading from any position; it must not change meanwhile.

        Parameters
        ----------
        chunked : bool
            Whether its curves are known to be stored in HDF5 chunks, by which ranges are best read otherwise.

        Raises
        ------
        SourceError, StorageError
            If it cannot be read; reading raises them as well, and ``SourceChangedError`` for an object that changed.
        """


@dataclass(frozen=True)
class SourceFile:
    """A file or object that may be a calculation.

    Attributes
    ----------
    path : str
        Absolute path or URL.
    name : str
        Relative to the folder of the batch, with ``/`` between its parts.
    stamp : SourceStamp
        What it was when it was listed.
    """

    path: str
    name: str
    stamp: SourceStamp


@dataclass(frozen=True)
class Listing:
    """What lies under a folder: files sorted by name, and the folders in it that could not be read, with the reason."""

    files: tuple[SourceFile, ...]
    unreadable: tuple[str, ...] = ()


class Folder(Protocol):
    """A folder with calculations, at any depth, or one file in place of it."""

    @property
    def name(self) -> str:
        """Absolute path or URL."""

    def listing(self, patterns: Sequence[str]) -> Listing:
        """List the files whose names match a pattern, see ``matches``.

        Raises
        ------
        UsageError, SourceError, StorageError
            If the folder itself cannot be read.
        """

    def has(self, path: str) -> bool:
        """Whether `path` is of a file that lies, or once lay, in this folder."""

    def read_text(self, name: str) -> str:
        """Return the text of a file named by its path in the folder, or its absolute path or URL.

        Raises
        ------
        UsageError, SourceError, StorageError
            If it cannot be read, or is no UTF-8 text.
        """
