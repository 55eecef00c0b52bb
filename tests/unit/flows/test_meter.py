"""Rates of a running store, from the ledger's records."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows.meter import Meter, Reading
from hazard_store.jobs import StorePlan
from hazard_store.ledger import META_CHUNK, ChunkRecord, ChunkStatus
from hazard_store.names import ChunkId
from hazard_store.planning import Chunk

FIRST, SECOND = Chunk("stats", 0, 10, 10), Chunk("stats", 10, 20, 10)


def meter() -> Meter:
    job = SimpleNamespace(run_id="mine")
    plan: Any = SimpleNamespace(job=job, todo=(FIRST, SECOND), items_todo=200)
    return Meter(cast(StorePlan, plan), 0.0)


def record(chunk_id: str, items: int, status: ChunkStatus = "running", **changes: Any) -> ChunkRecord:
    made = ChunkRecord(ChunkId(chunk_id), status, "i", items=items, wcu=2.0 * items, attempts=1, run_id="mine")
    return replace(made, **changes)


def records(*made: ChunkRecord) -> dict[ChunkId, ChunkRecord]:
    return {one.chunk_id: one for one in made}


def test_rates_are_of_the_last_ten_seconds_and_the_rest_is_told_from_the_last_minute() -> None:
    running = meter()
    assert running.read(0.0, {}) == Reading(0, 200, 0.0, 0.0, None, 0, 0)
    running.read(5.0, records(record(FIRST.id, 10)))
    running.read(10.0, records(record(FIRST.id, 20)))
    reading = running.read(15.0, records(record(FIRST.id, 100, "done"), record(META_CHUNK, 1, "done")))
    assert (reading.items, reading.percent) == (100, 50.0)
    assert (reading.items_per_sec, reading.wcu_per_sec) == (9.0, 18.2)  # the meta costs units and is no curve
    assert reading.left_secs == pytest.approx(100 / (100 / 15))
    assert reading.describe().startswith("100 of 200 items, 9 items/s, 18 WCU/s, ETA 0:15, 0 throttles, 0 chunks")


def test_nothing_moves_then_nobody_knows_how_long() -> None:
    running = meter()
    for now in range(5, 200, 5):
        reading = running.read(float(now), records(record(FIRST.id, 10)))
    assert (reading.items_per_sec, reading.left_secs, reading.running) == (0.0, None, 1)
    assert "ETA unknown" in reading.describe()


def test_a_chunk_that_starts_again_does_not_write_backwards() -> None:
    running = meter()
    running.read(5.0, records(record(FIRST.id, 80, metrics={"throttles": 4})))
    failed = running.read(10.0, records(record(FIRST.id, 0, "failed")))
    assert (failed.items, failed.items_per_sec, failed.throttles) == (0, 8.0, 4)
    again = running.read(15.0, records(record(FIRST.id, 30, attempts=2, metrics={"throttles": 1})))
    assert (again.items, again.items_per_sec, again.throttles) == (30, 3.0, 5)


def test_what_another_run_stored_does_not_count() -> None:
    theirs = record(SECOND.id, 100, "done", run_id="theirs")
    elsewhere = record("stats:00020-00030", 100, "done")
    assert meter().read(5.0, records(theirs, elsewhere)).items == 0


def test_a_run_with_nothing_to_do_is_done() -> None:
    assert Reading(0, 0, 0.0, 0.0, None, 0, 0).percent == 100.0
