"""Answers that arrived whole: what botocore does not check, and data would be lost without.

botocore reads an answer that was cut short without a word, takes JSON that does not parse for an answer without fields,
and compares checksums only where it may retry. To a batch write, an answer without fields means that every item was
written; to a query, that there is nothing. So each answer is compared with its ``Content-Length`` and with the
``x-amz-crc32`` that DynamoDB sends, below everything that would believe it.
"""

from __future__ import annotations

import zlib
from typing import Any

from botocore.exceptions import ConnectionClosedError


class WholeAnswers:
    """An HTTP session that gives whole answers, or raises as for a connection that broke.

    Parameters
    ----------
    session : botocore.httpsession.URLLib3Session
        What sends the requests.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """Send a request and give the answer.

        Raises
        ------
        ConnectionClosedError
            If the answer is shorter than its ``Content-Length``, or its checksum is another.
        """
        answer = self._session.send(request)
        if (damage := damage_of(answer.headers, answer.content)) is not None:
            raise ConnectionClosedError(endpoint_url=request.url, request=request, error=damage)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def damage_of(headers: Any, body: bytes) -> str | None:
    """Say what an answer's headers tell of its body, if that is not what arrived.

    >>> damage_of({"content-length": "5"}, b"{}")
    'answer of 2 bytes, expected 5'
    """
    length, checksum = headers.get("content-length"), headers.get("x-amz-crc32")
    if length is not None and int(length) != len(body):
        return f"answer of {len(body)} bytes, expected {length}"
    if checksum is not None and int(checksum) != zlib.crc32(body):
        return f"answer with checksum {zlib.crc32(body)}, expected {checksum}"
    return None
