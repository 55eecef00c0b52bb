"""``store`` and ``rerun``: run a store, show how it goes, say how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_FAILED, EXIT_INTERRUPTED
from hazard_store.cli.options import (
    cluster_options,
    example,
    id_option,
    json_option,
    layout_options,
    positive_number,
    source_options,
)
from hazard_store.cli.output import error, note, put_json, warn
from hazard_store.cli.progress import StoreProgress, choose_progress
from hazard_store.cli.runner import check_cluster, run_store
from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.names import PARTS, haz_sol_id_from_text
from hazard_store.wording import count, rerun_command

if TYPE_CHECKING:
    from hazard_store.jobs import StoreReport, StoreRequest
    from hazard_store.settings import Settings

STEM = "{stem}"


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "hazard-store store calc_12.hdf5 --id NZ-2026-A",
        "hazard-store store calc_12.hdf5 --id NZ-2026-A --encoding list --cluster none --json",
        "hazard-store store batch/*.hdf5 --id 'NZ-2026-{stem}' --max-wcu 4000",
    ),
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@id_option
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Store only this; repeatable.")
@layout_options(chosen=True)
@cluster_options
@click.option(
    "--max-wcu", type=positive_number, metavar="N", help="Write units per second that the run may use, all workers."
)
@click.option(
    "--replace",
    is_flag=True,
    help="Remove what an earlier content of this id left in these tables: sites, statistics, realisations and parts "
    "that this one has not.",
)
@source_options
@json_option
@click.pass_context
def store(
    context: click.Context,
    sources: tuple[str, ...],
    haz_sol_id: str,
    parts: tuple[Any, ...],
    encoding: str,
    partition: str,
    cluster: str,
    workers: int | None,
    max_wcu: float | None,
    replace: bool,
    parent: str | None,
    sites: Any,
    trust_imt_order: bool,
    as_json: bool,
) -> None:
    """Store a calculation: its meta, statistics and realisations.

    SOURCE is a datastore (calc_N.hdf5), a zip archive that holds one, s3://BUCKET/KEY of either, or the number of a
    calculation of this machine's engine. Several of them need an ID with the placeholder {stem}, which stands for the
    file's name without its ending.

    Chunks that the same file stored before are skipped: a run that died is resumed by the same command.
    """
    from hazard_store.jobs import StoreRequest
    from hazard_store.settings import Settings

    check_cluster(cluster)
    settings = Settings.from_environment()
    requests = [
        StoreRequest(
            source=source,
            haz_sol_id=name,
            parts=parts,
            encoding=encoding,
            partition=partition,
            sites=sites,
            parent=parent,
            trust_imt_order=trust_imt_order,
            replace=replace,
            max_wcu=max_wcu,
        )
        for source, name in zip(sources, ids_of(sources, haz_sol_id), strict=True)
    ]
    check_requests(requests, settings)
    reports, code = store_all(requests, settings, cluster, workers)
    if as_json and reports:
        documents = [report_to_json(report) for report in reports]
        put_json(documents[0] if len(requests) == 1 else documents)
    if code:
        context.exit(code)


def ids_of(sources: tuple[str, ...], haz_sol_id: str) -> list[str]:
    """Derive an id for each source.

    Raises
    ------
    UsageError
        If an id cannot be used, or two sources would get the same.
    """
    if len(sources) > 1 and STEM not in haz_sol_id:
        raise UsageError(
            f"{len(sources)} calculations cannot have the one id {haz_sol_id!r}: put {STEM} into it, such as "
            f"--id '{haz_sol_id}-{STEM}', for ids from the file names"
        )
    ids = [haz_sol_id.replace(STEM, Path(source).stem) for source in sources]
    for name, source in zip(ids, sources, strict=True):
        haz_sol_id_from_text(name)
        if (first := sources[ids.index(name)]) is not source:
            raise UsageError(f"{first} and {source} would both be stored as {name!r}: store them one by one")
    return ids


def check_requests(requests: Sequence[StoreRequest], settings: Settings) -> None:
    """Refuse what can be seen at once, before a cluster starts, or another file of the command is stored.

    Raises
    ------
    HazardStoreError
        If a file cannot be read, or the store cannot be reached or has no tables.
    """
    from hazard_store.ledger import Ledger
    from hazard_store.oq.trial import open_tried

    for request in requests:
        open_tried(
            request.source, parent=request.parent, sites=request.sites, trust_imt_order=request.trust_imt_order
        ).close()
    Ledger(settings).calculations(requests[0].haz_sol_id)


def store_all(
    requests: Sequence[StoreRequest], settings: Settings, cluster: str, workers: int | None
) -> tuple[list[StoreReport], int]:
    """Store one after the other until one does not end in order; give the reports of those before, and the exit code.

    Raises
    ------
    HazardStoreError
        If nothing was written at all.
    """
    reports: list[StoreReport] = []
    try:
        for request in requests:
            reports.append(store_one(request, settings, cluster, workers))
    except click.exceptions.Exit as ended:
        return reports, ended.exit_code
    except HazardStoreError as exc:
        if not reports:
            raise
        error(f"stopped after {len(reports)} of {count(len(requests), 'calculation')}: {exc}")
        return reports, EXIT_FAILED
    return reports, EXIT_FAILED if any(report.failed for report in reports) else 0


def store_one(request: StoreRequest, settings: Settings, cluster: str, workers: int | None) -> StoreReport:
    """Store one calculation, show how it goes, and say how it ended; errors are those of ``run_to_end``."""
    with choose_progress() as progress:
        return run_to_end(lambda: run_store(request, settings, cluster, workers, progress), progress, cluster=cluster)


def run_to_end(
    start: Callable[[], StoreReport], progress: StoreProgress, *, cluster: str, quiet: bool = False
) -> StoreReport:
    """Run a store and say how it ended.

    Raises
    ------
    HazardStoreError
        If nothing was written.
    click.exceptions.Exit
        If writing had begun and the run could not end in order.
    """
    again = "what is stored stays; run the same command again for the rest"
    try:
        report = start()
    except KeyboardInterrupt:
        progress.close()
        error(f"interrupted: {again}" if progress.plan is not None else "interrupted")
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    except HazardStoreError as exc:
        progress.close()
        if progress.plan is None:
            raise
        error(f"{exc}; {again}")
        raise click.exceptions.Exit(EXIT_FAILED) from exc
    progress.close()
    for text in report.warnings:
        warn(text)
    if report.failed:
        error(failure_line(report, cluster))
    elif not quiet:
        note(done_line(report))
    return report


def done_line(report: StoreReport) -> str:
    """Say what a run stored."""
    removed = f", {count(report.removed, 'item')} of an earlier content removed" if report.removed else ""
    if report.complete and not report.outcomes:
        before = f"{count(report.chunks, 'chunk')} stored before"
        return f"{report.haz_sol_id} ({report.layout}) is complete, {before}{removed}"
    state = "complete" if report.complete else "not complete yet, as parts of it were not asked for or are missing"
    skipped = f", {count(report.skipped, 'chunk')} stored before" if report.skipped else ""
    totals = report.totals()
    figures = f"{totals.summary()}, {totals.seconds:.1f} s"
    return f"stored {report.haz_sol_id} ({report.layout}), {state}: {figures}{skipped}{removed}"


def failure_line(report: StoreReport, cluster: str) -> str:
    """Name the failed chunks and the command that mends them."""
    names = ", ".join(outcome.chunk_id for outcome in report.failed)
    command = rerun_command(report.haz_sol_id, report.layout, cluster=cluster)
    return (
        f"{len(report.failed)} of {count(len(report.outcomes), 'chunk')} of {report.haz_sol_id} failed: {names} "
        f"({report.failed[0].error}); mend it with `{command}`"
    )


def report_to_json(report: StoreReport) -> dict[str, Any]:
    """Give the document of ``--json``."""
    return {
        "haz_sol_id": report.haz_sol_id,
        "layout": report.layout,
        "run_id": report.run_id,
        "complete": report.complete,
        "chunks": report.chunks,
        "skipped": report.skipped,
        "failed": [{"chunk": outcome.chunk_id, "error": outcome.error} for outcome in report.failed],
        "parts": {
            part: report.totals(part).figures()
            for part in PARTS
            if any(outcome.part == part for outcome in report.outcomes)
        },
        "total": report.totals().figures(),
        "seconds": report.seconds,
        "source_bytes": report.source_bytes(),
        "warnings": list(report.warnings),
        "removed": report.removed,
    }
