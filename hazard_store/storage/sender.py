"""The sender: takes ready items, writes them in batches on several connections, and acknowledges all or raises.

It knows nothing of layouts or curves. What it promises: after ``close`` returns, every item given to ``put`` was
acknowledged by DynamoDB; otherwise ``close`` raises, and an ``UnacknowledgedError`` names what is left.

Whoever gives it items sends as well: threads of its own are there for the second and further connections only. A batch
that its maker sends is still in the processor's cache, and nothing has to be handed over.

A batch that has to be sent again waits its time in a queue of its own while others take the connections.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

from hazard_store.errors import HazardStoreError, UnacknowledgedError
from hazard_store.layouts.items import EncodedItem
from hazard_store.settings import Settings
from hazard_store.storage.batches import Batch, bytes_of, item_units, units_of, unprocessed
from hazard_store.storage.connection import ReadyBodyClient, contact
from hazard_store.storage.control import WriteControl
from hazard_store.storage.faults import REQUEST_ERRORS, Fault, RetryPolicy, classify, to_storage_error
from hazard_store.storage.metrics import Metrics

# BatchWriteItem takes 25 puts and 16 MB. A batch is closed a little before 16 MB to leave room for its frame.
MAX_BATCH_ITEMS = 25
MAX_BATCH_BYTES = 15_500_000

# A batch is no more of the write budget than this: what one second uses must not hang on where its batches fall.
MAX_BATCH_BUDGET_SECS = 0.15

# What all batches under way hold together, if there are two or more.
BYTES_UNDER_WAY = 16 * 1024 * 1024

# Batches under way for each connection: one on it, one that waits for it, and some that wait to be sent again.
BATCHES_PER_CONNECTION = 4

# Batches that wait for each thread, while their maker goes on.
BATCHES_AHEAD = 2

# Waiting threads look so often whether the write was cancelled.
_POLL_SECS = 0.1


class BatchClient(Protocol):
    """What the sender needs of a client."""

    def batch_write(self, body: bytes) -> dict[str, Any]:
        """Send one ready body; raise botocore's errors."""


def items_to_body(table: str, items: Iterable[EncodedItem]) -> bytes:
    """Frame ready items as the body of one ``BatchWriteItem``."""
    entries = b",".join(item.body for item in items)
    return b'{"RequestItems":{"%b":[%b]},"ReturnConsumedCapacity":"TOTAL"}' % (table.encode(), entries)


class _CancelledError(Exception):
    """The write ended while a thread waited."""


class Sender:
    """Writes items to one table.

    Parameters
    ----------
    table : str
    settings : Settings
    client : BatchClient, optional
        What sends a body; by default pynamodb's own botocore client.
    policy : RetryPolicy
    connections : int, optional
        Requests under way at once at most; by default as many as their latency asks for.
    control : WriteControl, optional
        Holds the rate down to what is taken, and finds the number of connections, which the senders of a process that
        write to the same table share. By default one of its own.
    bytes_under_way : int
        What all batches under way hold together at most, if there are two or more.
    cancelled : threading.Event, optional
        When set, nothing more is sent and ``close`` raises with what is left.

    Attributes
    ----------
    metrics : Metrics
        What was acknowledged; whole behind ``close``.
    sending_secs : float
        What ``put`` took for sending, and for waiting until it may.
    """

    def __init__(
        self,
        table: str,
        settings: Settings,
        *,
        client: BatchClient | None = None,
        policy: RetryPolicy | None = None,
        connections: int | None = None,
        control: WriteControl | None = None,
        bytes_under_way: int = BYTES_UNDER_WAY,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.sending_secs = 0.0
        self._table = table
        self._settings = settings
        self._client = client if client is not None else ReadyBodyClient(settings)
        self._policy = policy or RetryPolicy()
        self._contact = contact(settings)
        self._control = control or WriteControl()
        self._most_connections = connections
        self._most_bytes = bytes_under_way
        self._stop = cancelled or threading.Event()
        # Guards all that follows; the two conditions are for idle threads and for who gives the items.
        self._lock = threading.Lock()
        self._has_work, self._has_room = threading.Condition(self._lock), threading.Condition(self._lock)
        # One thread at a time waits for the rate, so that the others see what is due when their turn comes.
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._n_idle = self._n_sending = 0
        self._ready: deque[Batch] = deque()
        self._later: list[tuple[float, int, Batch]] = []
        self._numbers = itertools.count()
        self._n_batches = self._n_bytes = 0
        self._closing = self._failed = False
        self._batch: list[EncodedItem] = []
        self._batch_bytes = self._batch_units = 0
        self._left: list[tuple[str, str]] = []
        self._errors: list[HazardStoreError] = []

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            # The block failed for a reason of its own: stop what is under way and let that reason through.
            self._failed = True
            self._shut_down()

    def put(self, item: EncodedItem) -> None:
        """Add an item; when a batch is full, either a thread will send it or this call does.

        Raises
        ------
        HazardStoreError
            If a batch has already failed for good: there is no sense in encoding more.
        """
        n_bytes, units = len(item.body) + 1, item_units(item)
        if self._batch and (self._batch_bytes + n_bytes > MAX_BATCH_BYTES or self._is_enough(units)):
            self._submit()
        self._batch.append(item)
        self._batch_bytes += n_bytes
        self._batch_units += units
        if len(self._batch) == MAX_BATCH_ITEMS:
            self._submit()

    def close(self) -> None:
        """Send the rest, wait for every acknowledgement, and raise if one is missing.

        Raises
        ------
        UnacknowledgedError
            With the keys of what is left, when retries ended at the deadline or the write was cancelled.
        StorageError
            When DynamoDB refused a batch: the first refusal.
        """
        if self._batch and not self._failed:
            self._submit()
        self._shut_down()
        self._raise_if_left()

    def so_far(self) -> Metrics:
        """What was acknowledged, retried and throttled until now."""
        with self._lock:
            return replace(self.metrics, latency_buckets=dict(self.metrics.latency_buckets))

    def _raise_if_left(self) -> None:
        if not self._left and not self._errors:
            return
        first = self._errors[0] if self._errors else self._unacknowledged((), "the write was cancelled")
        if isinstance(first, UnacknowledgedError):
            raise UnacknowledgedError(f"{len(self._left):,} items were not acknowledged: {first}", self._left)
        raise first

    def _shut_down(self) -> None:
        with self._lock:
            self._closing = True
            self._has_work.notify_all()
        self._work(self._is_done, self._has_room)
        for thread in self._threads:
            thread.join()
        # Threads end before their work is done only when there is no sense in it any more.
        unsent = [*self._ready, *(batch for _, _, batch in self._later)]
        self._left += [key for batch in unsent for key in batch.items]
        self._left += [(item.hash_key, item.range_key) for item in self._batch]
        self._ready.clear()
        self._later.clear()
        self._batch = []

    def _is_enough(self, units: int) -> bool:
        """Whether the batch would be too much of the budget with so many units more."""
        rate = self._control.rate
        budget = rate.budget_wcu_per_sec
        return budget is not None and rate.wcu_of(self._batch_units + units) > MAX_BATCH_BUDGET_SECS * budget

    def _submit(self) -> None:
        batch = Batch({(item.hash_key, item.range_key): item for item in self._batch}, self._batch_bytes)
        with self._lock:
            self._batch, self._batch_bytes, self._batch_units = [], 0, 0
            self._ready.append(batch)
            self._n_batches += 1
            self._n_bytes += batch.n_bytes
            if self._n_idle:
                self._has_work.notify()
            elif len(self._threads) < self._connections() - 1 and not self._has_ended():
                work, name = (self._is_done, self._has_work), f"sender {len(self._threads)}"
                thread = threading.Thread(target=self._work, args=work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        began = time.monotonic()
        self._work(lambda: self._is_room_for(batch.n_bytes), self._has_room)
        self.sending_secs += time.monotonic() - began
        if self._has_ended() and not self._closing:
            self._shut_down()
            self._raise_if_left()

    def _connections(self) -> int:
        wanted = self._control.concurrency.connections_each
        return wanted if self._most_connections is None else min(wanted, self._most_connections)

    def _has_ended(self) -> bool:
        return self._failed or self._stop.is_set()

    def _is_done(self) -> bool:
        """Whether nothing is under way, and nothing comes any more."""
        return self._closing and not self._n_batches

    def _is_room_for(self, n_bytes: int) -> bool:
        """Whether the threads have enough to send, and another batch of so many bytes may be under way."""
        return len(self._ready) <= BATCHES_AHEAD * len(self._threads) and (
            not self._n_batches
            or (
                self._n_batches < BATCHES_PER_CONNECTION * self._connections()
                and self._n_bytes + n_bytes <= self._most_bytes
            )
        )

    def _work(self, is_enough: Callable[[], bool], woken: threading.Condition) -> None:
        """Send batches until it is enough or there is no sense in it."""
        while (batch := self._next(is_enough, woken)) is not None:
            try:
                self._send(batch)
            except _CancelledError:
                self._put_back(batch)
            except HazardStoreError as exc:
                self._fail(batch, exc)
            except Exception as exc:  # a thread's exception would be lost with it
                self._fail(batch, to_storage_error(exc, self._settings, self._table))

    def _next(self, is_enough: Callable[[], bool], woken: threading.Condition) -> Batch | None:
        """Wait for a batch to send: one whose delay is over, or else a fresh one."""
        with self._lock:
            while not self._has_ended() and not is_enough():
                now = time.monotonic()
                wait_secs = _POLL_SECS
                if self._n_sending < self._connections():
                    if self._later and self._later[0][0] <= now:
                        self._n_sending += 1
                        return heapq.heappop(self._later)[2]
                    if self._ready:
                        self._n_sending += 1
                        return self._ready.popleft()
                    if self._later:
                        wait_secs = min(wait_secs, self._later[0][0] - now)
                self._n_idle += woken is self._has_work
                woken.wait(wait_secs)
                self._n_idle -= woken is self._has_work
        return None

    def _sleep(self, secs: float) -> None:
        """Sleep for the rate controller; a batch that waits when the write ends is not sent any more."""
        end = time.monotonic() + secs
        while (left := end - time.monotonic()) > 0:
            if self._failed or self._stop.wait(min(left, _POLL_SECS)):
                raise _CancelledError

    def _send(self, batch: Batch) -> None:
        """Send a batch once; it ends acknowledged, queued for another time, or failed."""
        control = self._control
        units = units_of(batch.items)
        with self._turn:
            charged = control.rate.take(units, self._sleep)
        if self._has_ended():
            raise _CancelledError
        spent = Metrics()
        began = time.monotonic()
        with self._lock:
            self.metrics.requests += 1
            self.metrics.retries += batch.is_retry
        if not batch.is_retry:
            batch.is_retry, batch.deadline = True, began + self._policy.deadline_secs
        cpu_began = time.thread_time()
        consumed: float | None = None
        is_silent = False
        try:
            answer = self._client.batch_write(items_to_body(self._table, batch.items.values()))
            left = unprocessed(answer, self._table, batch.items)
            consumed = sum(float(c.get("CapacityUnits", 0.0)) for c in answer.get("ConsumedCapacity", []))
            spent.throttles = int(bool(left))
            fault_text = f"{len(left)} unprocessed items"
        except REQUEST_ERRORS as exc:
            fault = classify(exc)
            is_silent = fault is Fault.CONNECTION
            if not fault.is_retryable:
                raise to_storage_error(exc, self._settings, self._table) from exc
            left = batch.items
            spent.throttles = int(fault is Fault.THROTTLED)
            fault_text = " ".join(str(exc).split())
        ended = time.monotonic()
        spent.writing_secs = ended - began
        spent.observe_latency(ended - began)
        spent.items = len(batch.items) - len(left)
        spent.item_bytes = bytes_of(batch.items) - bytes_of(left)
        spent.wcu = consumed or 0.0
        control.rate.settle(charged, units, consumed, units - units_of(left), bool(spent.throttles))
        if consumed is not None:
            control.concurrency.observe(ended - began, time.thread_time() - cpu_began)
        if not is_silent:
            self._contact.answered()
        try:
            self._settle(batch, left, spent, fault_text)
        except UnacknowledgedError:
            if is_silent:
                # The ledger, which is told of it next, does not wait as long once more.
                self._contact.lost()
            raise

    def _settle(self, batch: Batch, left: dict[tuple[str, str], EncodedItem], spent: Metrics, fault_text: str) -> None:
        """Count what a request did, and queue what it left behind."""
        now = time.monotonic()
        if len(left) < len(batch.items):
            batch.deadline = now + self._policy.deadline_secs
            batch.failures = 0
        batch.items = left
        with self._lock:
            self.metrics.add(spent)
            if left and now >= batch.deadline:
                error = f"no progress for {self._policy.deadline_secs:g} s, last: {fault_text}"
            else:
                error = None
                self._n_sending -= 1
                if left:
                    batch.failures += 1
                    due = min(now + self._policy.delay_secs(batch.failures), batch.deadline)
                    heapq.heappush(self._later, (due, next(self._numbers), batch))
                else:
                    self._n_batches -= 1
                    self._n_bytes -= batch.n_bytes
                    self._has_room.notify()
                    if self._is_done():
                        self._has_work.notify_all()
        if error is not None:
            raise self._unacknowledged(left, error)

    def _put_back(self, batch: Batch) -> None:
        with self._lock:
            self._n_sending -= 1
            self._ready.append(batch)

    def _fail(self, batch: Batch, error: HazardStoreError) -> None:
        with self._lock:
            self._n_sending -= 1
            self._failed = True
            self._errors.append(error)
            self._left += batch.items
            self._has_work.notify_all()
            self._has_room.notify()

    def _unacknowledged(self, pending: Iterable[tuple[str, str]], why: str) -> UnacknowledgedError:
        return UnacknowledgedError(f"{why} (table {self._table})", list(pending))
