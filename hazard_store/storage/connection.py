"""pynamodb connections: a process makes one a retry policy and endpoint, for a botocore client takes 0.2 s to make."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError
from pynamodb.connection import Connection

from hazard_store.settings import Settings
from hazard_store.storage.whole_answers import WholeAnswers

# A write of 25 items takes DynamoDB some 10 to 50 ms; what takes this long is lost.
CONNECT_TIMEOUT_SECS = 5.0
READ_TIMEOUT_SECS = 30.0
# The requests of the models are small; with their retries this bounds how long a silent endpoint keeps a command.
MODEL_READ_TIMEOUT_SECS = 10.0

# The most requests that one process has under way; urllib3 drops connections beyond its pool.
MAX_CONNECTIONS = 32


# Retries that botocore itself makes of the few small requests for metas, ledger and tables.
MODEL_RETRIES = 2


@lru_cache(maxsize=16)
def connect(settings: Settings, retries: int = 0) -> Connection:
    """Give this process's connection; it is safe to share between threads.

    Nothing is sent here: missing credentials or an unreachable endpoint show with the first request.

    Parameters
    ----------
    retries : int
        How often botocore repeats a failed request: not at all where we count and time the retries ourselves.
    """
    connection = Connection(
        region=settings.region,
        host=settings.endpoint,
        connect_timeout_seconds=CONNECT_TIMEOUT_SECS,
        read_timeout_seconds=MODEL_READ_TIMEOUT_SECS if retries else READ_TIMEOUT_SECS,
        max_retry_attempts=retries,
        max_pool_connections=MAX_CONNECTIONS,
    )
    # botocore has no public place for it: its events come after an answer was read, or have to replace the session.
    endpoint = connection.client._endpoint
    endpoint.http_session = WholeAnswers(endpoint.http_session)
    return connection


class ReadyBodyClient:
    """Sends ready ``BatchWriteItem`` bodies over the connections of pynamodb's botocore client.

    botocore's serialiser walks every number of every item, which costs more than all the rest of a write together; its
    events, rules and parsers cost as much again as signing and sending. So a request is made, signed and read here;
    credentials and their renewal, the signature, proxies, certificates and the connection pool stay botocore's.
    """

    def __init__(self, settings: Settings) -> None:
        self._client: Any = connect(settings).client
        self._region: str = self._client.meta.region_name
        self._url: str = self._client.meta.endpoint_url.rstrip("/") + "/"
        self._headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.BatchWriteItem",
            "User-Agent": self._client.meta.config.user_agent,
        }

    def batch_write(self, body: bytes) -> dict[str, Any]:
        """Send one ready body and give the parsed answer.

        Raises
        ------
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
            What a botocore client raises: no connection, an answer that is not whole, an error that the service names.
        """
        # botocore renews these when they are about to expire.
        credentials = self._client._get_credentials()
        if credentials is None:
            raise NoCredentialsError
        request = AWSRequest("POST", self._url, headers=self._headers, data=body)
        SigV4Auth(credentials.get_frozen_credentials(), "dynamodb", self._region).add_auth(request)
        answer = self._client._endpoint.http_session.send(request.prepare())
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
