"""``store_hazard``: the team's script of that name, with its arguments and its words."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_FAILED, run
from hazard_store.cli.options import example
from hazard_store.cli.output import put
from hazard_store.cli.progress import ScriptLines, StoreProgress
from hazard_store.cli.runner import with_connections
from hazard_store.cli.storing import run_to_end
from hazard_store.names import haz_sol_id_from_text

if TYPE_CHECKING:
    from hazard_store.names import Part


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example("store_hazard 12 NZ-2026-A -c -v", "store_hazard calc_12.hdf5 NZ-2026-A --skip-rlzs"),
)
@click.argument("calc_id_or_path")
@click.argument("haz_sol_id")
@click.option("-c", "--create-tables", is_flag=True, help="Make the tables that are missing first.")
@click.option("-k", "--skip-rlzs", is_flag=True, help="Do not store the realisations.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
@click.option(
    "-n",
    "--new-version-only",
    is_flag=True,
    help="Accepted and without effect: only the V2 tables are written, with or without it.",
)
@click.option(
    "-f", "--force-normal-codes", is_flag=True, help="Name all sites [lat~lon], even where the job names them."
)
@click.pass_context
def store_hazard(
    context: click.Context,
    calc_id_or_path: str,
    haz_sol_id: str,
    create_tables: bool,
    skip_rlzs: bool,
    verbose: bool,
    new_version_only: bool,
    force_normal_codes: bool,
) -> None:
    """Store a calculation in the V2 tables, in this process.

    CALC_ID_OR_PATH is a datastore (calc_N.hdf5), a zip archive that holds one, or the number of a calculation of this
    machine's engine; HAZ_SOL_ID is the id under which it is stored. NUM_WORKERS (HAZARD_STORE_WORKERS) says how many
    requests are under way at once.
    """
    from hazard_store.jobs import StoreRequest
    from hazard_store.oq.trial import open_tried
    from hazard_store.settings import Settings
    from hazard_store.storage import tables
    from hazard_store.storing import store_in_process

    settings = Settings.from_environment()
    haz_sol_id_from_text(haz_sol_id)
    skipped: dict[Part, str] = {"realisations": "--skip-rlzs"} if skip_rlzs else {}
    parts: list[Part] = ["meta"]
    with open_tried(calc_id_or_path, sites="normalised" if force_normal_codes else "auto") as calculation:
        if calculation.curves["stats"] is None:
            skipped["stats"] = "the file holds none"
        else:
            parts.append("stats")
        if calculation.curves["realisations"] is None:
            skipped["realisations"] = "the file holds none"
        elif not skip_rlzs:
            parts.append("realisations")
    if create_tables:
        for name in tables.create_tables(settings):
            if verbose:
                put(f"Created table {name}")
    request = StoreRequest(
        source=calc_id_or_path,
        haz_sol_id=haz_sol_id,
        parts=tuple(parts),
        encoding="list",
        partition="solution",
        sites="normalised" if force_normal_codes else "auto",
    )
    request = with_connections(request, settings, None)
    progress = ScriptLines(skipped) if verbose else StoreProgress()
    report = run_to_end(lambda: store_in_process(request, settings, progress), progress, cluster="none", quiet=True)
    if report.failed:
        context.exit(EXIT_FAILED)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``store_hazard`` and end the process with its exit code."""
    sys.exit(run(store_hazard, "store_hazard", args))


if __name__ == "__main__":
    main()
