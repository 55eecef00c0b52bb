"""What benchmarks say of processor time: whose it was, of processes that ended within the block or live on."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Event

import pytest

from benchmarks.processes import SELF, WORKERS, Usage


def burn(secs: float) -> None:
    end = time.process_time() + secs
    while time.process_time() < end:
        pass


def burn_before_and_after(secs: float, burnt: Event, begin: Event) -> None:
    burn(secs)
    burnt.set()
    begin.wait()
    burn(secs)


def test_a_worker_that_ended_within_the_block_counts_with_its_start() -> None:
    context = multiprocessing.get_context("spawn")
    with Usage() as usage:
        worker = context.Process(target=burn, args=(0.5,))
        worker.start()
        worker.join()
    assert 0.5 <= usage.cpu_secs[WORKERS] < 5.0
    assert usage.cpu_secs[SELF] < 0.4


def test_what_a_worker_did_before_the_block_does_not_count() -> None:
    context = multiprocessing.get_context("spawn")
    burnt, begin = context.Event(), context.Event()
    worker = context.Process(target=burn_before_and_after, args=(0.5, burnt, begin))
    worker.start()
    burnt.wait()
    with Usage() as usage:
        begin.set()
        worker.join()
    assert usage.cpu_secs[WORKERS] == pytest.approx(0.5, abs=0.3)


def test_this_process_is_counted_apart() -> None:
    with Usage() as usage:
        burn(0.3)
    assert usage.cpu_secs[SELF] == pytest.approx(0.3, abs=0.25)
    assert usage.cpu_secs[WORKERS] < 0.1


def hold(megabytes: int, secs: float) -> None:
    held = bytearray(megabytes * 2**20)
    del held
    time.sleep(secs)


def test_the_peak_of_a_worker_is_known_after_it_has_given_memory_back() -> None:
    context = multiprocessing.get_context("spawn")
    with Usage() as usage:
        worker = context.Process(target=hold, args=(200, 3.0))
        worker.start()
        worker.join()
    assert usage.peak_mb >= 200
    assert usage.seen_mb[-1][1] < 200


def test_what_workers_are_forked_from_is_no_worker_but_works_for_them() -> None:
    context = multiprocessing.get_context("forkserver")
    with Usage() as usage:
        worker = context.Process(target=burn, args=(2.5,))
        worker.start()
        worker.join()
        time.sleep(1.5)
    assert usage.cpu_secs[WORKERS] >= 2.5
    assert usage.peak_mb > 0
    # The worker has ended, and what it was forked from is there for the next.
    assert usage.seen_mb[-1][1] == 0
