"""``rerun``: storing what a run left, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_FAILED
from hazard_store.cli.options import cluster_options, example, json_option, layout_options
from hazard_store.cli.output import count, note, put_json
from hazard_store.cli.runner import check_cluster
from hazard_store.cli.status import Standing, standing_of
from hazard_store.cli.storing import report_to_json, store_one
from hazard_store.errors import SourceChangedError, UsageError

if TYPE_CHECKING:
    from hazard_store.ledger import CalculationRecord


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "hazard-store rerun NZ-2026-A",
        "hazard-store rerun NZ-2026-A --chunk realisations:04000-06000 --cluster none",
    ),
)
@click.argument("haz_sol_id", metavar="ID")
@click.option(
    "--chunk",
    "chunks",
    multiple=True,
    metavar="CHUNK",
    help="Store this chunk, even if it is done: an id that `status` shows, or meta, stats, realisations; repeatable.",
)
@layout_options(chosen=False)
@cluster_options
@json_option
@click.pass_context
def rerun(
    context: click.Context,
    haz_sol_id: str,
    chunks: tuple[str, ...],
    encoding: str | None,
    partition: str | None,
    cluster: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Store the failed and missing chunks of a calculation.

    They, or the chunks that are named, are stored from the file that the calculation was stored from.
    """
    from hazard_store.jobs import StoreReport, StoreRequest
    from hazard_store.ledger import META_CHUNK, Ledger
    from hazard_store.planning import select_chunks
    from hazard_store.settings import Settings

    check_cluster(cluster)
    settings = Settings.from_environment()
    ledger = Ledger(settings)
    ledger.require_calculation(haz_sol_id)
    found = [standing_of(ledger, record) for record in ledger.calculations(haz_sol_id)]
    standing = choose_standing(found, encoding, partition, by_name=bool(chunks))
    record = standing.record
    select_chunks(record.plan(), [name for name in chunks if name != META_CHUNK])
    if standing.is_complete and not chunks:
        number = len(record.plan())
        note(f"nothing to do: {count(number, 'chunk')} of {haz_sol_id} ({record.layout}) and its meta are stored")
        report = StoreReport(record.haz_sol_id, record.layout, record.run_id, True, number, number, (), 0.0)
    else:
        _require_same_file(record)
        words = record.layout.split("+")
        request = StoreRequest(
            source=record.source,
            haz_sol_id=record.haz_sol_id,
            parts=record.parts,
            chunks=chunks,
            encoding=words[0],
            partition=words[1],
            sites="normalised" if record.sites == "normalised" else "auto",
            parent=record.parent,
            trust_imt_order=record.trust_imt_order,
        )
        report = store_one(request, settings, cluster, workers)
    if as_json:
        put_json(report_to_json(report))
    if report.failed:
        context.exit(EXIT_FAILED)


def choose_standing(found: list[Standing], encoding: str | None, partition: str | None, *, by_name: bool) -> Standing:
    """Pick the layout that is meant: the one named, the only one, or the only one that is not complete.

    Raises
    ------
    UsageError
        If none fits, or several do.
    """
    fitting = [
        standing
        for standing in found
        if all(
            word in (None, s) for word, s in zip((encoding, partition), standing.record.layout.split("+"), strict=True)
        )
    ]
    if not fitting:
        stored = ", ".join(standing.record.layout for standing in found)
        raise UsageError(f"{found[0].record.haz_sol_id} is not stored in that layout, but in {stored}")
    open_ones = fitting if by_name else [standing for standing in fitting if not standing.is_complete]
    if len(open_ones) > 1:
        layouts = ", ".join(standing.record.layout for standing in open_ones)
        raise UsageError(f"{found[0].record.haz_sol_id} is stored as {layouts}: choose with --encoding and --partition")
    return open_ones[0] if open_ones else fitting[0]


def _require_same_file(record: CalculationRecord) -> None:
    """A rerun fills gaps; chunks of another file between those that are stored would be worse than the gap."""
    from hazard_store.oq import open_calculation

    with open_calculation(
        record.source,
        parent=record.parent,
        sites="normalised" if record.sites == "normalised" else "auto",
        trust_imt_order=record.trust_imt_order,
    ) as calculation:
        if calculation.fingerprint != record.fingerprint:
            raise SourceChangedError(
                f"the file is not the one that {record.haz_sol_id} was stored from: store it anew with "
                "`hazard-store store`",
                source=record.source,
            )
