"""``rerun``: storing what a run left, and nothing else."""

from __future__ import annotations

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_FAILED
from hazard_store.cli.options import cluster_options, example, json_option, layout_options
from hazard_store.cli.output import note, put_json
from hazard_store.cli.runner import check_cluster
from hazard_store.cli.storing import report_to_json, store_one


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
    from hazard_store.jobs import StoreReport
    from hazard_store.rerunning import plan_rerun
    from hazard_store.settings import Settings

    check_cluster(cluster)
    settings = Settings.from_environment()
    planned = plan_rerun(haz_sol_id, settings, chunks=chunks, encoding=encoding, partition=partition)
    if planned.request is None:
        note(planned.summary)
        record, number = planned.standing.record, len(planned.standing.record.plan())
        report = StoreReport(record.haz_sol_id, record.layout, record.run_id, True, number, number, (), 0.0)
    else:
        report = store_one(planned.request, settings, cluster, workers)
    if as_json:
        put_json(report_to_json(report))
    if report.failed:
        context.exit(EXIT_FAILED)
