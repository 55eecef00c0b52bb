"""What the sections of `make bench` are told."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.synthetic import write_calculation


@dataclass(frozen=True)
class Options:
    """How large and how often.

    Parameters
    ----------
    repeat : int
        Medians of so many.
    workers : int
    full : bool
        With what takes an hour: see the sections.
    scratch : Path
        For calculations; those that are there are used again.
    """

    repeat: int
    workers: int
    full: bool
    scratch: Path

    def calculation(self, n_sites: int, **shape: Any) -> Path:
        """Give a synthetic calculation of 27 IMTs x 44 levels, or of another shape; see ``write_calculation``."""
        name = "_".join(str(value) for value in (n_sites, *shape.values()))
        path = self.scratch / f"calc_{name}.hdf5"
        if not path.exists():
            write_calculation(path, n_sites, **shape)
        return path

    def medians(self, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Measure `repeat` times and give the median of each figure."""
        return medians([measure() for _ in range(self.repeat)])


def medians(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Give the median of each figure that all have."""
    return {name: statistics.median(one[name] for one in measured) for name in measured[0]}


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table; None is an empty cell."""
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,.10g}" if isinstance(value, int | float) else str(value)
