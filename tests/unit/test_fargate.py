"""Which cluster on Fargate a store is given: what it costs, how long it takes, and which of all is recommended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.errors import UsageError
from hazard_store.fargate import (
    COUNTS,
    DEADLINE_RULE,
    MIN_BILLED_SECS,
    RULE,
    SCHEDULER,
    SIZES,
    UNHURRIED_FACTOR,
    UNHURRIED_SECS,
    FargateWish,
    WorkerSize,
    options,
    recommend,
    start_secs,
)
from hazard_store.pacing import AWS, BUDGET, WORKER_CPU, Work
from hazard_store.prices import FargatePrices

FREE = replace(AWS, partition_wcu=None, table_wcu=None, request_latency_secs=0.0)
CHUNK = Work("realisations", wcu=1_000, requests=40, worker_cpu_secs=2.0, database_cpu_secs=0.0, largest_key_wcu=1_000)
LONG = replace(CHUNK, worker_cpu_secs=600.0)
PRICES = FargatePrices()

chunks = st.builds(
    Work,
    part=st.just("realisations"),
    wcu=st.floats(1, 1e5),
    requests=st.integers(1, 500),
    worker_cpu_secs=st.floats(0.01, 500),
    database_cpu_secs=st.just(0.0),
    largest_key_wcu=st.floats(1, 1e4),
)
works = st.lists(chunks, min_size=1, max_size=12)
deadlines = st.none() | st.floats(1, 1e5)


def hourly_usd(size: WorkerSize) -> float:
    return size.vcpu * PRICES.usd_per_vcpu_hour + size.memory_mib / 1024 * PRICES.usd_per_gb_hour


@given(works, deadlines)
def test_the_recommended_cluster_is_the_cheapest_that_its_rule_allows(
    chunks: list[Work], deadline_secs: float | None
) -> None:
    weighed = list(options(chunks, AWS, PRICES, connections=4))
    found = recommend(chunks, AWS, FargateWish(PRICES, deadline_secs), connections=4)
    shortest = min(option.seconds for option in weighed)
    limit = max(UNHURRIED_SECS, UNHURRIED_FACTOR * shortest) if deadline_secs is None else deadline_secs
    in_time = [option for option in weighed if option.seconds <= limit]
    assert found.option in weighed
    if in_time:
        assert found.option.seconds <= limit
        assert found.option.usd_spot == min(option.usd_spot for option in in_time)
    else:
        assert found.option.seconds == shortest
    assert found.meets_deadline is (None if deadline_secs is None else bool(in_time))


@given(works)
def test_more_time_never_costs_more(chunks: list[Work]) -> None:
    costs = [
        recommend(chunks, AWS, FargateWish(PRICES, deadline), connections=4)
        for deadline in (1e9, 3_600.0, 1_200.0, 600.0, 300.0)
    ]
    prices = [found.option.usd_spot for found in costs if found.meets_deadline]
    assert prices == sorted(prices)


@given(works)
def test_on_demand_costs_more_and_nothing_is_faster_than_its_start(chunks: list[Work]) -> None:
    for option in options(chunks, AWS, PRICES, connections=4):
        assert option.usd_spot < option.usd_on_demand
        assert option.seconds > start_secs(SCHEDULER) + start_secs(option.size)
        assert option.workers <= max(1, len(chunks))


def test_twice_the_workers_halve_the_time_of_chunks_that_compute() -> None:
    found = {
        (one.size, one.workers): one
        for one in options([LONG] * 16, FREE, PRICES, connections=4)
        if one.workers in (4, 8)
    }
    for size in SIZES:
        started = start_secs(SCHEDULER) + start_secs(size)
        four, eight = (found[size, workers] for workers in (4, 8))
        assert (four.bound_by, eight.bound_by) == (WORKER_CPU, WORKER_CPU)
        assert four.seconds - started == pytest.approx(4 * 600 / size.vcpu)
        assert eight.seconds - started == pytest.approx(2 * 600 / size.vcpu)


def test_the_price_is_that_of_the_scheduler_on_demand_and_of_the_workers() -> None:
    for one in options([LONG] * 2, FREE, PRICES, connections=4):
        hours, worker_hours = one.seconds / 3600, (one.seconds - start_secs(SCHEDULER)) / 3600
        scheduler = hours * (hourly_usd(SCHEDULER) + PRICES.usd_per_address_hour)
        worker, address = worker_hours * hourly_usd(one.size), worker_hours * PRICES.usd_per_address_hour
        assert one.usd_on_demand == pytest.approx(scheduler + one.workers * (worker + address))
        assert one.usd_spot == pytest.approx(scheduler + one.workers * (PRICES.spot_share * worker + address))


def test_a_task_is_charged_a_minute_at_least() -> None:
    assert min(start_secs(size) for size in SIZES) >= MIN_BILLED_SECS


def test_a_write_budget_makes_workers_useless() -> None:
    (one, two) = (
        option for option in options([CHUNK] * 2, AWS, PRICES, connections=4, max_wcu=5) if option.size == SIZES[0]
    )
    assert (one.bound_by, two.bound_by) == (BUDGET, BUDGET)
    assert two.seconds == pytest.approx(one.seconds, rel=0.05)
    assert recommend([CHUNK] * 2, AWS, FargateWish(), connections=4, max_wcu=5).option == one


def test_a_shorter_deadline_takes_more_processors() -> None:
    slow, fast = (
        recommend([LONG] * 64, AWS, FargateWish(PRICES, deadline), connections=4).option for deadline in (36_000, 1_200)
    )
    assert slow.workers * slow.size.vcpu < fast.workers * fast.size.vcpu
    assert fast.seconds <= 1_200


def test_a_deadline_that_nothing_meets_is_told_with_the_fastest() -> None:
    found = recommend([LONG], AWS, FargateWish(PRICES, 30.0), connections=4)
    assert found.option.size == SIZES[-1]
    document = found.to_json(0.5)
    assert (document["meets_deadline"], document["usd_wcu"], document["vcpu"]) == (False, 0.5, 1.0)


def test_a_store_of_nothing_needs_one_worker() -> None:
    assert recommend([], AWS, FargateWish(), connections=4).option.workers == 1


def test_the_rule_is_told() -> None:
    assert FargateWish().to_json()["rule"] == RULE
    assert FargateWish(PRICES, 60.0).to_json() == FargateWish().to_json() | {
        "rule": DEADLINE_RULE,
        "deadline_seconds": 60.0,
    }


def test_sizes_are_ones_that_fargate_has() -> None:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html."""
    allowed = {0.25: (512, 1024, 2048), 0.5: range(1024, 4097, 1024), 1.0: range(2048, 8193, 1024)}
    assert all(size.memory_mib in allowed[size.vcpu] for size in SIZES)
    # dask-cloudprovider rounds down to whole GB.
    assert all(size.memory_mib % 1024 == 0 for size in SIZES)
    assert list(COUNTS) == sorted(set(COUNTS))


def test_prices_are_the_environments() -> None:
    assert FargatePrices.from_environment({}) == FargatePrices()
    environ = {
        "HAZARD_STORE_FARGATE_USD_PER_VCPU_HOUR": "0.05",
        "HAZARD_STORE_FARGATE_USD_PER_GB_HOUR": "0.006",
        "HAZARD_STORE_FARGATE_SPOT_SHARE": "0.5",
        "HAZARD_STORE_FARGATE_USD_PER_ADDRESS_HOUR": "0",
    }
    assert FargatePrices.from_environment(environ) == FargatePrices(0.05, 0.006, 0.5, 0.0)


@pytest.mark.parametrize("text", ["dear", "-1", "nan", "inf"])
def test_a_price_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HAZARD_STORE_FARGATE_SPOT_SHARE must be a price"):
        FargatePrices.from_environment({"HAZARD_STORE_FARGATE_SPOT_SHARE": text})
