"""Objects and prefixes on S3."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from hazard_store.errors import (
    NotADatastoreError,
    SourceChangedError,
    SourceError,
    UsageError,
)
from hazard_store.sources.base import Listing, SourceFile, SourceStamp
from hazard_store.sources.local import matches
from hazard_store.sources.prefixes import require_allowed
from hazard_store.sources.s3_client import filesystem
from hazard_store.sources.s3_errors import answer_in, translated

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class S3Object:
    """One object on S3."""

    bucket: str
    key: str

    path: None = None  # of this machine

    @classmethod
    def resolve(cls, url: str) -> S3Object:
        """Find the object of ``s3://BUCKET/KEY``.

        Raises
        ------
        NotADatastoreError
            If it is not there, or may not be read.
        SourceError, CredentialsError
            If S3 does not answer, or not to these credentials.
        UsageError
            If the URL means nothing, or lies outside what the operator allows.
        """
        found = cls(*_split(url))
        if not found.key or found.key.endswith("/"):
            raise UsageError(f"{url!r} names no object: give s3://BUCKET/KEY of a calc_N.hdf5 or of its zip archive")
        require_allowed(found.name)
        found._look(NotADatastoreError)
        return found

    @property
    def name(self) -> str:
        """Its URL."""
        return f"s3://{self.bucket}/{self.key}"

    def stamp(self) -> SourceStamp:
        """Ask for its size, time and ETag; see ``Source``."""
        return self._look(SourceChangedError)

    def _look(self, missing: type[SourceError]) -> SourceStamp:
        with translated(self.name, missing):
            info = self._ask()
        if info["type"] != "file":
            raise NotADatastoreError("is a folder; give the object that the calculation is", source=self.name)
        return _stamp(info)

    def _ask(self) -> dict[str, Any]:
        s3 = filesystem()
        try:
            info: dict[str, Any] = s3.info(f"{self.bucket}/{self.key}", refresh=True)
        except OSError as exc:
            # The answer to HEAD has no body, which would say why; that to GET has one.
            if answer_in(exc).get("Error", {}).get("Code") in ("400", "403"):
                s3.call_s3("get_object", Bucket=self.bucket, Key=self.key, Range="bytes=0-0")
            raise
        return info

    def open(self, *, chunked: bool = False) -> IO[bytes]:
        """Open it; see ``Source``. Only what is read is fetched, of this very content."""
        # fsspec comes with s3fs, which is not there where nobody reads from S3.
        from hazard_store.sources.ranges import open_ranges

        with translated(self.name, SourceChangedError):
            return open_ranges(filesystem(), f"{self.bucket}/{self.key}", self.name, chunked)


@dataclass(frozen=True)
class S3Folder:
    """All objects on S3 whose keys begin with a prefix and a slash, or the one whose key is the prefix."""

    bucket: str
    prefix: str

    @classmethod
    def from_url(cls, url: str) -> S3Folder:
        """Check the prefix that a user names; S3 itself is not asked.

        Raises
        ------
        UsageError
            If it means nothing, or lies outside what the operator allows.
        """
        bucket, prefix = _split(url)
        folder = cls(bucket, prefix.rstrip("/"))
        require_allowed(folder.name)
        return folder

    @property
    def name(self) -> str:
        """Its URL."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def listing(self, patterns: Sequence[str]) -> Listing:
        """List its objects, however many pages that takes; see ``Folder``."""
        path = f"{self.bucket}/{self.prefix}".rstrip("/")
        with translated(self.name, NotADatastoreError):
            found = filesystem().find(path, detail=True, refresh=True)
        files = []
        for info in found.values():
            inside = info["name"].removeprefix(path).removeprefix("/")
            name = inside or info["name"].rpartition("/")[2]
            if info["type"] == "file" and (not inside or matches(name, patterns)):
                files.append(SourceFile(f"s3://{info['name']}", name, _stamp(info)))
        return Listing(tuple(sorted(files, key=lambda file: file.name)))

    def has(self, path: str) -> bool:
        """Whether a URL is of an object in it; see ``Folder``."""
        return path == self.name or path.startswith(f"{self.name}/")

    def read_text(self, name: str) -> str:
        """Return the text of one of its objects; see ``Folder``."""
        url = name if "://" in name else f"{self.name}/{name}"
        found = S3Object.resolve(url)
        with found.open() as stream:
            try:
                return stream.read().decode("utf-8-sig")
            except UnicodeDecodeError as exc:
                raise UsageError(f"{url} cannot be read: it is no UTF-8 text") from exc


def _split(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{url!r} names no bucket: give s3://BUCKET/KEY")
    if "?" in key:
        raise UsageError(f"{url!r} has a `?`: give s3://BUCKET/KEY alone; it is read with the credentials that are set")
    return bucket, key


def _stamp(info: Mapping[str, Any]) -> SourceStamp:
    changed = info["LastModified"]
    return SourceStamp(info["size"], int(changed.timestamp()) * 1_000_000_000, str(info["ETag"]).strip('"'))
