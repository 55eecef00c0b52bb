"""pynamodb connections: a process makes one a retry policy and endpoint, for a botocore client takes 0.2 s to make."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

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
    """Sends ready ``BatchWriteItem`` bodies through pynamodb's botocore client.

    botocore's serialiser walks every number of every item, which costs more than all the rest of a write together.
    The body is therefore put into the prepared request just before botocore signs it; signing, endpoints, the
    connection pool and the parsing of answers stay botocore's.
    """

    def __init__(self, settings: Settings) -> None:
        self._client: Any = connect(settings).client
        self._body = threading.local()
        # unique_id: a process makes several of these on one client, and the handler must stand there once each.
        self._client.meta.events.register(
            "before-call.dynamodb.BatchWriteItem", self._replace_body, unique_id=f"ready-body-{id(self)}"
        )

    def _replace_body(self, params: dict[str, Any], **_: Any) -> None:
        body = getattr(self._body, "value", None)
        if body is not None:
            params["body"] = body

    def batch_write(self, body: bytes) -> dict[str, Any]:
        """Send one ready body and give the parsed answer; raises what botocore raises."""
        self._body.value = body
        try:
            answer: dict[str, Any] = self._client.batch_write_item(RequestItems={})
        finally:
            self._body.value = None
        return answer

    def close(self) -> None:
        """Take the handler off the shared client."""
        self._client.meta.events.unregister(
            "before-call.dynamodb.BatchWriteItem", self._replace_body, unique_id=f"ready-body-{id(self)}"
        )
