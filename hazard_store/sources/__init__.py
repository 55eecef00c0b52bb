"""Where datastores come from, and the bytes of the one HDF5 file that each of them is.

::

    local     files and folders of this machine
    s3        objects and prefixes on S3
    zips      the datastore in a zip archive, of either
    content   the bytes at hand: a file of this machine, an unpacked or fetched copy, or ranges of an object
    reading   whether workers read ranges of an object, or fetch it
    prefixes  what the operator allows to be read
"""

from __future__ import annotations

import os

from hazard_store.errors import UsageError
from hazard_store.sources.base import Folder, Listing, Source, SourceFile, SourceStamp
from hazard_store.sources.local import LocalFile, LocalFolder
from hazard_store.sources.s3 import S3Folder, S3Object

__all__ = ["Folder", "Listing", "Source", "SourceFile", "SourceStamp", "folder_of", "source_of"]

SCHEME = "s3://"


def source_of(text: str | os.PathLike[str]) -> Source:
    """Return what a user names: a path, the number of a calculation in the engine's data folder, or ``s3://BUCKET/KEY``.

    Raises
    ------
    NotADatastoreError
        If it is a path without a regular file.
    UsageError
        If it lies outside of what the operator allows, or is a URL of another kind.
    """
    name = os.fspath(text)
    if name.startswith(SCHEME):
        return S3Object.resolve(name)
    _refuse_other_urls(name)
    return LocalFile.resolve(name)


def folder_of(prefix: str) -> Folder:
    """Return the folder, or the one file, that a batch is to be found under: a path or ``s3://BUCKET/PREFIX``.

    Raises
    ------
    UsageError
        If it is empty, not there, everything that there is, or outside of what the operator allows.
    """
    name = prefix.strip().removeprefix("file://")
    if name.startswith(SCHEME):
        return S3Folder.from_url(name)
    _refuse_other_urls(name)
    return LocalFolder.resolve(name)


def _refuse_other_urls(name: str) -> None:
    if "://" in name:
        raise UsageError(f"{name!r} cannot be read from: give a path of this machine, or {SCHEME}BUCKET/KEY")
