"""What came of the scenarios: one row each, as a table and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hazard_store.verification import VerifyReport

COLUMNS = ("runs", "faults", "kills", "checked", "lost", "wrong", "duplicated")


@dataclass
class Row:
    """What one scenario did, and what an audit found after it.

    Attributes
    ----------
    runs : int
        Stores that were started.
    faults, kills : int
        Requests that met an injected fault; processes killed and servers restarted.
    checked : int
        Items compared with the file, to the bit.
    lost, wrong : int
        Items that the file has and the store has not, although the run said so; values that are not the file's.
    duplicated : int
        Items that the file does not have, and done chunks that were stored again.
    endings : Counter
        How the runs ended.
    problems : list of str
        What else was not as promised.
    """

    scenario: str
    runs: int = 0
    faults: int = 0
    kills: int = 0
    checked: int = 0
    lost: int = 0
    wrong: int = 0
    duplicated: int = 0
    seconds: float = 0.0
    endings: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    def audit(self, report: VerifyReport) -> None:
        """Take a comparison with the file into account."""
        self.checked += report.checked_items
        self.lost += report.missing
        self.wrong += report.different + report.meta_differences
        self.duplicated += report.extra
        if not (report.ok and report.complete):
            self.problems.append(report.summary)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a promise that was not kept."""
        if not holds:
            self.problems.append(otherwise)

    @property
    def ok(self) -> bool:
        return not (self.lost or self.wrong or self.duplicated or self.problems)

    @property
    def ending(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        return ", ".join(f"{count} {name}" for name, count in sorted(self.endings.items()))


def line(row: Row) -> str:
    """Give one row as it ends, with its problems below."""
    head = f"{'ok ' if row.ok else 'BAD'} {row.seconds:6.1f} s  {row.scenario}: {row.ending}"
    return "\n      ".join([head, *row.problems])


def total_of(rows: Sequence[Row]) -> Row:
    total = Row("total")
    for row in rows:
        for name in (*COLUMNS, "seconds"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
        total.endings += row.endings
        total.problems += row.problems
    return total


def table(rows: Sequence[Row]) -> str:
    """Give the rows as Markdown."""
    lines = ["| scenario | " + " | ".join(COLUMNS) + " | s | runs ended |", "| --- " * (len(COLUMNS) + 3) + "|"]
    for row in [*rows, total_of(rows)]:
        figures = " | ".join(f"{getattr(row, name):,}" for name in COLUMNS)
        lines.append(f"| {row.scenario} | {figures} | {row.seconds:.0f} | {row.ending} |")
    return "\n".join(lines)


def write(rows: Sequence[Row], seed: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # asdict would rebuild a Counter from its pairs, and count those.
    *listed, total = (asdict(row) | {"endings": dict(row.endings)} for row in (*rows, total_of(rows)))
    document = {"seed": seed, "rows": listed, "total": total}
    path.write_text(json.dumps(document, indent=1) + "\n")
