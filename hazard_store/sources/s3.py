"""Objects and prefixes on S3.

Credentials, endpoint and region are those of the AWS SDK's own chain, unless ``connect_with`` was told others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from hazard_store.errors import (
    CredentialsError,
    HazardStoreError,
    NotADatastoreError,
    SourceChangedError,
    SourceError,
    UsageError,
)
from hazard_store.sources.base import Listing, SourceFile, SourceStamp
from hazard_store.sources.local import matches
from hazard_store.sources.prefixes import require_allowed
from hazard_store.storage.credentials import EXPIRED_CODES

# s3fs asks again after each: with its growing pauses, and five seconds for each connection, half a minute in all.
RETRIES = 4

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REFUSED_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "TokenRefreshRequired"})
_ELSEWHERE = frozenset({"301", "PermanentRedirect", "AuthorizationHeaderMalformed"})

_options: dict[str, Any] = {}


def connect_with(options: Mapping[str, Any]) -> None:
    """Use these credentials and this endpoint in this process from now on, in place of the SDK's own.

    Parameters
    ----------
    options : mapping
        Of ``s3fs.S3FileSystem``: ``key``, ``secret``, ``token``, ``endpoint_url``, ``client_kwargs``.
    """
    if options != _options:
        _options.clear()
        _options.update(options)
        disconnect()


def disconnect() -> None:
    """Close the connections to S3; the next use makes new ones, with the credentials that there are then."""
    if _filesystem.cache_info().currsize:
        filesystem = _filesystem()
        _filesystem.cache_clear()
        if filesystem._s3 is not None:
            filesystem.close_session(filesystem.loop, filesystem._s3)


@lru_cache(maxsize=1)
def _filesystem() -> Any:
    try:
        from s3fs import S3FileSystem
    except ImportError as exc:
        raise UsageError("sources on S3 need one more package: pip install 'hazard-store[aws]'") from exc
    # A listing that is remembered would hide that an object changed.
    filesystem = S3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={"retries": {"total_max_attempts": 1}},
        **_options,
    )
    filesystem.retries = RETRIES
    return filesystem


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
        filesystem = _filesystem()
        try:
            info: dict[str, Any] = filesystem.info(f"{self.bucket}/{self.key}", refresh=True)
        except OSError as exc:
            # The answer to HEAD has no body, which would say why; that to GET has one.
            if _answer_in(exc).get("Error", {}).get("Code") in ("400", "403"):
                filesystem.call_s3("get_object", Bucket=self.bucket, Key=self.key, Range="bytes=0-0")
            raise
        return info

    def open(self, *, chunked: bool = False) -> IO[bytes]:
        """Open it; see ``Source``. Only what is read is fetched, of this very content."""
        from hazard_store.sources.ranges import open_ranges

        with translated(self.name, SourceChangedError):
            return open_ranges(_filesystem(), f"{self.bucket}/{self.key}", self.name, chunked)


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
            found = _filesystem().find(path, detail=True, refresh=True)
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


@contextmanager
def translated(name: str, missing: type[SourceError]) -> Iterator[None]:
    """Turn what s3fs and botocore raise into one line that says what to do.

    Parameters
    ----------
    name : str
        URL of what is asked for.
    missing : type
        Of the error if it is not there.
    """
    try:
        yield
    except (OSError, BotoCoreError, ClientError) as exc:
        raise _error_of(exc, name, missing) from exc
    except ValueError as exc:
        # botocore has no error of its own for it.
        if not str(exc).startswith("Invalid endpoint"):
            raise
        raise UsageError(
            f"{name}: {exc}: set AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) to a URL such as https://HOST, or unset it"
        ) from exc


def _error_of(exc: BaseException, name: str, missing: type[SourceError]) -> HazardStoreError:
    answer = _answer_in(exc)
    code = str(answer.get("Error", {}).get("Code", ""))
    bucket = name.removeprefix("s3://").partition("/")[0]
    if isinstance(exc, (NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError)):
        return CredentialsError(f"{name}: no AWS credentials ({exc}): set AWS_PROFILE, or log in anew, and run again")
    if isinstance(exc, InvalidRegionError):
        return UsageError(f"{name}: {exc}: set AWS_DEFAULT_REGION to a region of AWS, such as us-east-1")
    if code in EXPIRED_CODES:
        # The next attempt asks the SDK's chain anew: a profile may have been renewed by another program.
        disconnect()
        return CredentialsError(f"{name}: the AWS credentials have expired: log in anew, and run again")
    if code in _REFUSED_KEYS:
        return CredentialsError(f"{name}: S3 refuses these AWS credentials ({code}): check AWS_PROFILE or the keys")
    if code in _ELSEWHERE:
        region = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        remedy = (
            f"it lies in {region}: set AWS_DEFAULT_REGION={region}" if region else "set AWS_DEFAULT_REGION to its own"
        )
        return SourceError(f"the bucket {bucket} is in another region; {remedy}, and run again", source=name)
    if isinstance(exc, PermissionError) or code in ("403", "AccessDenied"):
        return SourceError(
            "S3 refuses to give it (403): these credentials need s3:GetObject for it, and s3:ListBucket to be told "
            "whether it is there; or the name is wrong",
            source=name,
        )
    if isinstance(exc, (EndpointConnectionError, ConnectTimeoutError, TimeoutError)):
        return SourceError(
            f"S3 does not answer ({exc}); check the network, AWS_ENDPOINT_URL and the region in AWS_DEFAULT_REGION",
            source=name,
        )
    if isinstance(exc, FileNotFoundError):
        if code == "NoSuchBucket" or "bucket" in str(exc):
            return missing(f"there is no bucket {bucket}; check its name", source=name)
        gone = "is no longer there; put it back" if missing is SourceChangedError else "no such object; check its name"
        return missing(f"{gone}, then run again", source=name)
    if type(exc).__name__ == "FileExpired":
        return SourceChangedError("changed while in use; wait until nothing writes to it, then run again", source=name)
    return SourceError(f"S3 could not give it ({exc}); run again", source=name)


def _answer_in(exc: BaseException | None) -> dict[str, Any]:
    """The service's answer, which s3fs keeps as the cause of its own error."""
    while exc is not None:
        if isinstance(exc, ClientError):
            return dict(exc.response)
        exc = exc.__cause__ or exc.__context__
    return {}
