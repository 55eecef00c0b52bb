"""The one datastore in a zip archive."""

from __future__ import annotations

import io
import lzma
import struct
import tempfile
import zipfile
import zlib
from typing import IO

from hazard_store.errors import NotADatastoreError
from hazard_store.sources.copies import Copy, copied
from hazard_store.texts import one_line

ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""A member, the end of an archive without members, and a spanned archive."""

ENCRYPTED_FLAG = 0x1

MAX_UNPACKED_BYTES = 1 << 40
MAX_RATIO = 500
RATIO_FREE_BYTES = 64 << 20
"""A member that unpacks to more than this must not have been packed to less than a 500th. Deflate makes 1,032 bytes of
one at most, where all are alike; of 517 real datastores the sparsest is packed 354 times, the next 23 times."""

MAX_DIRECTORY_BYTES = 4 << 20
"""The list of members, some 50,000 of them: zipfile brings it into memory before anything can be asked."""


def unpacked(archive: IO[bytes], archive_bytes: int, shown: str) -> tuple[str, Copy]:
    """Unpack the datastore in an archive.

    Parameters
    ----------
    archive : binary file
    archive_bytes : int
        Its size.
    shown : str
        How errors call it.

    Returns
    -------
    member : str
        The datastore's name in the archive.
    copy : Copy

    Raises
    ------
    NotADatastoreError
        If it holds none, or several, or cannot be unpacked.
    """
    try:
        # The archive is not closed with the ZipFile, which would close what it was given by name only.
        with zipfile.ZipFile(_ShortReads(archive, archive_bytes)) as zipped:
            info = _single_member(zipped, shown)
            _check_size(info, shown, archive_bytes)
            with zipped.open(info) as packed:
                # zipfile gives no byte more than the directory says, which was checked, and compares the CRC.
                return info.filename, copied(packed, info.file_size, shown)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as exc:
        raise NotADatastoreError(
            f"is a damaged zip archive ({one_line(str(exc))}); copy or download it again", source=shown
        ) from exc
    except (NotImplementedError, RuntimeError) as exc:
        raise NotADatastoreError(
            f"is a zip archive of a form that cannot be unpacked ({one_line(str(exc))}); zip it again, "
            "with plain deflate",
            source=shown,
        ) from exc
    except OSError as exc:
        raise NotADatastoreError(
            f"could not be unpacked into {tempfile.gettempdir()} ({one_line(str(exc))}); free some space or set TMPDIR",
            source=shown,
        ) from exc


class _ShortReads(io.RawIOBase):
    """A file that refuses to be read in pieces larger than any honest archive needs."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = self._size - self.tell()
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of members is said to have {size:,} bytes")
        return self._file.read(size)


def _single_member(archive: zipfile.ZipFile, shown: str) -> zipfile.ZipInfo:
    """Return the only `*.hdf5` member; macOS's companions and folders do not count."""
    found = []
    for info in archive.infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
            raise NotADatastoreError(
                f"holds a member with an unsafe name ({info.filename[:200]!r}); zip the calc_N.hdf5 file alone",
                source=shown,
            )
        companion = parts[0] == "__MACOSX" or parts[-1].startswith("._")
        if not info.is_dir() and not companion and parts[-1].lower().endswith(".hdf5"):
            found.append(info)
    if not found:
        raise NotADatastoreError("holds no *.hdf5 file; zip the calc_N.hdf5 file", source=shown)
    if len(found) > 1:
        names = ", ".join(info.filename[:200] for info in found[:10]) + (", ..." if len(found) > 10 else "")
        raise NotADatastoreError(
            f"holds {len(found)} *.hdf5 files ({names}), expected one; store each by itself",
            source=shown,
        )
    if found[0].flag_bits & ENCRYPTED_FLAG:
        raise NotADatastoreError(
            f"holds an encrypted member ({found[0].filename}); unpack it with its password first", source=shown
        )
    return found[0]


def _check_size(info: zipfile.ZipInfo, shown: str, archive_bytes: int) -> None:
    packed_bytes = min(info.compress_size, archive_bytes)
    too_dense = info.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * packed_bytes)
    if too_dense or info.file_size > MAX_UNPACKED_BYTES:
        raise NotADatastoreError(
            f"holds {info.filename[:200]}, {info.file_size / 1e6:,.0f} MB packed into {packed_bytes / 1e6:,.3f} MB, "
            "as no datastore can be; unpack it yourself if it is one",
            source=shown,
        )
