"""What becomes of one request: capacity is taken, writes are stored or only acknowledged, the rest passes through."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from benchmarks.limited_dynamodb.capacity import Limits, TableCapacity
from benchmarks.limited_dynamodb.counts import Counts
from benchmarks.limited_dynamodb.number_lists import dumps
from benchmarks.limited_dynamodb.protocol import (
    CONTENT_TYPE,
    SINGLE_WRITES,
    Answer,
    Keys,
    Write,
    batch_answer,
    batch_entry_to_write,
    batch_problem,
    error,
    keys_from_description,
    single_to_write,
    throttled,
    wants_capacity,
    writes_problem,
)
from benchmarks.limited_dynamodb.upstream import Message, Upstream

GiveBack = Callable[[int], set[int]]

_TARGET_PREFIX = "DynamoDB_20120810."
# What measuring raises of a malformed item; decimal's errors are ArithmeticErrors.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


class _AnsweredError(Exception):
    """A request that ends early, with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Service:
    """Answers requests under limits.

    Parameters
    ----------
    limits : Limits
        Of each table.
    billing : {'on-demand', 'provisioned'}
        Which error a request without capacity gets.
    upstream : Upstream, optional
        The database; None acknowledges writes and refuses all else.
    acknowledge : bool
        Do not store the writes of tables other than those in `stored_tables`, only acknowledge them.
    stored_tables : sequence of str
        Patterns of table names.
    clock : callable
    """

    def __init__(
        self,
        limits: Limits,
        billing: str,
        upstream: Upstream | None,
        acknowledge: bool,
        stored_tables: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._billing = billing
        self._upstream = upstream
        self._acknowledge = acknowledge
        self._stored_tables = tuple(stored_tables)
        self._clock = clock
        self._keys: dict[str, Keys] = {}
        self.tables: dict[str, TableCapacity] = {}
        self.counts = Counts(clock())

    def reset(self) -> None:
        """Start counting anew, with full buckets and no splits."""
        self.tables.clear()
        self.counts = Counts(self._clock())

    async def answer(
        self, operation: str, request: Message, payload: dict[str, Any], give_back: GiveBack | None = None
    ) -> Answer:
        """Do what a request asks, as far as the limits allow.

        Parameters
        ----------
        give_back : callable, optional
            Chooses entries of a batch, by number, that are refused whatever the limits say.
        """
        self.counts.requests[operation] += 1
        try:
            return await self._answer(operation, request, payload, give_back)
        except _AnsweredError as exc:
            return exc.answer

    async def _answer(
        self, operation: str, request: Message, payload: dict[str, Any], give_back: GiveBack | None
    ) -> Answer:
        if operation == "BatchWriteItem":
            return await self._batch(request, payload, give_back)
        if operation in SINGLE_WRITES:
            return await self._single(operation, request, payload)
        answer = await self._forward(request)
        if operation == "DeleteTable":
            # One of the same name may come with other keys.
            self._keys.pop(payload.get("TableName", ""), None)
        return answer

    async def _batch(self, request: Message, payload: dict[str, Any], give_back: GiveBack | None) -> Answer:
        entries_of: dict[str, list[Any]] = payload.get("RequestItems", {})
        held = give_back(sum(map(len, entries_of.values()))) if give_back else set()
        writes_of = await self._measure_batch(request, entries_of)
        now = self._clock()
        taken: dict[str, list[Any]] = {}
        left: dict[str, list[Any]] = {}
        spent: dict[str, float] = {}
        number = n_refused = 0
        for table, entries in entries_of.items():
            capacity = self._capacity(table, now)
            for entry, write in zip(entries, writes_of[table], strict=True):
                if number in held:
                    left.setdefault(table, []).append(entry)
                elif capacity.take(write.hash_key, write.range_key, write.wcu, now):
                    taken.setdefault(table, []).append(entry)
                    spent[table] = spent.get(table, 0.0) + write.wcu
                else:
                    n_refused += 1
                    left.setdefault(table, []).append(entry)
                number += 1
        self.counts.add_writes(now, sum(spent.values()), sum(map(len, taken.values())), n_refused)
        if not taken:
            return throttled(self._billing)
        return await self._store_batch(request, payload, taken, left, spent)

    async def _measure_batch(self, request: Message, entries_of: dict[str, list[Any]]) -> dict[str, list[Write]]:
        problem = batch_problem(entries_of, len(request.body))
        writes_of = {}
        try:
            for table, entries in entries_of.items():
                keys = await self._keys_of(table, request)
                writes_of[table] = [batch_entry_to_write(entry, keys) for entry in entries]
                problem = problem or writes_problem(writes_of[table])
        except _MALFORMED as exc:
            problem = f"a malformed item: {exc!r}"
        if problem is not None:
            raise _AnsweredError(error(400, "ValidationException", problem))
        return writes_of

    async def _store_batch(
        self,
        request: Message,
        payload: dict[str, Any],
        taken: dict[str, list[Any]],
        left: dict[str, list[Any]],
        spent: dict[str, float],
    ) -> Answer:
        stored = {table: entries for table, entries in taken.items() if self._is_stored(table)}
        if stored:
            is_whole = not left and len(stored) == len(taken)
            body = request.body if is_whole else dumps({**payload, "RequestItems": stored})
            answer = await self._forward(request, body)
            if is_whole or answer.status != 200:
                return answer
            reply = orjson.loads(answer.body)
            for table, entries in reply.get("UnprocessedItems", {}).items():
                left.setdefault(table, []).extend(entries)
            # The database knows best what a write cost: it sees what was there before.
            spent |= {one["TableName"]: one["CapacityUnits"] for one in reply.get("ConsumedCapacity", [])}
        return batch_answer(left, spent, with_capacity=wants_capacity(payload))

    async def _single(self, operation: str, request: Message, payload: dict[str, Any]) -> Answer:
        table = payload.get("TableName", "")
        keys = await self._keys_of(table, request)
        try:
            write = single_to_write(operation, payload, keys)
        except _MALFORMED as exc:
            return error(400, "ValidationException", f"a malformed item: {exc!r}")
        now = self._clock()
        if not self._capacity(table, now).take(write.hash_key, write.range_key, write.wcu, now):
            self.counts.add_writes(now, 0.0, 0, 1)
            return throttled(self._billing)
        self.counts.add_writes(now, write.wcu, 1, 0)
        if self._is_stored(table):
            return await self._forward(request)
        consumed = {"ConsumedCapacity": {"TableName": table, "CapacityUnits": float(write.wcu)}}
        return Answer(200, orjson.dumps(consumed if wants_capacity(payload) else {}))

    def _capacity(self, table: str, now: float) -> TableCapacity:
        capacity = self.tables.get(table)
        if capacity is None:
            capacity = self.tables[table] = TableCapacity(self._limits, now)
        return capacity

    def _is_stored(self, table: str) -> bool:
        if self._upstream is None:
            return False
        return not self._acknowledge or any(fnmatch.fnmatchcase(table, one) for one in self._stored_tables)

    async def _keys_of(self, table: str, request: Message) -> Keys | None:
        """Ask the database once for the names of a table's keys; without one they are guessed from the items."""
        if table not in self._keys and self._upstream is not None:
            headers = request.headers | {"x-amz-target": f"{_TARGET_PREFIX}DescribeTable"}
            answer = await self._forward(request._replace(headers=headers), orjson.dumps({"TableName": table}))
            if answer.status != 200:
                raise _AnsweredError(answer)
            self._keys[table] = keys_from_description(orjson.loads(answer.body))
        return self._keys.get(table)

    async def _forward(self, request: Message, body: bytes | None = None) -> Answer:
        if self._upstream is None:
            raise _AnsweredError(
                error(400, "UnknownOperationException", "nothing is stored here: there is no --target")
            )
        try:
            reply = await self._upstream.send(request.headers, request.body if body is None else body)
        except (OSError, asyncio.IncompleteReadError) as exc:
            self.counts.target_errors += 1
            raise _AnsweredError(error(503, "ServiceUnavailable", f"the target does not answer: {exc!r}")) from exc
        status = int(reply.start.split(" ", 2)[1])
        return Answer(status, reply.body, reply.headers.get("content-type", CONTENT_TYPE))
