"""``inspect``: what is in a calculation, and whether it can be stored."""

from __future__ import annotations

from typing import Any

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_USAGE
from hazard_store.cli.options import example, json_option, source_options
from hazard_store.cli.output import error, put, put_fields, put_json, put_table
from hazard_store.wording import count

# Enough to see what kind of sites and branches there are; --json has all of them.
MAX_ROWS = 10


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example("hazard-store inspect calc_12.hdf5", "hazard-store inspect calc_12.zip --json | jq .imtls"),
)
@click.argument("source")
@source_options
@json_option
@click.pass_context
def inspect(
    context: click.Context, source: str, parent: str | None, sites: Any, trust_imt_order: bool, as_json: bool
) -> None:
    """Say what is in a calculation, and if it can be stored.

    No database is touched.

    SOURCE is a datastore (calc_N.hdf5), a zip archive that holds one, s3://BUCKET/KEY of either, or the number of a
    calculation of this machine's engine. An OpenQuake file that cannot be stored is described all the same; then the
    exit code is 2.
    """
    from hazard_store.oq.trial import open_tried

    with open_tried(source, parent=parent, sites=sites, trust_imt_order=trust_imt_order, strict=False) as calculation:
        document = calculation.describe()
        refusals, warnings, path = calculation.refusals, calculation.warnings, calculation.source
    if as_json:
        put_json(document)
    else:
        storable = f"no: {'; '.join(refusals)}" if refusals else "yes"
        put_report(
            [("calculation", path)], document, [("storable", storable), *(("warning", text) for text in warnings)]
        )
    if refusals:
        error(f"{path}: {'; '.join(refusals)}")
        context.exit(EXIT_USAGE)


def put_report(head: list[tuple[str, str]], document: dict[str, Any], tail: list[tuple[str, str]]) -> None:
    """Print a description of a calculation for reading: its fields between `head` and `tail`, then short tables."""
    sites, imtls, realisations = document["sites"], document["imtls"], document["realisations"]
    time = document["investigation_time"]
    levels = {len(values) for values in imtls.values()}
    put_fields(
        [
            *head,
            ("engine", document["engine_version"] or "unknown"),
            ("mode", document["calculation_mode"] or "unknown"),
            ("investigation time", "unknown" if time is None else f"{time:g} years"),
            ("sites", f"{len(sites):,}, vs30 {_range([site['vs30'] for site in sites], 'm/s')}"),
            ("IMTs", f"{len(imtls)}, {' or '.join(f'{n}' for n in sorted(levels)) or 'no'} levels each"),
            ("statistics", f"{', '.join(document['stats']) or 'none'}{_shape(document['curves']['stats'])}"),
            ("realisations", f"{len(realisations):,}{_shape(document['curves']['realisations'])}"),
            *tail,
        ]
    )
    if imtls:
        put()
        rows = ((imt, str(len(v)), *((f"{v[0]:g}", f"{v[-1]:g}") if v else ("", ""))) for imt, v in imtls.items())
        put_table(("IMT", "levels", "first", "last"), rows, numbers="lrrr")
    if sites:
        put()
        put_table(
            ("site", "lat", "lon", "vs30"),
            ((s["code"] or "", f"{s['lat']:.5f}", f"{s['lon']:.5f}", _number(s["vs30"])) for s in sites[:MAX_ROWS]),
            numbers="lrrr",
        )
        _put_rest(len(sites), "site")
    if realisations:
        put()
        put_table(
            ("rlz", "weight", "source path", "gsim path"),
            (
                (str(r["rlz"]), _number(r["weight"]), "~".join(r["source_path"]), "~".join(r["gsim_path"]))
                for r in realisations[:MAX_ROWS]
            ),
            numbers="rrll",
        )
        _put_rest(len(realisations), "realisation")


def _put_rest(number: int, noun: str) -> None:
    if number > MAX_ROWS:
        put(f"and {count(number - MAX_ROWS, f'more {noun}')}; --json lists all")


def _shape(shape: Any) -> str:
    return " (no curves stored)" if shape is None else f" (curves of shape {tuple(shape)})"


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:g}"


def _range(values: list[float | None], unit: str) -> str:
    known = [value for value in values if value is not None and value == value]
    if not known:
        return "unknown"
    low, high = min(known), max(known)
    return f"{low:g} {unit}" if low == high else f"{low:g} to {high:g} {unit}"
