"""The HTTP side: connections that are kept open, latency, faults of the transport, and the control requests.

A second port takes control requests only, and stays open while the store is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.limited_dynamodb.faults import Effect, FaultTable, Kind, Setting
from benchmarks.limited_dynamodb.number_lists import loads
from benchmarks.limited_dynamodb.protocol import Answer, error
from benchmarks.limited_dynamodb.service import Service
from benchmarks.limited_dynamodb.upstream import STREAM_LIMIT_BYTES, Message, read_message

HOST = "127.0.0.1"

_BACKLOG = 512
_GONE_POLL_SECS = 0.02
# With a linger time of zero, closing a socket sends a reset.
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Latency:
    """Draws answer times from a lognormal distribution."""

    def __init__(self, median_ms: float, sigma: float, seed: int) -> None:
        self._mu = math.log(median_ms / 1000) if median_ms > 0 else None
        self._sigma = sigma
        self._random = random.Random(seed)

    def draw_secs(self) -> float:
        """How long the next answer takes, besides what the target takes."""
        return 0.0 if self._mu is None else self._random.lognormvariate(self._mu, self._sigma)


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Close it as a crash does: the other side gets ECONNRESET."""
        raw = self.writer.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.writer.transport.abort()

    async def hang(self, secs: float) -> None:
        """Say nothing until the other side gives up, or for so long."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(self.reader.read(1), secs)

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()


class Server:
    """Serves a `Service` under faults."""

    def __init__(self, service: Service, faults: FaultTable, latency: Latency) -> None:
        self._service = service
        self._faults = faults
        self._latency = latency
        self._listener: asyncio.Server | None = None
        self._port, self._host = 0, HOST
        self._open: dict[int, _Connection] = {}

    async def start(self, port: int, host: str = HOST) -> tuple[int, int]:
        """Listen; gives the port of the service and that of the control requests, which come from this machine."""
        self._port, self._host = port, host
        await self._listen()
        control = await asyncio.start_server(self._serve_control, HOST, 0)
        self._watch = asyncio.create_task(self._watch_gone())
        return self._port, control.sockets[0].getsockname()[1]

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, self._host, self._port, limit=STREAM_LIMIT_BYTES, backlog=_BACKLOG
        )
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _watch_gone(self) -> None:
        while True:
            if self._faults.is_gone:
                self._leave()
            elif self._listener is None:
                # The port may be some other's by now: then later.
                with contextlib.suppress(OSError):
                    await self._listen()
            await asyncio.sleep(_GONE_POLL_SECS)

    def _leave(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        self._faults.counts["gone"] += 1
        for connection in list(self._open.values()):
            connection.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        self._open[id(connection)] = connection
        try:
            while (message := await read_message(reader)) is not None:
                if not await self._respond(message, connection):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            # The client went away, or does not speak HTTP.
            pass
        finally:
            del self._open[id(connection)]
            writer.close()

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (message := await read_message(reader)) is not None:
                answer = self._control(message)
                writer.write(answer.head() + answer.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()

    def _control(self, message: Message) -> Answer:
        try:
            match message.start.split(" ")[:2]:
                case ["GET", "/counts"]:
                    counts = self._service.counts.to_json(time.monotonic(), self._service.tables, self._faults.counts)
                    return Answer(200, orjson.dumps(counts), "application/json")
                case ["POST", "/faults"]:
                    self._faults.set(orjson.loads(message.body))
                    if self._faults.is_gone:
                        self._leave()
                    return Answer(200, b"{}", "application/json")
                case ["POST", "/reset"]:
                    self._service.reset()
                    self._faults.reset()
                    return Answer(200, b"{}", "application/json")
        except ValueError as exc:
            return Answer(400, orjson.dumps({"error": str(exc)}), "application/json")
        return Answer(404, b"{}", "application/json")

    async def _respond(self, message: Message, connection: _Connection) -> bool:
        """Answer one request; False when the connection is over."""
        operation = message.headers.get("x-amz-target", "").rpartition(".")[2]
        if not operation:
            answer = self._control(message)
            await connection.send(answer.head(), answer.body)
            return True
        try:
            payload = loads(message.body)
            table = _table_of(payload)
        except (ValueError, AttributeError) as exc:
            refusal = error(400, "SerializationException", str(exc))
            await connection.send(refusal.head(), refusal.body)
            return True
        drawn = self._faults.draw(operation, table, _access_key_of(message))
        if drawn is not None:
            return await self._respond_with_fault(operation, message, payload, connection, *drawn[1:])
        answer = await self._service.answer(operation, message, payload)
        return await self._answer(answer, connection)

    async def _answer(self, answer: Answer, connection: _Connection) -> bool:
        await self._wait()
        await connection.send(answer.head(), answer.body)
        return True

    async def _wait(self) -> None:
        if delay_secs := self._latency.draw_secs():
            await asyncio.sleep(delay_secs)

    async def _respond_with_fault(
        self,
        operation: str,
        message: Message,
        payload: dict[str, Any],
        connection: _Connection,
        kind: Kind,
        setting: Setting,
    ) -> bool:
        effect = kind.effect
        if effect is Effect.ANSWER and kind.answer is not None:
            return await self._answer(kind.answer, connection)
        if effect is Effect.SILENCE_BEFORE:
            await connection.hang(setting.hang_secs)
            return False
        if effect is Effect.RESET_BEFORE:
            await self._wait()
            connection.reset()
            return False
        gives_back = effect in (Effect.GIVE_BACK, Effect.LOSE_UNPROCESSED)
        answer = await self._service.answer(operation, message, payload, self._faults.split_off if gives_back else None)
        if effect is Effect.SILENCE_AFTER:
            await connection.hang(setting.hang_secs)
            return False
        if effect is Effect.RESET_MIDWAY or effect is Effect.CUT:
            await self._wait()
            await connection.send(answer.head(), answer.body[: len(answer.body) // 2])
            if effect is Effect.RESET_MIDWAY:
                connection.reset()
            return False
        return await self._answer(_damaged(answer, effect), connection)


def _damaged(answer: Answer, effect: Effect) -> Answer:
    """Change an answer in transit; the checksum stays that of the whole one, so that a client can tell."""
    checksum = zlib.crc32(answer.body)
    match effect:
        case Effect.WRONG_CRC:
            return answer._replace(crc32=checksum ^ 0xFFFF)
        case Effect.CUT_JSON:
            return answer._replace(body=answer.body[: len(answer.body) // 2], crc32=checksum)
        case Effect.LOSE_UNPROCESSED if answer.status == 200:
            whole = orjson.loads(answer.body) | {"UnprocessedItems": {}}
            return answer._replace(body=orjson.dumps(whole), crc32=checksum)
    return answer


def _table_of(payload: dict[str, Any]) -> str:
    return str(payload.get("TableName") or next(iter(payload.get("RequestItems", {})), ""))


def _access_key_of(message: Message) -> str:
    """Whose signature it is: ``AWS4-HMAC-SHA256 Credential=AKID/20260101/...``."""
    return message.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
