"""``plot``: a site's curves in a figure."""

from __future__ import annotations

from pathlib import Path

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS
from hazard_store.cli.options import example, layout_options, pick_layout, place_options
from hazard_store.cli.output import note, warn
from hazard_store.cli.reading import stored_meta
from hazard_store.errors import UsageError

# What the plotting room writes; said here so that nothing is read for a figure that cannot be written.
SUFFIXES = (".png", ".svg")


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "hazard-store plot NZ-2026-A --near -41.3,174.8 -o wellington.png",
        "hazard-store plot NZ-2026-A --site WLG --imt PGA --imt 'SA(1.0)' -o wlg.svg",
    ),
)
@click.argument("haz_sol_id", metavar="ID")
@place_options
@click.option("-o", "--output", "path", required=True, type=click.Path(path_type=Path), metavar="FILE.png|FILE.svg")
@click.option("--title", default="", help="First line of the figure.")
@layout_options(chosen=False)
def plot(
    haz_sol_id: str,
    sites: tuple[str, ...],
    near: tuple[float, float] | None,
    imts: tuple[str, ...],
    path: Path,
    title: str,
    encoding: str | None,
    partition: str | None,
) -> None:
    """Draw the curves of one site by IMT: statistics over realisations.

    --site or --near says which, unless the calculation has only one.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a plot is written as {' or '.join(SUFFIXES)}, by the suffix of its name")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    if len(sites) > 1:
        raise UsageError("a plot shows one site: give one --site")
    from hazard_store import plotting, query

    layout = pick_layout(encoding, partition)
    meta = stored_meta(haz_sol_id, layout)
    if meta is not None and not meta.complete:
        warn(f"{haz_sol_id} is not complete: `hazard-store status {haz_sol_id}` tells what is missing")
    if meta is not None and not sites and near is None and len(meta.codes) > 1:
        raise UsageError(f"{haz_sol_id} has {len(meta.codes):,} sites: choose one with --site or --near")
    frame = query.curves(haz_sol_id, sites=sites or None, near=near, imts=imts or None, layout=layout)
    is_rlz = frame["agg"].isna()
    plotting.plot_curves(
        frame[~is_rlz],
        frame[is_rlz],
        title=title,
        investigation_time=meta.document["investigation_time"] if meta is not None else None,
        path=path,
        # IMTs that were named are all drawn; of the others a few stand for the rest.
        max_panels=len(imts) or plotting.MAX_PANELS,
    )
    note(f"wrote {path}")
