"""What S3, and what leads to it, answers instead of an object: one boundary makes one line of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    SourceChangedError,
    SourceError,
    UsageError,
)
from hazard_store.sources.s3_client import disconnect
from hazard_store.storage.credentials import EXPIRED_CODES

_REFUSED_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "TokenRefreshRequired"})
_ELSEWHERE = frozenset({"301", "PermanentRedirect", "AuthorizationHeaderMalformed"})


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
    answer = answer_in(exc)
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


def answer_in(exc: BaseException | None) -> dict[str, Any]:
    """The service's answer, which s3fs keeps as the cause of its own error."""
    while exc is not None:
        if isinstance(exc, ClientError):
            return dict(exc.response)
        exc = exc.__cause__ or exc.__context__
    return {}
