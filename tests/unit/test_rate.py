"""The rate controller against a simulated table: a token bucket, several processes, and a clock that is told."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.storage import rate
from hazard_store.storage.concurrency import MIN_CONNECTIONS, Concurrency, connections_for
from hazard_store.storage.connection import MAX_CONNECTIONS
from hazard_store.storage.rate import CATCH_UP_SECS, RateController, WcuBudget

ITEMS = 25
LATENCY_SECS = 0.008


class _Wait(Exception):
    """What `take` would sleep for."""


@dataclass
class Simulation:
    """Some processes, each with a controller, that write batches as fast as these let them.

    `capacity` gives the table's WCU/s at a moment; what it does not use it keeps for a second.
    """

    capacity: Callable[[float], float]
    workers: int
    wcu_per_item: float = 2.0
    max_wcu: float | None = None
    seed: int = 1
    now: float = 0.0
    sent: list[tuple[float, float]] = field(default_factory=list)  # when, and how many units were written
    requests: int = 0
    throttled: int = 0

    def run(self, secs: float) -> Simulation:
        budgets = [
            WcuBudget(self.max_wcu / self.workers, self._clock) if self.max_wcu else None for _ in range(self.workers)
        ]
        self.controllers = [RateController(budget, self._clock) for budget in budgets]
        self.tokens, self.filled_at = self.capacity(0.0), 0.0
        left: list[list[tuple[float, int]]] = [[] for _ in range(self.workers)]
        chances, number = random.Random(self.seed), itertools.count()
        events: list[tuple[float, int, str, int, int, float]] = []

        def then(secs: float, what: str, worker: int, items: int = 0, charged: float = 0.0) -> None:
            heapq.heappush(events, (self.now + secs, next(number), what, worker, items, charged))

        for worker in range(self.workers):
            then(0.3 * worker, "begin", worker)
        while events[0][0] < secs:
            self.now, _, what, worker, items, charged = heapq.heappop(events)
            controller = self.controllers[worker]
            if what == "begin":
                is_due = left[worker] and left[worker][0][0] <= self.now
                then(0.0, "wait", worker, heapq.heappop(left[worker])[1] if is_due else ITEMS)
            elif what == "wait":
                # Twice the real units: the estimate before the first answer is too high.
                wait_secs, charged = self._ask(controller, 2 * self.wcu_per_item * items, charged)
                if wait_secs:
                    then(wait_secs + chances.uniform(0, 0.002), "wait", worker, items, charged)
                else:
                    then(LATENCY_SECS * chances.lognormvariate(0, 0.3), "arrive", worker, items, charged)
                    then(0.0, "begin", worker)
            else:
                written = self._store(items)
                consumed = written * self.wcu_per_item
                units = 2 * self.wcu_per_item * items
                controller.settle(charged, units, consumed or None, 2 * consumed, written < items)
                if written < items:
                    heapq.heappush(left[worker], (self.now + chances.uniform(0, 0.1), items - written))
        return self

    def _clock(self) -> float:
        return self.now

    def _ask(self, controller: RateController, units: float, charged: float) -> tuple[float, float]:
        """Give how long the batch has to wait, 0.0 when it may go, and what it was charged already."""
        waits: list[float] = []

        def sleep(secs: float) -> None:
            waits.append(secs)
            raise _Wait

        # The pacer's turn, once taken, is not taken again while the batch waits for the budget.
        if id(controller) not in self._paced:
            try:
                charged = controller._pacer.take(lambda: controller.wcu_of(units), sleep)
            except _Wait:
                return waits[0], 0.0
            self._paced.add(id(controller))
        if controller._budget is not None:
            try:
                controller._budget.take(lambda: charged, sleep)
            except _Wait:
                return waits[0], charged
        self._paced.discard(id(controller))
        return 0.0, charged

    _paced: set[int] = field(default_factory=set)

    def _store(self, items: int) -> int:
        capacity = self.capacity(self.now)
        self.tokens = min(capacity, self.tokens + (self.now - self.filled_at) * capacity)
        self.filled_at = self.now
        written = min(items, int(self.tokens / self.wcu_per_item))
        self.tokens -= written * self.wcu_per_item
        self.requests += 1
        self.throttled += written < items
        self.sent.append((self.now, written * self.wcu_per_item))
        return written

    def wcu_per_sec(self, start: float, stop: float) -> float:
        return sum(wcu for at, wcu in self.sent if start <= at < stop) / (stop - start)

    def largest_window_wcu(self, secs: float) -> float:
        most = within = 0.0
        first = 0
        for at, wcu in self.sent:
            within += wcu
            while self.sent[first][0] <= at - secs:
                within -= self.sent[first][1]
                first += 1
            most = max(most, within)
        return most


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("capacity", [1_000.0, 4_000.0])
def test_it_finds_the_capacity_and_stays_just_under_it(capacity: float, workers: int) -> None:
    runs = [Simulation(lambda now: capacity, workers, seed=seed).run(50.0) for seed in range(3)]
    assert min(seen.wcu_per_sec(10.0, 50.0) for seen in runs) >= 0.95 * capacity
    # By location, where a table gives 4,000. Many workers on one partition are throttled once each to share it.
    throttled = sum(seen.throttled for seen in runs) / sum(seen.requests for seen in runs)
    assert throttled < (0.02 if capacity > 1_000 else 0.07)


def test_it_starts_fast() -> None:
    assert Simulation(lambda now: 4_000.0, 1).run(6.0).wcu_per_sec(4.0, 6.0) > 3_500


def test_it_recovers_when_the_capacity_falls_to_a_quarter_and_comes_back() -> None:
    seen = Simulation(lambda now: 1_000.0 if 20 <= now < 40 else 4_000.0, 1).run(80.0)
    assert seen.wcu_per_sec(25.0, 40.0) >= 0.9 * 1_000
    assert seen.wcu_per_sec(55.0, 80.0) >= 0.95 * 4_000
    assert seen.throttled / seen.requests < 0.03


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_budget_is_held_in_any_five_seconds(workers: int) -> None:
    seen = Simulation(lambda now: 4_000.0, workers, max_wcu=1_500.0).run(30.0)
    assert seen.largest_window_wcu(5.0) <= 1.05 * 5 * 1_500
    assert seen.wcu_per_sec(10.0, 30.0) >= 0.97 * 1_500
    assert seen.throttled == 0


def test_without_use_the_rate_does_not_grow() -> None:
    now = 0.0
    controller = RateController(clock=lambda: now, sleep=lambda secs: None)
    for _ in range(100):
        now += 0.5
        controller.settle(50.0, 50.0, 50.0, 50.0, throttled=False)
    assert controller.wcu_per_sec == rate.START_WCU_PER_SEC


def test_the_cost_of_items_is_learned() -> None:
    controller = RateController()
    assert controller.wcu_of(50.0) == 50.0
    controller.settle(50.0, 50.0, 20.0, 50.0, throttled=False)
    assert controller.wcu_of(50.0) == 20.0, "the first answer is worth more than a guess"
    for _ in range(40):
        controller.settle(20.0, 50.0, 40.0, 50.0, throttled=False)
    assert controller.wcu_of(50.0) == pytest.approx(40.0, rel=0.05)


def test_what_waits_is_charged_what_is_known_when_its_turn_comes() -> None:
    now = 0.0
    controller = RateController(clock=lambda: now, sleep=lambda secs: None)
    first = controller.take(1_100.0)

    def sleep(secs: float) -> None:
        """While the second batch waits, the first one's answer comes."""
        nonlocal now
        if now == 0.0:
            controller.settle(first, 1_100.0, 350.0, 1_100.0, throttled=False)
        now += secs

    assert first == 1_100.0
    assert controller.take(1_100.0, sleep) == pytest.approx(350.0)
    assert now < 1_100.0 / rate.START_WCU_PER_SEC + 0.1, "what was charged too much is given back"


@given(
    wcu_per_sec=st.floats(1.0, 10_000.0),
    batches=st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.1, 300.0)), min_size=1, max_size=60),
)
def test_over_any_time_a_budget_lets_its_rate_and_one_batch_through(
    wcu_per_sec: float, batches: list[tuple[float, float]]
) -> None:
    now = 0.0

    def sleep(secs: float) -> None:
        nonlocal now
        now += secs

    budget = WcuBudget(wcu_per_sec, clock=lambda: now, sleep=sleep)
    taken = []
    for idle_secs, wcu in batches:
        now += idle_secs
        budget.take(lambda wcu=wcu: wcu)
        taken.append((now, wcu))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            span = taken[last][0] - taken[first][0]
            before_the_last = sum(wcu for _, wcu in taken[first:last])
            assert before_the_last <= wcu_per_sec * (span + CATCH_UP_SECS) * 1.001 + 1e-3


@given(latency_secs=st.floats(1e-4, 10.0), cpu_secs=st.floats(0.0, 0.1))
def test_connections_follow_latency_within_bounds(latency_secs: float, cpu_secs: float) -> None:
    assert MIN_CONNECTIONS <= connections_for(latency_secs, cpu_secs) <= MAX_CONNECTIONS
    assert connections_for(2 * latency_secs, cpu_secs) >= connections_for(latency_secs, cpu_secs)


@pytest.mark.parametrize(("latency_secs", "connections"), [(0.005, 5), (0.050, MAX_CONNECTIONS)])
def test_connections_are_found_from_the_requests(latency_secs: float, connections: int) -> None:
    chances, concurrency = random.Random(1), Concurrency()
    for _ in range(1_000):
        concurrency.observe(latency_secs * chances.lognormvariate(0, 0.3), 0.0015)
    assert concurrency.connections == pytest.approx(connections, abs=1)


def test_a_store_that_is_at_its_limit_is_not_asked_the_more_often() -> None:
    concurrency = Concurrency()
    most = 0
    for _ in range(100_000):
        # Two at a time are answered in 50 ms each; the others wait.
        concurrency.observe(0.050 * max(1.0, concurrency.connections / 2), 0.0015)
        most = max(most, concurrency.connections)
    assert most <= 5


def test_a_store_that_grew_slower_is_asked_as_often_as_before() -> None:
    concurrency = Concurrency()
    for latency_secs in (0.008, 0.030):
        for _ in range(2_000):
            concurrency.observe(latency_secs, 0.0015)
        assert concurrency.connections == connections_for(latency_secs, 0.0015)
