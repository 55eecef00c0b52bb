"""What commands, runs and reports say in the same words: numbers of things, times, the command that mends a store."""

from __future__ import annotations

import shlex

from hazard_store.names import layout_words


def count(number: int, noun: str) -> str:
    """``1, 'chunk' -> '1 chunk'``; ``2,000 chunks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """``93.4 -> '1:33'``; hours where there are any."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rerun_command(haz_sol_id: str, layout: str, *, cluster: str = "local") -> str:
    """Write the command that stores what is failed or missing."""
    encoding, partition = layout_words(layout)
    flags = ["--encoding", encoding, "--partition", partition] if layout != "packed+solution" else []
    flags += ["--cluster", cluster] if cluster != "local" else []
    return shlex.join(["hazard-store", "rerun", haz_sol_id, *flags])
