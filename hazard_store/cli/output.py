"""What the commands print: data to stdout, everything else to stderr, tables that fit where they go."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import orjson

from hazard_store.texts import one_line

# Inside the strings of a JSON document, the only place where they can stand, an escape says the same.
_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def note(text: str) -> None:
    """Tell the user something that is not data. A stderr that is gone must not end a store."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{one_line(text)}\n")
        sys.stderr.flush()


def error(text: str) -> None:
    """Say what is wrong, in the one line of the contract."""
    note(f"error: {text}")


def warn(text: str) -> None:
    """Say what the user should look at, though the command goes on."""
    note(f"warning: {text}")


def put(text: str = "") -> None:
    """Print a line of data."""
    sys.stdout.write(f"{text}\n")


def put_json(document: Any, *, indent: bool = True) -> None:
    """Print a JSON document; NaN becomes null, numpy's numbers become numbers."""
    options = orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if indent else 0)
    text = orjson.dumps(document, option=options).decode()
    put(_STEERING.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text))


def on_terminal(stream: Any = None) -> bool:
    """Whether a stream, by default stdout, is looked at by someone."""
    isatty = getattr(stream or sys.stdout, "isatty", None)
    return bool(isatty and isatty())


def put_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", numbers: str = "") -> None:
    """Print a table: with rich on a terminal, in plain columns elsewhere.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    numbers : str
        One letter a column, ``r`` for those that are aligned to the right; by default none.
    """
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    sides = numbers.ljust(len(columns), "l")
    if on_terminal():
        _put_rich_table(columns, cells, title, sides)
        return
    if title:
        put(title)
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    for line in [columns, *cells]:
        aligned = (c.rjust(w) if s == "r" else c.ljust(w) for c, w, s in zip(line, widths, sides, strict=True))
        put("  ".join(aligned).rstrip())


def _put_rich_table(columns: Sequence[str], cells: list[list[str]], title: str, sides: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # As Text: rich would take a site code such as [-41.500~175.250] for markup.
    if title:
        put(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, side in zip(columns, sides, strict=True):
        # Where a table is too wide, its last column is what may take several lines: a path, a list of branches.
        last = column is columns[-1]
        table.add_column(
            Text(column),
            justify="right" if side == "r" else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def put_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other."""
    pairs = list(fields)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        put(f"{name.ljust(width)}  {one_line(value)}".rstrip())
