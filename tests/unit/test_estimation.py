"""Estimates of what a store takes: sizes by DynamoDB's rules, the sample, and how chunks share what there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.limited_dynamodb import sizes
from benchmarks.synthetic import write_calculation
from hazard_store import sampling
from hazard_store.estimation import estimate, target_of
from hazard_store.item_sizes import body_size, number_size, write_units
from hazard_store.layouts import LAYOUTS
from hazard_store.oq import open_calculation
from hazard_store.pacing import AWS, BUDGET, LATENCY, LOCAL, MACHINE_CPU, PARTITION, START_UP, WORKER_CPU, Work, pace
from hazard_store.sampling import sample
from hazard_store.settings import Settings

FREE = replace(AWS, partition_wcu=None, table_wcu=None, request_latency_secs=0.0)
CHUNK = Work("stats", wcu=1_000, requests=40, worker_cpu_secs=2.0, database_cpu_secs=0.0, largest_key_wcu=1_000)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 sites x 12 realisations and 4 statistics, of a size at which a `packed` item is about a KB."""
    path = tmp_path_factory.mktemp("synthetic") / "calc_1.hdf5"
    write_calculation(path, 60, n_imts=13, n_levels=30)
    return path


@given(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(10**37), 10**37))
def test_a_number_counts_as_the_proxy_counts_it(number: float) -> None:
    assert number_size(repr(number)) == sizes.number_size(repr(number))


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_item_counts_as_the_proxy_counts_it(name: str, data_dir: Path) -> None:
    layout = LAYOUTS[name]
    with open_calculation(data_dir / "bare_coordinates.hdf5") as calculation:
        blocks, _ = sample(calculation, "A", "realisations", 12, 1_000)
    (block,) = blocks
    items = list(layout.encoding.encode(block, layout.partition))
    assert len(items) == 12 * 16
    for item in items:
        assert body_size(item.body) == sizes.item_size(orjson.loads(item.body)["PutRequest"]["Item"])


@pytest.mark.parametrize(("size", "units"), [(1, 1), (1_024, 1), (1_025, 2), (3_200, 4)])
def test_a_write_unit_is_a_kb_begun(size: int, units: int) -> None:
    assert write_units(size) == units


def test_a_sample_comes_from_everywhere_and_is_the_same_each_time(smooth: Path) -> None:
    with open_calculation(smooth) as calculation:
        (first,), _ = sample(calculation, "A", "realisations", 60, 120)
        (again,), _ = sample(calculation, "A", "realisations", 60, 120)
        places = sorted(calculation.sites.codes.index(code) for code in first.codes)
    assert np.array_equal(first.poes, again.poes)
    assert first.codes == again.codes
    # 10 sites with all 12 realisations, one of each six.
    assert [place // 6 for place in places] == list(range(10))


def test_a_sample_takes_some_realisations_of_a_site_where_there_are_many(
    smooth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MAX_KINDS_OF_A_SITE", 5)
    with open_calculation(smooth) as calculation:
        (block,), _ = sample(calculation, "A", "realisations", 60, 100)
        curves = calculation.read("realisations", 0, 60)
        site = calculation.sites.codes.index(block.codes[0])
    assert block.poes.shape[:2] == (20, 5)
    starts = [first for first in range(8) if np.array_equal(curves[site, first : first + 5], block.poes[0])]
    assert len(starts) == 1


def test_a_sample_tells_the_write_units_of_all(smooth: Path) -> None:
    with open_calculation(smooth) as calculation:
        whole = estimate(calculation, "A", target=LOCAL)
        part = estimate(calculation, "A", target=LOCAL, max_sampled_items=120)
    assert (whole.sampled_items, part.sampled_items) == (60 * 16, 2 * 120)
    for name in LAYOUTS:
        assert part.layouts[name].wcu_all == pytest.approx(whole.layouts[name].wcu_all, rel=0.05)


def test_an_estimate_knows_the_plan(smooth: Path) -> None:
    with open_calculation(smooth) as calculation:
        document = estimate(calculation, "A", target=LOCAL, workers=3, usd_per_million_wcu=2.0).to_json()
        few = estimate(calculation, "A", target=LOCAL, max_sites=10, layouts=["list+solution"])
    assert document["chunks"] == {"stats": 1, "realisations": 1}
    assert document["items"] == {"stats": 240, "realisations": 720, "all": 960}
    assert list(document["layouts"]) == list(LAYOUTS)
    assert (document["workers"], document["usd_per_million_wcu"]) == (3, 2.0)
    for one in document["layouts"].values():
        assert one["wcu"]["all"] == one["wcu"]["stats"] + one["wcu"]["realisations"]
        assert one["usd"] == pytest.approx(one["wcu"]["all"] * 2e-6)
        assert one["wcu_per_item"] == pytest.approx(one["wcu"]["all"] / 960)
        assert one["seconds"] >= document["startup_seconds"]
    assert (list(few.layouts), few.items) == (["list+solution"], {"stats": 40, "realisations": 120})


def test_the_budget_decides_where_it_is_the_least(smooth: Path) -> None:
    with open_calculation(smooth) as calculation:
        found = estimate(calculation, "A", target=AWS, workers=1, max_wcu=20, layouts=["packed+solution"], startup=0)
    (one,) = found.layouts.values()
    assert one.bound_by == BUDGET
    assert one.seconds == pytest.approx(one.wcu_all / 20, rel=0.1)


def test_the_target_is_the_endpoints() -> None:
    assert target_of(Settings()) is AWS
    assert target_of(Settings(endpoint="https://dynamodb.us-east-1.amazonaws.com")) is AWS
    assert target_of(Settings(endpoint="http://127.0.0.1:8000")) is LOCAL


@pytest.mark.parametrize(
    ("works", "changes", "options", "seconds", "bound_by"),
    [
        ([], {}, {}, 0.0, START_UP),
        # Four chunks of two seconds on two workers; on two workers and one core; three chunks leave one worker idle.
        ([CHUNK] * 4, {}, {}, 4.0, WORKER_CPU),
        ([CHUNK] * 4, {}, {"cores": 1}, 8.0, WORKER_CPU),
        ([CHUNK] * 3, {}, {}, 4.0, WORKER_CPU),
        ([CHUNK] * 4, {"request_latency_secs": 0.4}, {}, 8.0, LATENCY),
        ([CHUNK] * 4, {}, {"max_wcu": 500.0}, 8.0, BUDGET),
        # Dask gives the second and the third chunk to the second worker, as the first one has the meta; of more than
        # two chunks a worker, each goes to whoever is free first.
        ([replace(CHUNK, worker_cpu_secs=1), CHUNK, CHUNK], {}, {}, 4.0, WORKER_CPU),
        ([replace(CHUNK, worker_cpu_secs=4), *[CHUNK] * 4], {}, {}, 6.0, WORKER_CPU),
        # One hash key's partition, which both workers write to; two tables have one each.
        ([CHUNK] * 4, {"partition_wcu": 200.0}, {}, 20.0, PARTITION),
        ([CHUNK, replace(CHUNK, part="realisations")], {"partition_wcu": 200.0}, {}, 5.0, PARTITION),
        # Bins: each chunk has its own.
        ([replace(CHUNK, largest_key_wcu=500)] * 4, {"partition_wcu": 100.0}, {}, 10.0, PARTITION),
        ([replace(CHUNK, database_cpu_secs=3.0)] * 4, {"item_cpu_secs": 1e-3}, {}, 10.0, MACHINE_CPU),
        ([replace(CHUNK, overhead_secs=0.5)] * 4, {}, {}, 5.0, WORKER_CPU),
        # Two at once share a worker's processor and connections, and the write budget; what a task takes besides its
        # curves goes on beside them.
        ([CHUNK] * 4, {}, {"chunks_a_worker": 2}, 4.0, WORKER_CPU),
        ([CHUNK] * 4, {"request_latency_secs": 0.4}, {"chunks_a_worker": 2}, 8.0, LATENCY),
        ([CHUNK] * 4, {"partition_wcu": 200.0}, {"chunks_a_worker": 2}, 20.0, PARTITION),
        ([CHUNK] * 3, {}, {"chunks_a_worker": 2, "max_wcu": 500.0}, 6.0, BUDGET),
        ([replace(CHUNK, overhead_secs=2)] * 4, {}, {"chunks_a_worker": 2}, 4.0, WORKER_CPU),
    ],
)
def test_chunks_share_what_there_is(
    works: list[Work],
    changes: dict[str, float],
    options: dict[str, float],
    seconds: float,
    bound_by: str,
) -> None:
    found = pace(works, replace(FREE, **changes), **{"workers": 2, "cores": 2, "connections": 4} | options)
    assert found.seconds == pytest.approx(seconds)
    assert found.bound_by == bound_by
