"""``verify`` and ``delete``: is it what the file has, and away with it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_FAILED
from hazard_store.cli.options import (
    VERIFY_MODES,
    example,
    id_option,
    json_option,
    layout_options,
    parent_option,
    pick_layout,
)
from hazard_store.cli.output import note, put, put_json, warn
from hazard_store.cli.progress import CountLines, note_wait
from hazard_store.cli.tables import confirm


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "hazard-store verify calc_12.hdf5 --id NZ-2026-A",
        "hazard-store verify --id NZ-2026-A",
        "hazard-store verify calc_12.hdf5 --id NZ-2026-A --mode sample --curves 500 --seed 7",
        "hazard-store verify --id NZ-2026-A --mode scientific",
    ),
)
@click.argument("source", required=False)
@id_option
@click.option(
    "--mode",
    type=click.Choice(VERIFY_MODES),
    help="Compare every value with the file (full); with the ledger's digests, without the file (digest); some curves "
    "with the file (sample); each mean with the weighted mean of its realisations, without the file (scientific). "
    "Default: full if there is a SOURCE, else digest.",
)
@click.option("--curves", type=click.IntRange(min=1), metavar="N", help="How many curves a sample has (default: 1000).")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw the same sample as another run did.")
@parent_option
@layout_options(chosen=False)
@json_option
@click.pass_context
def verify(
    context: click.Context,
    source: str | None,
    haz_sol_id: str,
    mode: Any,
    curves: int | None,
    seed: int | None,
    parent: str | None,
    encoding: str | None,
    partition: str | None,
    as_json: bool,
) -> None:
    """Compare what is stored with its file or its ledger.

    SOURCE is the calculation's file; modes digest and scientific do not read it.

    Exit code 1 if something differs, is missing or is too many.
    """
    from hazard_store import verification

    mode = mode or ("full" if source is not None else "digest")
    if mode != "sample" and (curves is not None or seed is not None):
        raise click.UsageError("--curves and --seed are for --mode sample", context)
    report = verification.verify(
        source,
        haz_sol_id,
        mode=mode,
        curves=curves or verification.DEFAULT_CURVES,
        seed=seed,
        layout=pick_layout(encoding, partition),
        parent=parent,
        on_progress=CountLines("compared"),
        on_wait=note_wait,
    )
    if as_json:
        put_json(
            {
                "haz_sol_id": report.haz_sol_id,
                "layout": report.layout,
                "mode": report.mode,
                "ok": report.ok,
                "complete": report.complete,
                "checked_items": report.checked_items,
                "checked_values": report.checked_values,
                "missing": report.missing,
                "extra": report.extra,
                "different": report.different,
                "meta_differences": report.meta_differences,
                "differences": report.differences,
                "seed": report.seed,
                "notes": report.notes,
            }
        )
    else:
        put(report.summary)
        for difference in report.differences:
            put(f"  {difference}")
    for text in report.notes:
        warn(text)
    if not report.ok:
        context.exit(EXIT_FAILED)


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example("hazard-store delete NZ-2026-A", "hazard-store delete NZ-2026-A --encoding list --yes"),
)
@click.argument("haz_sol_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@layout_options(chosen=False)
def delete(haz_sol_id: str, yes: bool, encoding: str | None, partition: str | None) -> None:
    """Delete a calculation with its meta and its ledger.

    It goes in every layout that has anything of it, or only in the one that is named.
    """
    from hazard_store import deletion
    from hazard_store.errors import TableMissingError
    from hazard_store.ledger import Ledger
    from hazard_store.settings import Settings

    settings = Settings.from_environment()
    layout = pick_layout(encoding, partition)
    if not yes:
        layouts = layout.name if layout else "every layout"
        with suppress(TableMissingError):
            known = [r for r in Ledger(settings).calculations(haz_sol_id) if layout is None or r.layout == layout.name]
            if known:
                layouts = " and ".join(f"{record.layout} ({record.items:,} items)" for record in known)
        where = settings.endpoint or f"AWS {settings.region}"
        confirm(f"Delete {haz_sol_id} from {layouts} of stage {settings.stage} at {where}?")
    report = deletion.delete(haz_sol_id, layout=layout, settings=settings, on_progress=CountLines("deleted"))
    note(report.summary)
