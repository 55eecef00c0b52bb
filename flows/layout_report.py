"""What a benchmark of layouts leaves in the Prefect UI: plain functions of its trials' reports, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.artifacts import Row, as_code, as_text, cost_usd, table_rows
from hazard_store.jobs import StoreReport
from hazard_store.names import PARTS, Part, layout_words
from hazard_store.wording import count

TABLE_KEY = "layouts"
REPORT_KEY = "layouts-report"

COLUMNS = (
    "partition",
    "encoding",
    "workers",
    "meta s",
    "stats s",
    "realisations s",
    "items",
    "items/s",
    "WCU",
    "WCU/s",
    "USD",
    "throttles",
)

# What the team measured with its own script, whose tables are `list` by `solution`: 11,500 sites, whole; writers,
# minutes, write units a second (DESIGN.md, The problem).
PUBLISHED = (
    ("one process", 86, 384),
    ("four processes", 26, 980),
    ("four side by side, until one died", None, 1_400),
)


@dataclass(frozen=True)
class Trial:
    """One store of the benchmark.

    Parameters
    ----------
    wall_secs : mapping of part to float
        From the begin of a part's first chunk to the end of its last.
    """

    layout: str
    workers: int
    report: StoreReport
    wall_secs: Mapping[Part, float]


def trial_to_row(trial: Trial, usd_per_million_wcu: float) -> Row:
    """Give a trial's row of the table, in the team's columns."""
    encoding, partition = layout_words(trial.layout)
    by_part = {row["part"]: row for row in table_rows(trial.report, trial.wall_secs)}
    whole = by_part["all"]
    return {
        "partition": partition,
        "encoding": encoding,
        "workers": trial.workers,
        **{f"{part} s": by_part[part]["seconds"] if part in by_part else None for part in PARTS},
        "items": whole["items"],
        "items/s": whole["items/s"],
        "WCU": whole["WCU"],
        "WCU/s": whole["WCU/s"],
        "USD": round(cost_usd(whole["WCU"], usd_per_million_wcu), 6),
        "throttles": whole["throttles"],
    }


def verdict(rows: Sequence[Row]) -> str:
    """Say in words which layout was fastest and which cheapest; the first of equals."""
    measured = [row for row in rows if row["items"]]
    if not measured:
        return "Nothing was stored, so no layout can be named."
    fastest = max(measured, key=lambda row: row["items/s"])
    cheapest = min(measured, key=lambda row: row["WCU"] / row["items"])
    same = [row for row in measured if row["WCU"] / row["items"] == cheapest["WCU"] / cheapest["items"]]
    names = " and ".join(dict.fromkeys(_name(row) for row in same))
    return (
        f"Fastest: {_name(fastest)} with {count(fastest['workers'], 'worker')}, {fastest['items/s']:,.0f} items/s. "
        f"Cheapest: {names}, {cheapest['WCU'] / cheapest['items']:.2f} WCU an item."
    )


def report_to_markdown(
    source: str, n_sites: int, of_sites: int, rows: Sequence[Row], usd_per_million_wcu: float, problems: Sequence[str]
) -> str:
    """Write the report: what went wrong, the verdict, the measured rows, and the team's published figures."""
    lines = [
        f"# {as_code(source)}: {n_sites:,} of {count(of_sites, 'site')}",
        *(f"**{as_text(problem)}**" for problem in problems),
        f"**{verdict(rows)}**",
        _table(COLUMNS, [[_cell(row[name]) for name in COLUMNS] for row in rows]),
        "`/s` is over the wall time of the whole trial, on workers that had started; seconds of a part are from the "
        f"begin of its first chunk to the end of its last, and parts overlap. {usd_per_million_wcu:g} USD a million "
        "write units, those of the curves.",
        "What the team published of its own script, which writes `list` by `solution`, 11,500 sites:",
        _table(
            ("writers", "minutes", "WCU/s", "USD"),
            [
                [name, _cell(minutes), f"{rate:,}", _usd_of_published(minutes, rate, usd_per_million_wcu)]
                for name, minutes, rate in PUBLISHED
            ],
        ),
    ]
    return "\n\n".join(lines)


def _usd_of_published(minutes: int | None, wcu_per_sec: int, usd_per_million_wcu: float) -> str:
    return "" if minutes is None else f"{cost_usd(60.0 * minutes * wcu_per_sec, usd_per_million_wcu):,.2f}"


def _name(row: Row) -> str:
    return f"{row['encoding']}+{row['partition']}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,.10g}" if isinstance(value, int | float) else str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
