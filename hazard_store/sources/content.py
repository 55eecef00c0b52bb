"""From a source to the bytes of its HDF5 file, at hand: a file of this machine, a copy without a name, or ranges."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from hazard_store.errors import NotADatastoreError, UnfinishedError
from hazard_store.sources import source_of
from hazard_store.sources.base import Source, SourceStamp
from hazard_store.sources.copies import COPY_BLOCK_BYTES, copied
from hazard_store.sources.zips import ZIP_SIGNATURES, unpacked
from hazard_store.texts import one_line

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

# What HDF5 allows a user to put before it: 0, 512, 1024, 2048, ... bytes.
_FIRST_USER_BLOCK = 512

GIVEN = "--given"


@dataclass(eq=False)
class Content:
    """The bytes of one HDF5 file; what they take is given back with the last that refers to it, or by `close`.

    Attributes
    ----------
    source : Source
        What was given: the zip archive if it is zipped.
    stamp : SourceStamp
        Of the source, before its first byte was read.
    stream : binary file or None
        Where the bytes are read from; None for a plain file of this machine, which has a path.
    ranges : RangeCache or None
        What the stream fetches them with, of an object on S3 that was not fetched whole.
    member : str or None
        Name in the zip archive.
    fingerprint : str or None
        ``sha256:<hex>`` of the bytes, where it is known.
    """

    source: Source
    stamp: SourceStamp
    stream: IO[bytes] | None = None
    ranges: Any = None
    member: str | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        # A calculation whose place another takes is let go, not closed: somebody may still be reading from it.
        self._close = weakref.finalize(self, self.stream.close if self.stream is not None else int)

    @property
    def shown(self) -> str:
        """How errors call it."""
        return self.source.name if self.member is None else f"{self.source.name}!{self.member}"

    @property
    def fetched_bytes(self) -> int:
        """Bytes that came from another machine so far."""
        if self.source.path is not None:
            return 0
        return self.stamp.size if self.ranges is None else int(self.ranges.fetched_bytes)

    def read_fingerprint(self) -> str:
        """Return `fingerprint`, after reading the whole source where it is not known."""
        if self.fingerprint is None:
            digest = hashlib.sha256()
            with self.source.open() as plain:
                while block := plain.read(COPY_BLOCK_BYTES):
                    digest.update(block)
            self.fingerprint = f"sha256:{digest.hexdigest()}"
        return self.fingerprint

    def as_input(self) -> tuple[list[str], Any]:
        """Return what gives these bytes to a process: words of its command, and its standard input."""
        return ([GIVEN], self.stream) if self.stream is not None else ([], subprocess.DEVNULL)

    def close(self) -> None:
        """Give back the disk space of a copy, and the memory of ranges."""
        self._close()


@dataclass(frozen=True)
class _Given:
    """A source of which this process was given the bytes as its standard input, and nothing else."""

    name: str
    path: None = None

    def stamp(self) -> SourceStamp:
        return SourceStamp(os.fstat(sys.stdin.fileno()).st_size, 0)

    def open(self, *, chunked: bool = False) -> IO[bytes]:
        given = open(os.dup(sys.stdin.fileno()), "rb")  # noqa: SIM115 - the content closes it
        given.seek(0)
        return given


def named_content(arguments: Sequence[str]) -> Content:
    """Return the content of a process's command: ``NAME``, or ``--given NAME`` with the bytes as its standard input."""
    *flags, name = arguments
    if flags != [GIVEN]:
        return content_of(name)
    given = _Given(name)
    return Content(given, given.stamp(), given.open())


def content_of(source: str | os.PathLike[str], *, ranges: bool = False, chunked: bool = False) -> Content:
    """Bring the bytes of a datastore to hand, plain or zipped; what it is is told by its first bytes.

    Parameters
    ----------
    source : str or path
        See ``source_of``.
    ranges : bool
        Read an object on S3 by ranges, instead of fetching it whole; one that is zipped has to be fetched.
    chunked : bool
        Its curves are known to be stored in HDF5 chunks.

    Raises
    ------
    NotADatastoreError
        If it is neither HDF5 nor a zip archive with one such file, or cannot be read.
    UsageError
        If it lies outside what the operator allows.
    """
    found = source_of(source)
    stamp = found.stamp()
    opened = found.open(chunked=ranges and chunked)
    try:
        content = _content_in(opened, found, stamp, ranges)
    except BaseException:
        opened.close()
        raise
    if content.stream is not opened:
        opened.close()
    return content


def _content_in(opened: IO[bytes], source: Source, stamp: SourceStamp, ranges: bool) -> Content:
    try:
        head = opened.read(len(HDF5_SIGNATURE))
        is_hdf5 = _is_hdf5(opened, stamp.size)
        opened.seek(0)
    except OSError as exc:
        raise NotADatastoreError(
            f"cannot be read ({one_line(str(exc))}); check its permissions", source=source.name
        ) from exc
    if head.startswith(ZIP_SIGNATURES):
        member, copy = unpacked(opened, stamp.size, source.name)
        return Content(source, stamp, copy.stream, member=member, fingerprint=copy.fingerprint)
    if not head:
        raise UnfinishedError("is empty (0 bytes); copy the datastore again", source=source.name)
    if not is_hdf5:
        raise NotADatastoreError(
            "is neither an HDF5 file nor a zip archive; give OpenQuake's calc_N.hdf5, or a zip of it",
            source=source.name,
        )
    if source.path is not None:
        return Content(source, stamp)
    if ranges:
        return Content(source, stamp, opened, ranges=opened.cache)  # type: ignore[attr-defined]
    try:
        copy = copied(opened, stamp.size, source.name)
    except OSError as exc:
        raise NotADatastoreError(
            f"could not be fetched into {tempfile.gettempdir()} ({one_line(str(exc))}); free some space or set TMPDIR",
            source=source.name,
        ) from exc
    return Content(source, stamp, copy.stream, fingerprint=copy.fingerprint)


def _is_hdf5(opened: IO[bytes], size: int) -> bool:
    start = 0
    while start < size:
        opened.seek(start)
        if opened.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
            return True
        start = max(_FIRST_USER_BLOCK, 2 * start)
    return False
