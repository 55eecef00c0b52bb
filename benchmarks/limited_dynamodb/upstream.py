"""The database behind the proxy: HTTP over a pool of connections that are kept open."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

# Headers that belong to one connection, not to the request.
_HOP_HEADERS = frozenset({"host", "connection", "content-length", "expect", "transfer-encoding", "accept-encoding"})

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# An answer of `Query` or `BatchGetItem` holds up to 16 MB; this bounds what asyncio buffers ahead, not the answer.
STREAM_LIMIT_BYTES = 2**20


class Message(NamedTuple):
    """One HTTP request or answer; names of headers are in lower case."""

    start: str
    headers: dict[str, str]
    body: bytes


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Read one message, None where the connection ended before it began.

    Raises
    ------
    ConnectionError, asyncio.IncompleteReadError
        When it ends in the middle.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise
        return None
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Message(start, headers, await _read_chunks(reader))
    return Message(start, headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(chunks)


class Upstream:
    """Sends requests on to `url`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[Stream] = []

    async def send(self, headers: dict[str, str], body: bytes) -> Message:
        """Send one request and give its answer.

        Raises
        ------
        OSError, asyncio.IncompleteReadError
            The database does not answer.
        """
        kept = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name not in _HOP_HEADERS)
        head = f"POST / HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{kept}Content-Length: {len(body)}\r\n\r\n"
        request = head.encode("latin-1") + body
        while self._idle:
            # One that lay idle may have been closed meanwhile: then the next one is tried, and last a fresh one.
            answer = await self._exchange(self._idle.pop(), request)
            if answer is not None:
                return answer
        fresh = await asyncio.open_connection(self._host, self._port, limit=STREAM_LIMIT_BYTES)
        answer = await self._exchange(fresh, request)
        if answer is None:
            raise ConnectionResetError(f"{self._host}:{self._port} closed the connection")
        return answer

    async def _exchange(self, stream: Stream, request: bytes) -> Message | None:
        reader, writer = stream
        try:
            writer.write(request)
            answer = await read_message(reader)
        except ConnectionError:
            answer = None
        except BaseException:
            writer.transport.abort()
            raise
        if answer is None or answer.headers.get("connection", "").lower() == "close":
            writer.transport.abort()
        else:
            self._idle.append(stream)
        return answer
