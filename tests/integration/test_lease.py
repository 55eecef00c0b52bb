"""Leases: a live run keeps others out, a dead one does not."""

from __future__ import annotations

import threading
import time
from _thread import interrupt_main
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hazard_store import chunks as chunks_module
from hazard_store import lease
from hazard_store.chunks import store_chunk, store_meta
from hazard_store.deletion import delete
from hazard_store.errors import LeaseHeldError, LeaseLostError, LedgerError
from hazard_store.jobs import Silent, StorePlan, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.lease import Lease, Share, held
from hazard_store.ledger import Ledger
from hazard_store.meta import read_meta
from hazard_store.names import CURVE_PARTS
from hazard_store.permit import Permit
from hazard_store.settings import Settings
from hazard_store.storage.connection import connect
from hazard_store.storage.models import table_name
from hazard_store.storing import finish, started, store_in_process
from tests.integration.fault_proxy import FaultProxy

LAYOUT = LAYOUTS["packed+solution"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECS", 0.2)
    monkeypatch.setattr(lease, "LEASE_SECS", 2.5)
    monkeypatch.setattr(lease, "STOP_SECS", 2.0)


def test_a_second_run_is_refused_while_the_first_lives_and_may_when_it_ended(tables: Settings) -> None:
    with (
        held("X", LAYOUT, "first", tables),
        pytest.raises(LeaseHeldError, match="run first is storing or deleting 'X'"),
        held("X", LAYOUT, "second", tables),
    ):
        pytest.fail("two runs had the lease at once")
    with held("X", LAYOUT, "third", tables):
        pass


def test_layouts_and_calculations_have_leases_of_their_own(tables: Settings) -> None:
    with (
        held("X", LAYOUT, "a", tables),
        held("Y", LAYOUT, "b", tables),
        held("X", LAYOUTS["list+solution"], "c", tables),
    ):
        pass


def test_the_lease_of_a_dead_run_is_taken_over_after_its_time(tables: Settings) -> None:
    Lease("X", LAYOUT, "dead", tables).acquire()
    waited: list[str] = []
    with held("X", LAYOUT, "next", tables, on_wait=waited.append):
        assert waited == ["dead"]


def test_a_forgotten_lease_is_taken_over_at_once(tables: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    Lease("X", LAYOUT, "dead", tables).acquire()
    monkeypatch.setattr(lease, "FORGOTTEN_SECS", -2.0)

    def no_sleep(secs: float) -> None:
        pytest.fail("it waited")

    Lease("X", LAYOUT, "next", tables).acquire(sleep=no_sleep)


def test_a_lease_given_back_while_chunks_are_under_way_is_free_when_they_have_stopped(tables: Settings) -> None:
    def interrupted(share: Share) -> None:
        with held("X", LAYOUT, "first", tables, share=share):
            raise KeyboardInterrupt

    share = Share()
    share.set(3)
    with pytest.raises(KeyboardInterrupt):
        interrupted(share)
    with pytest.raises(LeaseLostError, match="run first has no lease"):
        Permit.of("X", LAYOUT, "first", tables).check()
    # One that waits and is interrupted takes nothing of this from the next one.
    threading.Timer(0.5, interrupt_main).start()
    with pytest.raises(KeyboardInterrupt), held("X", LAYOUT, "second", tables):
        pytest.fail("it did not wait")
    waited: list[str] = []
    began = time.monotonic()
    with held("X", LAYOUT, "third", tables, on_wait=waited.append):
        assert time.monotonic() - began >= lease.STOP_SECS
        assert waited == ["second"]
    # It is free at once when all chunks have ended, or when they must have ended long ago.
    share.end()
    with pytest.raises(KeyboardInterrupt):
        interrupted(share)
    assert Lease("X", LAYOUT, "reader", tables).read() is None
    share.set(3)
    with pytest.raises(KeyboardInterrupt):
        interrupted(share)
    entry = Lease("X", LAYOUT, "reader", tables).read()
    assert entry is not None
    assert entry.stop_secs == lease.STOP_SECS
    entry.renewed -= lease.STOPPED_SECS + 1
    assert entry.stop_secs == 0.0


def test_a_delete_after_a_cancelled_run_leaves_nothing_of_what_its_workers_still_write(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks_module, "LOOK_EVERY_SECS", 1.0)
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "CANCELLED", max_wcu=20)
    stored: list[Any] = []

    def store_elsewhere(plan: StorePlan) -> None:
        chunk = next(chunk for chunk in plan.todo if chunk.part == "realisations")
        try:
            store_chunk(plan.job, chunk)
        except LeaseLostError as exc:
            stored.append(exc)

    def cancelled() -> threading.Thread:
        with started(request, tables) as plan:
            plan.share.set(1)
            worker = threading.Thread(target=store_elsewhere, args=(plan,))
            worker.start()
            time.sleep(1.2)
            stored.append(worker)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    worker = stored.pop()
    assert worker.is_alive()
    delete("CANCELLED", settings=tables)
    worker.join()
    assert [type(error) for error in stored] == [LeaseLostError]
    for part in CURVE_PARTS:
        reader = connect(tables).client
        assert reader.scan(TableName=table_name(LAYOUT.table_base(part), tables))["Count"] == 0


def test_a_delete_that_lost_its_lease_leaves_alone_what_the_other_run_stores(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "TAKEN")
    assert store_in_process(request, tables).complete
    frozen = threading.Event()
    monkeypatch.setattr(Lease, "renew", lambda self: not frozen.wait(0.0) if "delete" in self._holder else True)

    def take_over(deleted: int, expected: int) -> None:
        if not frozen.is_set():
            frozen.set()
            other = Lease("TAKEN", LAYOUT, "other", tables)
            assert other._write(other._model.entry.exists())
            time.sleep(3 * lease.RENEW_SECS)

    with pytest.raises(LeaseLostError, match="took the lease"):
        delete("TAKEN", settings=tables, on_progress=take_over)
    # The meta and the ledger's record are the other run's.
    assert read_meta("TAKEN", tables).haz_sol_id == "TAKEN"
    assert Ledger(tables).calculation("TAKEN", LAYOUT) is not None


def test_a_delete_finds_what_was_stored_until_it_had_the_lease(
    tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_bin = LAYOUTS["packed+location"]
    first, second = (
        StoreRequest(str(data_dir / f"{name}.hdf5"), "MOVED", partition="location")
        for name in ("custom_ids", "bare_coordinates")
    )
    assert store_in_process(first, tables).complete
    acquire, between = Lease.acquire, [second]

    def late(self: Lease, *args: Any, **kwargs: Any) -> Any:
        if between and self._holder.startswith("delete-"):
            assert store_in_process(between.pop(), tables).complete
        return acquire(self, *args, **kwargs)

    monkeypatch.setattr(Lease, "acquire", late)
    delete("MOVED", settings=tables)
    for part in CURVE_PARTS:
        reader = connect(tables).client
        assert reader.scan(TableName=table_name(by_bin.table_base(part), tables))["Count"] == 0


def test_a_run_that_lost_its_lease_says_so_and_leaves_it_to_the_other(tables: Settings) -> None:
    def lose_it() -> None:
        with held("X", LAYOUT, "slow", tables) as lost:
            other = Lease("X", LAYOUT, "other", tables)
            assert other._write(other._model.entry.exists())
            assert lost.wait(60)

    with pytest.raises(LeaseLostError, match="took the lease"):
        lose_it()
    entry = Lease("X", LAYOUT, "reader", tables).read()
    assert entry is not None
    assert entry.holder == "other"


def test_a_store_that_lost_its_lease_does_not_call_the_calculation_complete(tables: Settings, data_dir: Path) -> None:
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "LOST")
    store_in_process(request, tables)

    class TakeOver(Silent):
        def begin(self, plan: StorePlan) -> None:
            other = Lease("LOST", LAYOUT, "other", tables)
            assert other._write(other._model.entry.exists())
            assert plan.lost.wait(60)

    with pytest.raises(LeaseLostError, match="took the lease"):
        store_in_process(replace(request, chunks=("stats",)), tables, TakeOver())
    assert not read_meta("LOST", tables).complete


def test_a_chunk_of_a_run_without_its_lease_writes_nothing(proxy: FaultProxy, data_dir: Path) -> None:
    settings = Settings.from_environment()
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "ENDED")
    with started(request, settings) as plan:
        pass
    before = Ledger(settings).chunks("ENDED", LAYOUT)
    proxy.requests.clear()
    for store in (lambda: store_meta(plan.job), lambda: store_chunk(plan.job, plan.todo[0])):
        with pytest.raises(LeaseLostError, match=f"run {plan.job.run_id} has no lease of 'ENDED'"):
            store()
    assert set(proxy.requests) == {"GetItem"}
    assert Ledger(settings).chunks("ENDED", LAYOUT) == before


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_a_store_that_is_interrupted_says_so_and_gives_its_lease_back_at_once(
    interrupt: type[BaseException], tables: Settings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECS", 60.0)
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "STOP")

    def store_a_part() -> None:
        with started(request, tables) as plan:
            store_meta(plan.job)
            ledger = Ledger(tables)
            ledger.start_chunk("STOP", LAYOUT, plan.todo[0].id, identity=plan.job.identity, run_id=plan.job.run_id)
            raise interrupt

    with pytest.raises(interrupt):
        store_a_part()
    (record,) = Ledger(tables).calculations("STOP")
    assert record.status == "failed"
    chunks = Ledger(tables).chunks("STOP", LAYOUT)
    assert {chunk.status for chunk in chunks.values()} == {"done", "failed"}
    assert {chunk.error for chunk in chunks.values()} == {None, f"the run ended before the chunk: {interrupt.__name__}"}
    assert Lease("STOP", LAYOUT, "reader", tables).read() is None
    assert store_in_process(request, tables).complete


def test_a_chunk_that_waits_for_its_budget_stops_when_its_run_gives_the_lease_back(
    proxy: FaultProxy, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = ExitStack()
    monkeypatch.setattr(chunks_module, "LOOK_EVERY_SECS", 0.1)
    settings = Settings.from_environment()
    # One write unit in two seconds: the second batch would have to wait for most of a minute.
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "WAITS", max_wcu=0.5)
    plan = stack.enter_context(started(request, settings))
    (chunk,) = [chunk for chunk in plan.todo if chunk.part == "realisations"]
    with ThreadPoolExecutor(1) as pool:
        stored = pool.submit(store_chunk, plan.job, chunk)
        while "BatchWriteItem" not in proxy.requests:
            assert not stored.done()
            time.sleep(0.01)
        Lease("WAITS", LAYOUT, plan.job.run_id, settings)._model("WAITS", f"{LAYOUT.name}#lease").delete()
        with pytest.raises(LeaseLostError, match="has no lease"):
            stored.result(timeout=30)
    assert proxy.requests.count("BatchWriteItem") == 1
    record = Ledger(settings).chunks("WAITS", LAYOUT)[chunk.id]
    assert record.status == "failed"
    assert str(record.error).startswith("LeaseLostError: ")
    with pytest.raises(LeaseLostError):
        finish(plan, [], 0.0)
    # The holder knows by its next renewal.
    assert plan.lost.wait(60)
    with pytest.raises(LeaseLostError):
        stack.close()


def test_of_two_stores_at_once_one_is_refused_and_the_result_is_whole(tables: Settings, data_dir: Path) -> None:
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "TWICE")
    refused: list[Any] = []
    with started(request, tables):
        other = threading.Thread(target=lambda: refused.append(_error_of(request, tables)))
        other.start()
        other.join()
    assert isinstance(refused[0], LeaseHeldError)
    assert store_in_process(request, tables).complete
    assert read_meta("TWICE", tables).complete


def test_a_delete_is_refused_while_a_store_runs(tables: Settings, data_dir: Path) -> None:
    request = StoreRequest(str(data_dir / "custom_ids.hdf5"), "BUSY")
    with started(request, tables), pytest.raises(LeaseHeldError):
        delete("BUSY", settings=tables)
    assert store_in_process(request, tables).complete
    assert delete("BUSY", settings=tables).items == 85


def _error_of(request: StoreRequest, settings: Settings) -> Exception | None:
    try:
        store_in_process(request, settings)
    except LedgerError as exc:
        return exc
    return None
