"""What `plan` says before, against what then happens: write units and seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks import flow_runs
from benchmarks.options import Options, medians, table
from benchmarks.stores import local_store
from hazard_store.estimation import estimate, target_of
from hazard_store.oq import open_calculation

NAME = "prediction"
TITLE = "What `plan` says before"


@dataclass(frozen=True)
class Case:
    """A store that is planned, and done."""

    name: str
    n_sites: int
    encoding: str = "packed"
    max_wcu: float | None = None


CASES = (
    Case("`packed`, DynamoDB Local", 3_000),
    Case("`list`, DynamoDB Local", 150, encoding="list"),
    Case("`packed`, --max-wcu 1500", 1_200, max_wcu=1_500.0),
)


def measure(options: Options) -> dict[str, Any]:
    """Give estimates and what became of them."""
    return {
        "rows": [{"case": case.name, **medians([_one(case, options) for _ in range(options.repeat)])} for case in CASES]
    }


def _one(case: Case, options: Options) -> dict[str, float]:
    """Plan a store, and do it."""
    path, layout = options.calculation(case.n_sites), f"{case.encoding}+solution"
    with local_store() as settings:
        with open_calculation(path) as calculation:
            found = estimate(
                calculation,
                "BENCH",
                target=target_of(settings),
                workers=options.workers,
                max_wcu=case.max_wcu,
                layouts=[layout],
            ).layouts[layout]
        run = flow_runs.store(path, options.workers, encoding=case.encoding, max_wcu=case.max_wcu)
    return {
        "items": run.items,
        "planned_wcu": round(found.wcu_all),
        "wcu": round(run.report.totals().wcu),
        "planned_secs": round(found.seconds, 1),
        "secs": round(run.seconds, 1),
        "secs_off": found.seconds / run.seconds - 1.0,
    }


def to_markdown(result: dict[str, Any]) -> str:
    rows = [
        (
            row["case"],
            row["items"],
            row["planned_wcu"],
            row["wcu"],
            f"{row['planned_wcu'] / row['wcu'] - 1:+.1%}",
            row["planned_secs"],
            row["secs"],
            f"{row['secs_off']:+.0%}",
        )
        for row in result["rows"]
    ]
    return table(("store", "items", "WCU planned", "WCU", "", "seconds planned", "seconds", ""), rows)
