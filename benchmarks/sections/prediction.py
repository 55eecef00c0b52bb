"""What `plan` says, without knowing the run, against what happened: write units, price and seconds."""

from __future__ import annotations

from typing import Any

from benchmarks import flow_runs
from benchmarks.flow_runs import LOCAL_SITES, FlowRun
from benchmarks.options import Options, medians, table
from benchmarks.stores import local_store
from flows.artifacts import cost_usd
from hazard_store.estimation import estimate
from hazard_store.oq import open_calculation
from hazard_store.pacing import LOCAL
from hazard_store.prices import usd_per_million_wcu

NAME = "prediction"
TITLE = "What `plan` says before"

MAX_WCU, LIMITED_SITES = 1_500.0, 900


def measure(options: Options) -> dict[str, Any]:
    """Give estimates and what became of them."""
    rows = []
    for encoding in ("packed", "list"):
        runs = [flow_runs.on_local_store(options, encoding, number) for number in range(options.repeat)]
        compared = [_compare(run, options, LOCAL_SITES[encoding], encoding) for run in runs]
        rows.append({"case": f"`{encoding}`, DynamoDB Local", **medians(compared)})
    limited = options.medians(lambda: _limited(options))
    return {"rows": [*rows, {"case": f"`packed`, --max-wcu {MAX_WCU:g}", **limited}]}


def _limited(options: Options) -> dict[str, float]:
    with local_store():
        run = flow_runs.store(options.calculation(LIMITED_SITES), options.workers, max_wcu=MAX_WCU)
    return _compare(run, options, LIMITED_SITES, "packed", MAX_WCU)


def _compare(
    run: FlowRun, options: Options, n_sites: int, encoding: str, max_wcu: float | None = None
) -> dict[str, float]:
    layout, price = f"{encoding}+solution", usd_per_million_wcu()
    with open_calculation(options.calculation(n_sites)) as calculation:
        planned = estimate(
            calculation,
            "BENCH",
            target=LOCAL,
            workers=options.workers,
            max_wcu=max_wcu,
            layouts=[layout],
            usd_per_million_wcu=price,
        ).layouts[layout]
    wcu = run.report.totals().wcu
    return {
        "items": run.items,
        "planned_wcu": round(planned.wcu_all),
        "wcu": round(wcu),
        "planned_usd": planned.usd,
        "usd": cost_usd(wcu, price),
        "planned_secs": round(planned.seconds, 1),
        "secs": round(run.seconds, 1),
        "secs_off": planned.seconds / run.seconds - 1.0,
    }


def to_markdown(result: dict[str, Any]) -> str:
    rows = [
        (
            row["case"],
            row["items"],
            row["planned_wcu"],
            row["wcu"],
            f"{row['planned_wcu'] / row['wcu'] - 1:+.1%}",
            round(row["planned_usd"], 4),
            round(row["usd"], 4),
            row["planned_secs"],
            row["secs"],
            f"{row['secs_off']:+.0%}",
        )
        for row in result["rows"]
    ]
    return table(
        ("store", "items", "WCU planned", "WCU", "", "USD planned", "USD", "seconds planned", "seconds", ""), rows
    )
