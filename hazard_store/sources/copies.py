"""Copies of sources on the temporary disk: without a name, so that a killed process leaves nothing behind."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from typing import IO

from hazard_store.errors import NotADatastoreError

COPY_BLOCK_BYTES = 4 << 20
"""Of an object on S3 that is one request; `zips` lets archives be read in no larger pieces."""

FREE_SPACE_MARGIN_BYTES = 64 << 20
"""Left free on the temporary disk beside the copy: a full /tmp breaks other programs."""


@dataclass(frozen=True)
class Copy:
    """A nameless file, and `sha256:<hex>` of its bytes."""

    stream: IO[bytes]
    fingerprint: str


def copied(source: IO[bytes], size: int, shown: str) -> Copy:
    """Copy `size` bytes of a stream.

    Raises
    ------
    NotADatastoreError
        If the temporary disk has no room for it.
    OSError
        If it cannot be written after all.
    """
    folder = tempfile.gettempdir()
    free_bytes = shutil.disk_usage(folder).free
    if size + FREE_SPACE_MARGIN_BYTES > free_bytes:
        raise NotADatastoreError(
            f"needs {size / 1e6:.0f} MB but {folder} has {free_bytes / 1e6:.0f} MB free; set TMPDIR to a larger disk",
            source=shown,
        )
    # The system's /dev/fd cannot name it for HDF5 (it insists on a real path): h5py reads the object itself.
    nameless = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the HDF5 file on it
    try:
        digest = hashlib.sha256()
        while block := source.read(COPY_BLOCK_BYTES):
            digest.update(block)
            nameless.write(block)
        nameless.flush()
    except BaseException:
        nameless.close()
        raise
    return Copy(nameless, f"sha256:{digest.hexdigest()}")
