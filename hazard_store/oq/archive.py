"""From what the user names (path, zip archive, calculation number) to an open HDF5 file.

A zip member is copied into a file that has no name, so that a killed process leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import h5py

from hazard_store.errors import NotADatastoreError, SourceChangedError, UnfinishedError
from hazard_store.oq.prefixes import require_allowed

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""A member, the end of an archive without members, and a spanned archive."""

ENCRYPTED_FLAG = 0x1
COPY_BLOCK_BYTES = 1 << 20
FREE_SPACE_MARGIN_BYTES = 64 << 20
"""Left free on the temporary disk beside the extracted file: a full /tmp breaks other programs."""

MAX_UNPACKED_BYTES = 1 << 40
MAX_RATIO = 500
RATIO_FREE_BYTES = 64 << 20
"""A member that unpacks to more than this must not have been packed to less than a 500th. Deflate makes 1,032 bytes of
one at most, where all are alike; of 517 real datastores the sparsest is packed 354 times, the next 23 times."""

MAX_DIRECTORY_BYTES = 4 << 20
"""The list of members, some 50,000 of them: zipfile brings it into memory before anything can be asked."""


@dataclass(frozen=True)
class SourceStamp:
    """What tells cheaply whether the file that was given is still the same one: size in bytes and mtime in ns."""

    size: int
    mtime_ns: int


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass
class OpenSource:
    """An open HDF5 file and where it came from.

    `fingerprint` is known at once for a zip member, as its bytes pass by, and is `None` for a plain file.
    """

    file: h5py.File
    path: Path
    stamp: SourceStamp
    member: str | None
    fingerprint: str | None
    _nameless: IO[bytes] | None = None

    def close(self) -> None:
        """Close the HDF5 file, and give back the disk space of an extracted one."""
        self.file.close()
        if self._nameless is not None:
            self._nameless.close()


def resolve_source(source: str | os.PathLike[str]) -> Path:
    """Return the absolute path of `source`: a path, or the number of a calculation in the engine's data folder.

    Raises
    ------
    NotADatastoreError
        If there is no such file, or it is not a regular file.
    UsageError
        If it lies outside the folders that the operator allows.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if not path.exists() and text.isascii() and text.isdigit():
        folder = Path(os.environ.get("OQ_DATADIR") or "~/oqdata").expanduser()
        path = folder / f"calc_{int(text)}.hdf5"
        if not path.exists():
            raise NotADatastoreError(
                f"no such file, and calculation {text} is not in the engine's data folder as {path}; "
                "give a path, or set OQ_DATADIR",
                source=text,
            )
    # Before anything else is told of it, that it exists included.
    require_allowed(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as exc:
        raise NotADatastoreError(
            f"no such file or not readable ({_first_line(exc)}); check the path", source=text
        ) from exc
    if stat.S_ISDIR(mode):
        raise NotADatastoreError(
            "is a folder; give the calc_N.hdf5 file, or the zip archive that holds it", source=text
        )
    if not stat.S_ISREG(mode):
        raise NotADatastoreError("is not a regular file; give the calc_N.hdf5 file, or its zip archive", source=text)
    return path.absolute()


def open_source(source: str | os.PathLike[str]) -> OpenSource:
    """Open a datastore, plain or zipped, read only and without locks.

    Raises
    ------
    NotADatastoreError
        If it cannot be read as HDF5.
    """
    path = resolve_source(source)
    stamp = stamp_of(path)
    try:
        with path.open("rb") as plain:
            head = plain.read(len(HDF5_SIGNATURE))
    except OSError as exc:
        raise NotADatastoreError(
            f"cannot be read ({_first_line(exc)}); check its permissions", source=str(path)
        ) from exc
    if head.startswith(ZIP_SIGNATURES):
        return _open_zipped(path, stamp)
    if not head:
        raise UnfinishedError("is empty (0 bytes); copy the datastore again", source=str(path))
    if head != HDF5_SIGNATURE and not h5py.is_hdf5(str(path)):
        raise NotADatastoreError(
            "is neither an HDF5 file nor a zip archive; give OpenQuake's calc_N.hdf5, or a zip of it", source=str(path)
        )
    return OpenSource(_open_hdf5(str(path), str(path)), path, stamp, member=None, fingerprint=None)


def stamp_of(path: Path) -> SourceStamp:
    """Return size and modification time of `path`."""
    try:
        status = path.stat()
    except OSError as exc:
        raise SourceChangedError(
            f"is no longer there ({_first_line(exc)}); put the file back, then run again", source=str(path)
        ) from exc
    return SourceStamp(size=status.st_size, mtime_ns=status.st_mtime_ns)


def fingerprint_of(path: Path) -> str:
    """Return `sha256:<hex>` over the bytes of the file `path`."""
    digest = hashlib.sha256()
    with path.open("rb") as plain:
        while block := plain.read(COPY_BLOCK_BYTES):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _open_hdf5(target: str | IO[bytes], shown: str) -> h5py.File:
    try:
        # Without locking=False a read-only or NFS mount, or an engine that still has the file open, refuses the open.
        if isinstance(target, str):
            return h5py.File(target, "r", locking=False)
        return h5py.File(target, "r")
    except (OSError, RuntimeError, ValueError) as exc:
        text = _first_line(exc)
        if "truncated" in text:
            raise UnfinishedError(
                f"is truncated or still being written ({text}); copy the datastore again", source=shown
            ) from exc
        raise NotADatastoreError(f"cannot be opened as HDF5 ({text}); copy the datastore again", source=shown) from exc


def _open_zipped(path: Path, stamp: SourceStamp) -> OpenSource:
    try:
        with _ShortReads(path) as plain, zipfile.ZipFile(plain) as archive:
            info = _single_member(archive, path)
            _check_size(info, path, stamp.size)
            _check_free_space(info, path)
            # TemporaryFile has no name from the start, so not even a kill during the extraction leaves it behind.
            # The system's /dev/fd cannot name it for HDF5 (it insists on a real path): h5py reads the object itself.
            nameless = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the HDF5 file on it
            try:
                digest = hashlib.sha256()
                with archive.open(info) as packed:
                    # zipfile gives no byte more than the directory says, which was checked, and compares the CRC.
                    _copy(packed, nameless, digest)
                nameless.flush()
                file = _open_hdf5(nameless, f"{path}!{info.filename}")
            except BaseException:
                nameless.close()
                raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as exc:
        raise NotADatastoreError(
            f"is a damaged zip archive ({_first_line(exc)}); copy or download it again", source=str(path)
        ) from exc
    except (NotImplementedError, RuntimeError) as exc:
        raise NotADatastoreError(
            f"is a zip archive in a form that cannot be unpacked ({_first_line(exc)}); zip it again with plain deflate",
            source=str(path),
        ) from exc
    except OSError as exc:
        raise NotADatastoreError(
            f"could not be unpacked into {tempfile.gettempdir()} ({_first_line(exc)}); free some space or set TMPDIR",
            source=str(path),
        ) from exc
    return OpenSource(file, path, stamp, info.filename, f"sha256:{digest.hexdigest()}", nameless)


class _ShortReads(io.FileIO):
    """A file that refuses to be read in pieces larger than any honest archive needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of members is said to have {size:,} bytes")
        return super().read(size) or b""


def _copy(packed: IO[bytes], plain: IO[bytes], digest: _Hash) -> None:
    while block := packed.read(COPY_BLOCK_BYTES):
        digest.update(block)
        plain.write(block)


def _single_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Return the only `*.hdf5` member; macOS's companions and folders do not count."""
    found = []
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
            raise NotADatastoreError(
                f"holds a member with an unsafe name ({info.filename[:200]!r}); zip the calc_N.hdf5 file alone",
                source=str(path),
            )
        companion = parts[0] == "__MACOSX" or parts[-1].startswith("._")
        if not info.is_dir() and not companion and parts[-1].lower().endswith(".hdf5"):
            found.append(info)
    if not found:
        raise NotADatastoreError("holds no *.hdf5 file; zip the calc_N.hdf5 file", source=str(path))
    if len(found) > 1:
        names = ", ".join(info.filename[:200] for info in found[:10]) + (", ..." if len(found) > 10 else "")
        raise NotADatastoreError(
            f"holds {len(found)} *.hdf5 files ({names}), expected one; store each by itself",
            source=str(path),
        )
    if found[0].flag_bits & ENCRYPTED_FLAG:
        raise NotADatastoreError(
            f"holds an encrypted member ({found[0].filename}); unpack it with its password first", source=str(path)
        )
    return found[0]


def _check_size(info: zipfile.ZipInfo, path: Path, archive_bytes: int) -> None:
    packed_bytes = min(info.compress_size, archive_bytes)
    too_dense = info.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * packed_bytes)
    if too_dense or info.file_size > MAX_UNPACKED_BYTES:
        raise NotADatastoreError(
            f"holds {info.filename[:200]}, {info.file_size / 1e6:,.0f} MB packed into {packed_bytes / 1e6:,.3f} MB, "
            "as no datastore can be; unpack it yourself if it is one",
            source=str(path),
        )


def _check_free_space(info: zipfile.ZipInfo, path: Path) -> None:
    folder = tempfile.gettempdir()
    free_bytes = shutil.disk_usage(folder).free
    if info.file_size + FREE_SPACE_MARGIN_BYTES > free_bytes:
        raise NotADatastoreError(
            f"unpacks to {info.file_size / 1e6:.0f} MB but {folder} has {free_bytes / 1e6:.0f} MB free; "
            "set TMPDIR to a larger disk",
            source=str(path),
        )


def _first_line(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).strip().partition("\n")[0]
