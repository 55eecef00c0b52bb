"""What DynamoDB's and botocore's errors mean: one table says what is retried, one boundary translates the rest."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import botocore.exceptions as bc
from botocore.parsers import ResponseParserError
from pynamodb.exceptions import PynamoDBException, TableDoesNotExist

from hazard_store.errors import (
    CredentialsError,
    HazardStoreError,
    StorageError,
    StoreUnreachableError,
    TableMissingError,
)
from hazard_store.settings import Settings


class Fault(Enum):
    """Kinds of failure of one request, and what follows from each."""

    THROTTLED = "throttled"  # slow down, then send again
    SERVER = "server"  # send again
    CONNECTION = "connection"  # send again: a put is idempotent, so it does not matter whether it was applied
    CREDENTIALS = "credentials"
    TABLE_MISSING = "table missing"
    REFUSED = "refused"  # the request itself is wrong: sending it again cannot help

    @property
    def is_retryable(self) -> bool:
        """Whether sending the same request again can succeed."""
        return self in (Fault.THROTTLED, Fault.SERVER, Fault.CONNECTION)


# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html and the common errors of
# AWS's APIs. Codes that are not here count as SERVER for HTTP 5xx and as REFUSED otherwise.
FAULT_OF_CODE: dict[str, Fault] = {
    "ProvisionedThroughputExceededException": Fault.THROTTLED,
    "ThrottlingException": Fault.THROTTLED,
    "Throttling": Fault.THROTTLED,
    "RequestLimitExceeded": Fault.THROTTLED,
    "TooManyRequestsException": Fault.THROTTLED,
    "LimitExceededException": Fault.THROTTLED,
    "SlowDown": Fault.THROTTLED,
    "InternalServerError": Fault.SERVER,
    "InternalFailure": Fault.SERVER,
    "ServiceUnavailable": Fault.SERVER,
    "ServiceUnavailableException": Fault.SERVER,
    "TransactionInProgressException": Fault.SERVER,
    "ItemCollectionSizeLimitExceededException": Fault.REFUSED,
    "RequestTimeout": Fault.CONNECTION,
    "RequestTimeoutException": Fault.CONNECTION,
    "AccessDeniedException": Fault.CREDENTIALS,
    "ExpiredTokenException": Fault.CREDENTIALS,
    "ExpiredToken": Fault.CREDENTIALS,
    "IncompleteSignature": Fault.CREDENTIALS,
    "IncompleteSignatureException": Fault.CREDENTIALS,
    "InvalidClientTokenId": Fault.CREDENTIALS,
    "InvalidSignatureException": Fault.CREDENTIALS,
    "MissingAuthenticationToken": Fault.CREDENTIALS,
    "MissingAuthenticationTokenException": Fault.CREDENTIALS,
    "OptInRequired": Fault.CREDENTIALS,
    "UnrecognizedClientException": Fault.CREDENTIALS,
    "ResourceNotFoundException": Fault.TABLE_MISSING,
    "ValidationException": Fault.REFUSED,
    "SerializationException": Fault.REFUSED,
    "ConditionalCheckFailedException": Fault.REFUSED,
}

# Some throttles come under the code of a request that is wrong; only their text tells.
_THROTTLE = re.compile(r"throughput|throttl|rate exceeded|too many requests", re.IGNORECASE)

_CONNECTION_ERRORS = (
    bc.ConnectionError,  # cannot connect, or not in time
    bc.HTTPClientError,  # over: read timeout, proxy, closed connection, SSL
    bc.ResponseStreamingError,
    bc.IncompleteReadError,
    bc.ChecksumError,
    ResponseParserError,  # an answer that is none of the service's, from a proxy on the way
)
_CREDENTIAL_ERRORS = (bc.NoCredentialsError, bc.PartialCredentialsError, bc.CredentialRetrievalError)


# All that a request through botocore can raise.
REQUEST_ERRORS = (bc.ClientError, bc.BotoCoreError, ResponseParserError)


def classify(error: BaseException) -> Fault:
    """Say what kind of fault an exception of botocore or pynamodb is."""
    if isinstance(error, bc.ClientError):
        told = error.response.get("Error", {})
        code = str(told.get("Code", ""))
        if code == "ValidationException" and _THROTTLE.search(str(told.get("Message", ""))):
            return Fault.THROTTLED
        if code in FAULT_OF_CODE:
            return FAULT_OF_CODE[code]
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return Fault.SERVER if status >= 500 else Fault.REFUSED
    if isinstance(error, TableDoesNotExist):
        return Fault.TABLE_MISSING
    if isinstance(error, _CONNECTION_ERRORS):
        return Fault.CONNECTION
    if isinstance(error, _CREDENTIAL_ERRORS):
        return Fault.CREDENTIALS
    return Fault.REFUSED


def to_storage_error(error: BaseException, settings: Settings, table: str = "") -> StorageError:
    """Translate a foreign exception to the most specific of our own, with the remedy in its message."""
    where = settings.endpoint or f"DynamoDB in {settings.region}"
    detail = " ".join(str(error).split())
    match classify(error):
        case Fault.TABLE_MISSING:
            return TableMissingError(
                f"table {table or 'of this stage'} does not exist at {where} (stage {settings.stage}): "
                "make it with `hazard-store tables create`"
            )
        case Fault.CREDENTIALS:
            return CredentialsError(
                f"AWS credentials are missing or refused for {where}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY (any value for a local database). {detail}"
            )
        case Fault.CONNECTION:
            return StoreUnreachableError(
                f"no answer from {where}: is it running, and is HAZARD_STORE_ENDPOINT right? {detail}"
            )
        case Fault.THROTTLED | Fault.SERVER | Fault.REFUSED as fault:
            return StorageError(f"{where} {'failed' if fault.is_retryable else 'refused'}: {detail}")


@contextmanager
def translated(settings: Settings, table: str = "") -> Iterator[None]:
    """Turn exceptions of pynamodb and botocore that leave this block into our own."""
    try:
        yield
    except PynamoDBException as exc:
        cause = exc.cause
        raise to_storage_error(cause if cause is not None else exc, settings, table) from exc
    except REQUEST_ERRORS as exc:
        raise to_storage_error(exc, settings, table) from exc


def is_condition_failure(error: HazardStoreError) -> bool:
    """Whether a translated error says that a conditional write's condition did not hold."""
    cause = error.__cause__
    return isinstance(cause, PynamoDBException) and cause.cause_response_code == "ConditionalCheckFailedException"


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter, under a deadline that starts anew with every item acknowledged.

    The deadline outlives a database that is gone for a minute; a chunk that still fails is the task's to retry. Of
    slow failures, at least `min_attempts` are seen before the deadline counts.
    """

    base_delay_secs: float = 0.05
    max_delay_secs: float = 5.0
    deadline_secs: float = 120.0
    min_attempts: int = 1

    def delay_secs(self, attempt: int) -> float:
        """How long to wait before attempt number `attempt` + 1: between nothing and the cap, evenly."""
        cap = min(self.max_delay_secs, self.base_delay_secs * 2.0 ** min(attempt, 30))
        return random.uniform(0.0, cap)


class Patience:
    """Waits between attempts, and says when it is time to give up."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._attempts = 0
        self._deadline = time.monotonic() + policy.deadline_secs

    def wait(self, *, progress: bool) -> bool:
        """Wait before the next attempt; False if the deadline has passed since the last progress."""
        self._attempts += 1
        if progress:
            self._deadline = time.monotonic() + self._policy.deadline_secs
        elif time.monotonic() >= self._deadline and self._attempts >= self._policy.min_attempts:
            return False
        time.sleep(self._policy.delay_secs(self._attempts))
        return True
