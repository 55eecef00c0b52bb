"""``get`` and ``meta``: curves and what is known of them, back out of the store."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import click
import orjson

from hazard_store.cli.entry import CONTEXT_SETTINGS
from hazard_store.cli.inspecting import put_report
from hazard_store.cli.options import example, json_option, layout_options, pick_layout, place_options
from hazard_store.cli.output import note, on_terminal, put, put_json, put_table, warn

if TYPE_CHECKING:
    from hazard_store.layouts import Layout
    from hazard_store.meta import Meta
    from hazard_store.rows import CurveRow

CSV_COLUMNS = ("haz_sol_id", "site", "lat", "lon", "vs30", "agg", "rlz", "imt", "level", "poe")

# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_COORDINATES = re.compile(r"[+-]?[0-9.]+(~[+-]?[0-9.]+)?")

# A poe of six digits and the space beside it.
_COLUMN_WIDTH = 14
_PIPED_WIDTH = 200


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "hazard-store get NZ-2026-A --near -41.3,174.8 --imt PGA --agg mean",
        "hazard-store get NZ-2026-A --site WLG --csv > wlg.csv",
        "hazard-store get NZ-2026-A --rlz 0 --rlz 1 --json | jq -c .poes",
    ),
)
@click.argument("haz_sol_id", metavar="ID")
@place_options
@click.option("--agg", "aggs", multiple=True, metavar="AGG", help="A statistic: mean, std, 0.1 ...; repeatable.")
@click.option(
    "--rlz", "rlzs", multiple=True, type=click.IntRange(min=0), metavar="N", help="A realisation; repeatable."
)
@click.option("--table", "form", flag_value="table", help="Print tables for reading (default on a terminal).")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, one row a level (default elsewhere).")
@click.option("--json", "form", flag_value="json", help="Print JSON, one object a curve and line.")
@layout_options(chosen=False)
def get(
    haz_sol_id: str,
    sites: tuple[str, ...],
    near: tuple[float, float] | None,
    imts: tuple[str, ...],
    aggs: tuple[str, ...],
    rlzs: tuple[int, ...],
    form: str | None,
    encoding: str | None,
    partition: str | None,
) -> None:
    """Print hazard curves.

    Without --agg and --rlz these are all statistics and all realisations; with one of them, only those.
    """
    from hazard_store import query

    layout = pick_layout(encoding, partition)
    rows = query.iter_curves(
        haz_sol_id,
        sites=sites or None,
        near=near,
        imts=imts or None,
        aggs=aggs or None,
        rlzs=rlzs or None,
        layout=layout,
    )
    meta = stored_meta(haz_sol_id, layout)
    if meta is not None and not meta.complete:
        warn(f"{haz_sol_id} is not complete: `hazard-store status {haz_sol_id}` tells what is missing")
    first = next(rows, None)
    if first is None:
        note("no curves of that are stored")
        return
    rows = chain([first], rows)
    match form or ("table" if on_terminal() else "csv"):
        case "json":
            for row in rows:
                put_json(row.to_json_dict(), indent=False)
        case "csv":
            put_csv(rows)
        case _:
            put_curve_tables(rows, meta.document["investigation_time"] if meta else None)


def stored_meta(haz_sol_id: str, layout: Layout | None) -> Meta | None:
    """Read the meta; None where an old program stored the calculation, without one of ours."""
    from hazard_store import query
    from hazard_store.errors import NotStoredError, TableMissingError

    try:
        return query.read_meta(haz_sol_id, layout=layout)
    except (NotStoredError, TableMissingError):
        return None


def put_csv(rows: Iterable[CurveRow]) -> None:
    """Print one line a level; the numbers give the stored float32 and float64 back."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        vs30 = "" if row.vs30 != row.vs30 else row.vs30
        site, agg, imt = (as_cell(text) for text in (row.site, row.agg or "", row.imt))
        head = (row.haz_sol_id, site, row.lat, row.lon, vs30, agg, "" if row.rlz is None else row.rlz)
        writer.writerows((*head, imt, *pair) for pair in zip(texts(row.levels), texts(row.poes), strict=True))


def as_cell(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula; numbers and coordinates are none.

    >>> as_cell("=1+1"), as_cell("-41.300~174.800"), as_cell("WLG")
    ("'=1+1", '-41.300~174.800', 'WLG')
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _COORDINATES.fullmatch(text) else text


def texts(numbers: Any) -> list[str]:
    """Write an array's numbers with the fewest digits that give them back in the array's own precision."""
    return orjson.dumps(numbers.copy(), option=orjson.OPT_SERIALIZE_NUMPY).decode().strip("[]").split(",")


def put_curve_tables(rows: Iterable[CurveRow], investigation_time: float | None) -> None:
    """Print a table a site and IMT: levels down, statistics and realisations across."""
    for _, of_site in groupby(rows, key=lambda row: row.site):
        by_imt: dict[str, list[CurveRow]] = {}
        for row in of_site:
            by_imt.setdefault(row.imt, []).append(row)
        for imt, curves in by_imt.items():
            for some in _fitting(curves):
                put_table(
                    ("level", *(row.agg if row.agg is not None else f"rlz {row.rlz}" for row in some)),
                    ([f"{level:g}", *(f"{row.poes[i]:.6g}" for row in some)] for i, level in enumerate(some[0].levels)),
                    title=_title(some[0], imt, investigation_time),
                    numbers="r" * (len(some) + 1),
                )
                put()


def _fitting(curves: list[CurveRow]) -> Iterator[list[CurveRow]]:
    width = shutil.get_terminal_size().columns if on_terminal() else _PIPED_WIDTH
    step = max(1, width // _COLUMN_WIDTH - 1)
    return (curves[start : start + step] for start in range(0, len(curves), step))


def _title(row: CurveRow, imt: str, investigation_time: float | None) -> str:
    vs30 = "" if row.vs30 != row.vs30 else f", vs30 {row.vs30:g} m/s"
    time = "" if investigation_time is None else f" in {investigation_time:g} years"
    return f"{row.haz_sol_id} {row.site} (lat {row.lat:.3f}, lon {row.lon:.3f}{vs30}): {imt}, poe{time}"


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example("hazard-store meta NZ-2026-A", "hazard-store meta NZ-2026-A --json | jq .imtls"),
)
@click.argument("haz_sol_id", metavar="ID")
@layout_options(chosen=False)
@json_option
def meta(haz_sol_id: str, encoding: str | None, partition: str | None, as_json: bool) -> None:
    """Print what is known of a stored calculation.

    That is: sites, IMTs and levels, statistics, realisations, and whether it is complete.
    """
    from hazard_store import query

    stored = query.read_meta(haz_sol_id, layout=pick_layout(encoding, partition))
    document = stored.describe()
    if as_json:
        put_json(document)
        return
    put_report(
        [("id", stored.haz_sol_id), ("layout", stored.layout.name)],
        document,
        [
            ("stored", ", ".join(stored.parts)),
            ("complete", "yes" if stored.complete else "no"),
            *(("warning", text) for text in document["warnings"]),
        ],
    )
