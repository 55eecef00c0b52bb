"""The texts and tables of a run's artifacts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.artifacts import (
    Row,
    as_code,
    as_text,
    earlier_run,
    failed_chunks_markdown,
    rerun_parameters,
    slug,
    summary_markdown,
    table_rows,
)
from hazard_store.errors import UsageError
from hazard_store.jobs import ChunkOutcome, StoreReport
from hazard_store.names import ChunkId, HazSolId, Part
from hazard_store.prices import usd_per_million_wcu
from hazard_store.storage.metrics import Metrics

IDS = st.text("abAB01-_./=", min_size=1, max_size=12)


def written(items: int, seconds: float) -> Metrics:
    metrics = Metrics(
        items=items,
        item_bytes=1000 * items,
        wcu=2.0 * items,
        reading_secs=0.5,
        encoding_secs=0.25,
        writing_secs=3.0,
        seconds=seconds,
        requests=items // 25,
        retries=3,
        throttles=1,
    )
    metrics.observe_latency(0.01)
    return metrics


def outcome(part: Part, first: int, items: int = 100, error: str | None = None) -> ChunkOutcome:
    metrics = Metrics() if error else written(items, 4.0)
    return ChunkOutcome(ChunkId(f"{part}:{first:05d}-{first + 10:05d}"), part, metrics, error)


def report(*outcomes: ChunkOutcome, seconds: float = 10.0, **changes: Any) -> StoreReport:
    values: dict[str, Any] = {
        "haz_sol_id": HazSolId("NZ_1"),
        "layout": "packed+solution",
        "run_id": "r",
        "complete": not any(o.error for o in outcomes),
        "chunks": len(outcomes),
        "skipped": 0,
    }
    return StoreReport(outcomes=outcomes, seconds=seconds, **(values | changes))


@given(IDS, IDS)
def test_two_ids_never_share_a_slug(one: str, other: str) -> None:
    assert re.fullmatch("[a-z0-9-]+", slug(one))
    assert (slug(one) == slug(other)) == (one == other)
    # An id that was made to look like another's slug gets a slug of its own.
    assert (slug(slug(one)) == slug(one)) == (slug(one) == one)


def test_a_plain_id_stays_and_a_long_one_is_cut() -> None:
    assert slug("nz-2026-a") == "nz-2026-a"
    assert slug("NZ-2026-A").startswith("nz-2026-a-")
    assert len(slug("x" * 200)) < 80
    assert slug("x" * 199) != slug("x" * 200)
    assert re.fullmatch("[0-9a-f]{10}", slug("=="))


def test_a_text_says_nothing_to_markdown() -> None:
    nasty = "a|b `c` <img src=x>\n# d [e](http://f)\x1b"
    text = as_text(nasty)
    assert "\n" not in text
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)[|`<>#\[\]]", text)
    assert len(as_text("x" * 10_000)) == 500
    assert as_code("a`|b\nc") == "`a'/b c`"


def test_the_table_has_a_row_a_part_and_one_for_all() -> None:
    run = report(
        ChunkOutcome(ChunkId("meta"), "meta", Metrics(items=1, seconds=1.0)),
        outcome("realisations", 0),
        outcome("realisations", 10),
        outcome("realisations", 20, error="gone"),
    )
    meta, realisations, whole = table_rows(run, {"meta": 1.0, "realisations": 5.0})
    assert (meta["part"], meta["chunks"], meta["items"]) == ("meta", 1, 1)
    assert realisations == {
        "calculation": "NZ_1",
        "part": "realisations",
        "chunks": 3,
        "failed": 1,
        "items": 200,
        "MB": 0.2,
        "WCU": 400.0,
        "seconds": 5.0,
        "reading s": 1.0,
        "encoding s": 0.5,
        "writing s": 6.0,
        "items/s": 40.0,
        "items/s a worker": 25.0,
        "WCU/s": 80.0,
        "WCU/s a worker": 50.0,
        "requests": 8,
        "retries": 6,
        "throttles": 2,
        "S3 MB": 0.0,
        "p50 ms": pytest.approx(10, rel=0.2),
        "p95 ms": pytest.approx(10, rel=0.2),
    }
    assert (whole["part"], whole["items"], whole["seconds"], whole["items/s"]) == ("all", 200, 10.0, 20.0)
    json.dumps([meta, realisations, whole])


def test_a_run_that_had_nothing_to_do_has_a_table_of_zeros() -> None:
    (whole,) = table_rows(report(seconds=0.0), {})
    assert (whole["part"], whole["items"], whole["items/s"], whole["p95 ms"]) == ("all", 0, 0.0, 0.0)
    assert "No earlier run" in summary_markdown(report(seconds=0.0), [whole], [], 0.625)


def earlier(name: str, items_per_sec: float = 20.0, items: float = 100.0) -> Row:
    rows = table_rows(report(outcome("stats", 0), haz_sol_id=HazSolId(name)), {})
    found = earlier_run(json.dumps(rows), "2026-11-01 00:00")
    assert found is not None
    return found | {"items/s": items_per_sec, "items": items}


def test_the_summary_has_the_cost_and_the_last_five_runs_that_stored_something() -> None:
    run = report(outcome("stats", 0), warnings=("<b>odd</b>",), skipped=3, chunks=4)
    before = [earlier("idle", items=0.0), *(earlier(f"e{n}") for n in range(7))]
    text = summary_markdown(run, table_rows(run, {}), before, 0.625)
    assert "# `NZ_1` (packed+solution): complete" in text
    assert "**100 items** and 200 WCU in 10.0 s: **10 items/s**, 20 WCU/s" in text
    assert "Cost: **0.0001 USD** at 0.625 USD a million write units." in text
    assert "3 chunks of 4 stored before." in text
    assert "<b>" not in text
    assert re.findall(r"\| `(\w+)` \|", text) == ["NZ_1", "e0", "e1", "e2", "e3", "e4"]
    assert "Slower than usual" not in text


def test_a_slow_night_shows() -> None:
    run = report(outcome("stats", 0))
    text = summary_markdown(run, table_rows(run, {}), [earlier("a", 30.0), earlier("b", 900.0), earlier("c", 25.0)], 1)
    assert "**Slower than usual**: 10 items/s, the median before 30." in text


@pytest.mark.parametrize("data", [None, "", "{", 3.5, "[]", "[1]", '[{"part": "all"}]', {"part": "all"}, '[{"a": 1}]'])
def test_a_table_that_is_not_ours_is_passed_over(data: object) -> None:
    assert earlier_run(data, "2026-11-01") is None


def test_the_failed_chunks_can_be_copied_into_a_rerun() -> None:
    run = report(
        outcome("stats", 0),
        outcome("realisations", 0, error="no | way\n```json"),
        outcome("realisations", 10, error="x" * 9000),
        layout="list+location",
    )
    expected = {
        "haz_sol_id": "NZ_1",
        "encoding": "list",
        "partition": "location",
        "chunks": ["realisations:00000-00010", "realisations:00010-00020"],
    }
    assert rerun_parameters(run) == expected
    text = failed_chunks_markdown(run, "http://ui/v2/form?parameters=%7B%7D")
    fence = re.search(r"^```json\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)
    assert fence is not None
    assert json.loads(fence[1]) == expected
    assert "# `NZ_1` (list+location): 2 of 3 chunks failed" in text
    assert (
        "hazard-store rerun NZ_1 --encoding list --partition location "
        "--chunk realisations:00000-00010 --chunk realisations:00010-00020\n" in text
    )
    rows = [line for line in text.splitlines() if line.startswith("| `realisations:")]
    assert len(rows) == 2
    assert r"no \| way" in rows[0]
    assert len(rows[1]) < 600


def test_the_price_of_a_write_unit() -> None:
    assert usd_per_million_wcu({}) == 0.625
    assert usd_per_million_wcu({"HAZARD_STORE_USD_PER_MILLION_WCU": "0.7"}) == 0.7
    for wrong in ("cheap", "-1", "inf", "nan"):
        with pytest.raises(UsageError, match="must be a price"):
            usd_per_million_wcu({"HAZARD_STORE_USD_PER_MILLION_WCU": wrong})
