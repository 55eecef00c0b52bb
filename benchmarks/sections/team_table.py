"""The team's own test in its columns: the flow `benchmark_layouts`, as an operator starts it, on DynamoDB Local."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.options import Options, table
from benchmarks.stores import local_store
from flows.artifacts import Row
from flows.layout_report import COLUMNS, PUBLISHED, Trial, trial_to_row
from hazard_store.prices import usd_per_million_wcu

NAME = "team_table"
TITLE = "The team's test"

# Sites of 16 curves; of `list`, DynamoDB Local takes some 150 curves a second.
SITES = {"list": 48, "packed": 1_000}
SHOWN = tuple(column for column in COLUMNS if column not in ("USD", "throttles"))


def measure(options: Options) -> dict[str, Any]:
    """Give the rows of all layouts and numbers of workers."""
    from flows.benchmark_layouts import benchmark_layouts

    path = options.calculation(max(SITES.values()))
    workers = sorted({1, options.workers, *([4] if options.full else [])})

    def rows_of(encoding: str) -> list[Row]:
        with local_store():
            trials: list[Trial] = benchmark_layouts(
                str(path),
                layouts=[f"{encoding}+solution", f"{encoding}+location"],
                workers=workers,
                max_usd=1.0,
                max_sites=SITES[encoding],
            )
        return [trial_to_row(trial, usd_per_million_wcu()) for trial in trials]

    rows = []
    for encoding in SITES:
        repeated = [rows_of(encoding) for _ in range(options.repeat)]
        rows += [_medians(same) for same in zip(*repeated, strict=True)]
    return {"rows": rows, "cores": os.cpu_count()}


def _medians(rows: Sequence[Row]) -> Row:
    """Give the median of each figure; the names are the same in all."""
    return {
        column: value if isinstance(value, str) else statistics.median(row[column] for row in rows)
        for column, value in rows[0].items()
    }


def to_markdown(result: dict[str, Any]) -> str:
    published = [(name, minutes, f"{rate:,}") for name, minutes, rate in PUBLISHED]
    return (
        "`meta`, `stats` and `realisations` in seconds from the first chunk's begin to the last one's end, on workers "
        f"that have started; `solution` has the id as hash key, `location` 0.5 degree bins. {result['cores']} cores "
        "for the workers and the database.\n\n"
        f"{table(SHOWN, [[row[column] for column in SHOWN] for row in result['rows']])}\n\n"
        "What the team published of its script, which writes `list` by `solution`, 11,500 sites, on AWS:\n\n"
        f"{table(('writers', 'minutes', 'WCU/s'), published)}"
    )
