"""Clients of DynamoDB: a process makes one a timeout and endpoint, for a botocore client takes time to make."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from botocore.session import get_session
from pynamodb.connection import Connection

from hazard_store.errors import CredentialsError
from hazard_store.settings import Settings
from hazard_store.storage.credentials import EXPIRED_CODES, MAX_RENEWALS, ClientCredentials, renew_when_expired
from hazard_store.storage.faults import REQUEST_ERRORS, Fault, Patience, RetryPolicy, classify
from hazard_store.storage.whole_answers import WholeAnswers

# A write of 25 items takes DynamoDB some 10 to 50 ms; what takes this long is lost.
CONNECT_TIMEOUT_SECS = 5.0
READ_TIMEOUT_SECS = 30.0
# The requests of the models are small.
MODEL_READ_TIMEOUT_SECS = 10.0

# The most requests of items that one process has under way. Its chunks ask the ledger besides, and urllib3 drops
# connections beyond its pool, with a warning for each.
MAX_CONNECTIONS = 32
_POOL_SIZE = MAX_CONNECTIONS + 16

# An endpoint from which this process never had an answer may be a wrong one, and somebody waits to be told.
FIRST_CONTACT = RetryPolicy(max_delay_secs=1.0, deadline_secs=10.0, min_attempts=3)


_connecting = threading.Lock()


def connect(settings: Settings, timeout_secs: float | None = None) -> Connection:
    """Give this process's connection; it is safe to share between threads.

    It sends each request once: what sends again, and when, is counted and timed by those who use it. Nothing is sent
    here: missing credentials or an unreachable endpoint show with the first request.

    Parameters
    ----------
    timeout_secs : float, optional
        How long to wait for an answer; by default `READ_TIMEOUT_SECS`.
    """
    # Threads that start together would each make one.
    with _connecting:
        try:
            return _connection(settings, timeout_secs)
        except BotoCoreError as exc:
            raise CredentialsError(
                f"AWS's configuration cannot be used: {exc}: check AWS_PROFILE, and the files of `aws configure`"
            ) from exc


@lru_cache(maxsize=16)
def _connection(settings: Settings, timeout_secs: float | None) -> Connection:
    connection = Connection(
        region=settings.region,
        host=settings.endpoint,
        connect_timeout_seconds=min(CONNECT_TIMEOUT_SECS, timeout_secs or CONNECT_TIMEOUT_SECS),
        read_timeout_seconds=timeout_secs or READ_TIMEOUT_SECS,
        max_retry_attempts=0,
        max_pool_connections=_POOL_SIZE,
    )
    connection.session.register_component("data_loader", _service_files())
    # botocore has no public place for it: its events come after an answer was read, or have to replace the session.
    endpoint = connection.client._endpoint
    endpoint.http_session = WholeAnswers(endpoint.http_session)
    renew_when_expired(connection.client)
    return connection


def get_ready() -> None:
    """Read what the first client here, or in a process that is forked from this one, would read: most of its time."""
    session = get_session()
    session.register_component("data_loader", _service_files())
    # With keys of its own, for others would be looked for, on other machines as well; nothing is sent with them.
    session.create_client("dynamodb", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")


@lru_cache(maxsize=1)
def _service_files() -> Loader:
    """Give all clients one reader of what botocore knows of AWS: parsing that anew is most of what a client costs."""
    return create_loader()


class Contact:
    """Whether an endpoint is known to be there: it answered, or those who sent work here had answers.

    When the patience with one that was known has run out, it counts as unknown until it answers: the next request of
    a run does not wait as long once more.
    """

    def __init__(self) -> None:
        self.is_known = False
        self._is_lost = False

    def expect(self) -> None:
        """Take somebody else's word that it is there, unless this process knows better."""
        self.is_known = self.is_known or not self._is_lost

    def answered(self) -> None:
        """It is there."""
        self.is_known, self._is_lost = True, False

    def lost(self) -> None:
        """It did not answer for as long as there was patience."""
        self.is_known, self._is_lost = False, True


@lru_cache(maxsize=16)
def contact(settings: Settings) -> Contact:
    """Give what this process knows of an endpoint."""
    return Contact()


Answer = TypeVar("Answer")


def send_patiently(send: Callable[[], Answer], contact: Contact, *, policy: RetryPolicy | None = None) -> Answer:
    """Send a request, and send it again while its fault can pass and there is patience.

    Parameters
    ----------
    send : callable
        Sends it once; raises botocore's errors, as this function does.
    contact : Contact
        What is known of the endpoint; it learns from what happens here.
    policy : RetryPolicy, optional
        By default `FIRST_CONTACT` until the endpoint is known, and from then on the policy of all requests.
    """
    was_known = contact.is_known
    patience = Patience(policy or _policy_for(was_known))
    while True:
        try:
            answer = send()
        except REQUEST_ERRORS as exc:
            fault = classify(exc)
            if isinstance(exc, ClientError):
                # A refusal, a throttle or an error of its own: the service is there.
                contact.answered()
            if policy is None and contact.is_known != was_known:
                was_known = contact.is_known
                patience = Patience(_policy_for(was_known))
            if fault.is_retryable and patience.wait(progress=False):
                continue
            if fault is Fault.CONNECTION and policy is None:
                contact.lost()
            raise
        contact.answered()
        return answer


def _policy_for(is_known: bool) -> RetryPolicy:
    return RetryPolicy() if is_known else FIRST_CONTACT


class PatientClient:
    """botocore's client for the models: it sends again what can pass, under the policy of all other requests.

    botocore's own retries end after a few attempts, within a second or two, and know nothing of throttles under the
    code of a validation. A conditional write that is sent again may meet what it wrote itself: whoever makes one must
    take that into account.

    Parameters
    ----------
    settings : Settings
    timeout_secs : float, optional
        How long to wait for one answer; by default `MODEL_READ_TIMEOUT_SECS`.
    policy : RetryPolicy, optional
        By default `FIRST_CONTACT` until the endpoint is known, and then the policy of all requests.
    """

    def __init__(
        self, settings: Settings, timeout_secs: float | None = None, policy: RetryPolicy | None = None
    ) -> None:
        self._client: Any = connect(settings, timeout_secs or MODEL_READ_TIMEOUT_SECS).client
        self._contact = contact(settings)
        self._policy = policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _make_api_call(self, operation: str, arguments: dict[str, Any]) -> Any:
        # The one method by which pynamodb's models send.
        return send_patiently(
            lambda: self._client._make_api_call(operation, arguments), self._contact, policy=self._policy
        )


class ReadyBodyClient:
    """Sends ready ``BatchWriteItem`` bodies over the connections of pynamodb's botocore client.

    botocore's serialiser walks every number of every item, which costs more than all the rest of a write together; its
    events, rules and parsers cost as much again as signing and sending. So a request is made, signed and read here;
    credentials and their renewal, the signature, proxies, certificates and the connection pool stay botocore's.
    """

    def __init__(self, settings: Settings) -> None:
        client: Any = connect(settings).client
        self._credentials = ClientCredentials(client)
        self._session = client._endpoint.http_session
        self._region: str = client.meta.region_name
        self._url: str = client.meta.endpoint_url.rstrip("/") + "/"
        # Without it the signature would find it out anew for each request.
        host: str = SigV4Auth(None, "dynamodb", self._region).headers_to_sign(AWSRequest("POST", self._url))["host"]
        self._headers = {
            "Host": host,
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.BatchWriteItem",
            "User-Agent": client.meta.config.user_agent,
        }

    def batch_write(self, body: bytes) -> dict[str, Any]:
        """Send one ready body and give the parsed answer.

        Raises
        ------
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
            What a botocore client raises: no connection, an answer that is not whole, an error that the service names.
        """
        for _ in range(MAX_RENEWALS):
            try:
                return self._send(body)
            except ClientError as exc:
                if exc.response["Error"]["Code"] not in EXPIRED_CODES:
                    raise
                self._credentials.renew()
        return self._send(body)

    def _send(self, body: bytes) -> dict[str, Any]:
        request = AWSRequest("POST", self._url, headers=self._headers, data=body)
        SigV4Auth(self._credentials.current(), "dynamodb", self._region).add_auth(request)
        answer = self._session.send(request.prepare())
        try:
            told = orjson.loads(answer.content)
        except orjson.JSONDecodeError as exc:
            if answer.status_code < 300:
                raise ResponseParserError(f"an answer that is not JSON: {answer.content[:80]!r}") from exc
            told = {"message": f"HTTP status {answer.status_code}"}
        if answer.status_code >= 300 or not isinstance(told, dict):
            raise _to_client_error(answer.status_code, told if isinstance(told, dict) else {})
        return told


def _to_client_error(status: int, told: Mapping[str, Any]) -> ClientError:
    """Make the exception that botocore makes of an answer; ``com.amazonaws...#ThrottlingException`` is its type."""
    code = str(told.get("__type", status)).rpartition("#")[2]
    message = str(told.get("message", told.get("Message", "")))
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "BatchWriteItem"
    )
