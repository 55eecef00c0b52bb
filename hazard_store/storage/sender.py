"""The sender: takes ready items, writes them in batches on several threads, and acknowledges all or raises.

It knows nothing of layouts or curves. What it promises: after ``close`` returns, every item given to ``put`` was
acknowledged by DynamoDB; otherwise ``close`` raises, and an ``UnacknowledgedError`` names what is left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

from hazard_store.errors import HazardStoreError, UnacknowledgedError
from hazard_store.layouts.items import EncodedItem
from hazard_store.settings import Settings
from hazard_store.storage.connection import ReadyBodyClient
from hazard_store.storage.faults import REQUEST_ERRORS, Fault, RetryPolicy, classify, to_storage_error
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.rate import WcuBudget

# BatchWriteItem takes 25 puts and 16 MB. A batch is closed a little before 16 MB to leave room for its frame.
MAX_BATCH_ITEMS = 25
MAX_BATCH_BYTES = 15_500_000

# Enough to encode and sign the next batches while earlier ones are on their way.
DEFAULT_CONNECTIONS = 4


class BatchClient(Protocol):
    """What the sender needs of a client."""

    def batch_write(self, body: bytes) -> dict[str, Any]:
        """Send one ready body; raise botocore's errors."""

    def close(self) -> None:
        """Give back what the client holds."""


def items_to_body(table: str, items: Iterable[EncodedItem]) -> bytes:
    """Frame ready items as the body of one ``BatchWriteItem``."""
    entries = b",".join(item.body for item in items)
    return b'{"RequestItems":{"%b":[%b]},"ReturnConsumedCapacity":"TOTAL"}' % (table.encode(), entries)


class Sender:
    """Writes items to one table.

    Parameters
    ----------
    table : str
    settings : Settings
    client : BatchClient, optional
        What sends a body; by default pynamodb's own botocore client.
    policy : RetryPolicy
    connections : int
        Requests under way at once.
    budget : WcuBudget, optional
        Holds the write units down.
    cancelled : threading.Event, optional
        When set, nothing more is sent and ``close`` raises with what is left.
    """

    def __init__(
        self,
        table: str,
        settings: Settings,
        *,
        client: BatchClient | None = None,
        policy: RetryPolicy | None = None,
        connections: int = DEFAULT_CONNECTIONS,
        budget: WcuBudget | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.metrics = Metrics()
        self._table = table
        self._settings = settings
        self._client = client if client is not None else ReadyBodyClient(settings)
        self._policy = policy or RetryPolicy()
        self._budget = budget
        self._stop = cancelled or threading.Event()
        self._failed = threading.Event()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="sender")
        # One batch waiting a connection keeps the threads busy; more would only hold memory.
        self._slots = threading.BoundedSemaphore(2 * connections)
        self._batch: list[EncodedItem] = []
        self._batch_bytes = 0
        self._wcu_per_item = 1.0
        self._under_way: dict[int, Metrics] = {}
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
            self._failed.set()
            self._shut_down()

    def put(self, item: EncodedItem) -> None:
        """Add an item; sends a batch when one is full, and waits when enough are under way.

        Raises
        ------
        HazardStoreError
            If a batch has already failed for good: there is no sense in encoding more.
        """
        if self._batch and self._batch_bytes + len(item.body) > MAX_BATCH_BYTES:
            self._submit()
        self._batch.append(item)
        self._batch_bytes += len(item.body) + 1
        if len(self._batch) == MAX_BATCH_ITEMS:
            self._submit()
            if self._failed.is_set():
                self.close()

    def close(self) -> None:
        """Send the rest, wait for every acknowledgement, and raise if one is missing.

        Raises
        ------
        UnacknowledgedError
            With the keys of what is left, when retries ended at the deadline or the write was cancelled.
        StorageError
            When DynamoDB refused a batch: the first refusal.
        """
        if self._batch:
            self._submit()
        self._shut_down()
        if self._errors:
            first = self._errors[0]
            if isinstance(first, UnacknowledgedError):
                raise UnacknowledgedError(f"{len(self._left):,} items were not acknowledged: {first}", self._left)
            raise first

    def so_far(self) -> Metrics:
        """What was acknowledged, retried and throttled until now, batches that are under way included.

        Times and latencies are left out: they stand in `metrics`, which is whole once ``close`` returned.
        """
        with self._lock:
            counted = [self.metrics, *self._under_way.values()]
            return Metrics(
                items=sum(one.items for one in counted),
                wcu=sum(one.wcu for one in counted),
                retries=sum(one.retries for one in counted),
                throttles=sum(one.throttles for one in counted),
            )

    def _shut_down(self) -> None:
        self._pool.shutdown(wait=True)
        self._client.close()

    def _submit(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._slots.acquire()
        future: Future[None] = self._pool.submit(self._deliver, batch)
        future.add_done_callback(lambda _: self._slots.release())

    def _deliver(self, batch: list[EncodedItem]) -> None:
        """Write one batch; whatever happens, its items end acknowledged or in `_left`."""
        started = time.monotonic()
        spent = Metrics()
        with self._lock:
            self._under_way[id(spent)] = spent
        error: HazardStoreError | None = None
        try:
            self._send_until_done(batch, spent)
        except HazardStoreError as exc:
            error = exc
        except Exception as exc:  # a thread's exception would be lost in its future
            error = to_storage_error(exc, self._settings, self._table)
        spent.writing_secs = time.monotonic() - started
        with self._lock:
            del self._under_way[id(spent)]
            self.metrics.add(spent)
            if error is not None:
                self._errors.append(error)
                if isinstance(error, UnacknowledgedError):
                    self._left += error.keys
                else:
                    self._left += [(item.hash_key, item.range_key) for item in batch]
                self._failed.set()

    def _send_until_done(self, batch: list[EncodedItem], spent: Metrics) -> None:
        pending = {(item.hash_key, item.range_key): item for item in batch}
        attempt = 0
        deadline = time.monotonic() + self._policy.deadline_secs
        last_fault = "cancelled"
        while pending:
            if self._stop.is_set() or self._failed.is_set():
                raise self._unacknowledged(pending, "another batch failed or the write was cancelled")
            if attempt:
                if time.monotonic() >= deadline:
                    raise self._unacknowledged(
                        pending, f"no progress for {self._policy.deadline_secs:g} s, last: {last_fault}"
                    )
                self._stop.wait(self._policy.delay_secs(attempt))
                spent.retries += 1
            if self._budget is not None:
                self._budget.take(self._wcu_per_item * len(pending))
            attempt += 1
            spent.requests += 1
            sent_at = time.monotonic()
            try:
                answer = self._client.batch_write(items_to_body(self._table, pending.values()))
            except REQUEST_ERRORS as exc:
                fault = classify(exc)
                if not fault.is_retryable:
                    raise to_storage_error(exc, self._settings, self._table) from exc
                spent.throttles += fault is Fault.THROTTLED
                last_fault = " ".join(str(exc).split())
                continue
            finally:
                spent.observe_latency(time.monotonic() - sent_at)
            left = self._unprocessed(answer, pending)
            self._count(answer, [item for key, item in pending.items() if key not in left], spent)
            if left:
                spent.throttles += 1
                last_fault = f"{len(left)} unprocessed items"
                if len(left) < len(pending):
                    deadline = time.monotonic() + self._policy.deadline_secs
            pending = left

    def _unprocessed(
        self, answer: dict[str, Any], pending: dict[tuple[str, str], EncodedItem]
    ) -> dict[tuple[str, str], EncodedItem]:
        """Find which of the pending items an answer gives back, by their keys."""
        if "UnprocessedItems" not in answer:
            # DynamoDB always says what it did not write, if only that it is nothing.
            return dict(pending)
        entries = answer["UnprocessedItems"].get(self._table, [])
        by_values = {frozenset(key): key for key in pending}
        left = {}
        for entry in entries:
            texts = {v["S"] for v in entry["PutRequest"]["Item"].values() if "S" in v}
            key = next((key for values, key in by_values.items() if values <= texts), None)
            if key is None:
                # An item that we did not send: nothing in the batch can be trusted as written.
                return dict(pending)
            left[key] = pending[key]
        return left

    def _count(self, answer: dict[str, Any], written: list[EncodedItem], spent: Metrics) -> None:
        wcu = sum(float(c.get("CapacityUnits", 0.0)) for c in answer.get("ConsumedCapacity", []))
        spent.items += len(written)
        spent.item_bytes += sum(len(item.body) for item in written)
        spent.wcu += wcu
        if written and wcu:
            # What the last batch cost an item is the best guess for what the next one will.
            self._wcu_per_item = wcu / len(written)

    def _unacknowledged(self, pending: dict[tuple[str, str], EncodedItem], why: str) -> UnacknowledgedError:
        return UnacknowledgedError(f"{why} (table {self._table})", list(pending))
