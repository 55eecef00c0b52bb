"""Flow `verify_hazard`: check what is stored of a calculation against its file, its ledger, or itself."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.endings import failed, refused
from flows.parameters import Curves, Encoding, HazSolIdText, Partition, Seed, SourceText
from flows.texts import text_to_markdown
from hazard_store.errors import HazardStoreError
from hazard_store.layouts import chosen_layout
from hazard_store.ledger import Ledger
from hazard_store.settings import Settings
from hazard_store.verification import DEFAULT_CURVES, FILE_MODES, Mode, VerifyReport, verify
from tasks.sources import use_credentials_block

ARTIFACT_KEY = "verification"


@flow(name="verify_hazard", flow_run_name="verify {haz_sol_id}", persist_result=False)
def verify_hazard(
    haz_sol_id: HazSolIdText,
    source: SourceText | None = None,
    mode: Mode = "full",
    curves: Curves = DEFAULT_CURVES,
    seed: Seed | None = None,
    encoding: Encoding | None = None,
    partition: Partition | None = None,
    parent: SourceText | None = None,
) -> State[VerifyReport]:
    """Check what is stored of a calculation; the run fails where something differs.

    Args:
        haz_sol_id: The id under which the calculation is stored.
        source: Path of the datastore or of a zip archive that holds it. Empty for the file it was stored from; modes
            digest and scientific read none.
        mode: full (every value against the file), digest (every value against the ledger's digests, without the file),
            sample (some curves against the file) or scientific (each mean against the weighted mean of its
            realisations, without the file).
        curves: How many curves a sample has.
        seed: To draw the same sample as another run did. Empty for a new one.
        encoding: packed or list; empty for the layout that was stored last.
        partition: solution or location; empty for the layout that was stored last.
        parent: The parent calculation's file. Empty for the one that it was stored with.
    """
    logger = get_run_logger()
    try:
        settings = Settings.from_environment()
        use_credentials_block()
        layout = chosen_layout(encoding, partition)
        if mode in FILE_MODES and not source:
            source = Ledger(settings).require_calculation(haz_sol_id, layout).source
        report = verify(
            source,
            haz_sol_id,
            mode=mode,
            curves=curves,
            seed=seed,
            layout=layout,
            settings=settings,
            parent=parent or None,
            on_wait=lambda holder: logger.info("waiting to see whether run %s, which has the lease, has ended", holder),
        )
    except HazardStoreError as exc:
        return refused(exc)
    document = report_to_markdown(report, source if mode in FILE_MODES else None)
    create_markdown_artifact(document, key=ARTIFACT_KEY, description=report.summary)
    for difference in report.differences:
        logger.error("%s", difference)
    for note in report.notes:
        logger.warning("%s", note)
    return Completed(message=report.summary, data=report) if report.ok else failed(report.summary, report)


def report_to_markdown(report: VerifyReport, source: str | None) -> str:
    """Write what was compared, the first differences, and what could not be looked at."""
    file = f" The file: {text_to_markdown(source)}." if source is not None else ""
    lines = [
        f"### {'The same' if report.ok else 'Different'}",
        "",
        f"{text_to_markdown(report.summary)}.{file}",
    ]
    for note in report.notes:
        lines += ["", f"Not checked: {text_to_markdown(note)}."]
    if report.differences:
        lines += ["", f"The first {len(report.differences):,} of {report.found:,}:", ""]
        lines += [
            "| what | site | kind | IMT | level | expected | got |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
    for one in report.differences:
        cells = (one.what, one.site, one.kind, one.imt, one.level, one.expected, one.got)
        lines.append("| " + " | ".join("" if cell is None else text_to_markdown(cell) for cell in cells) + " |")
    return "\n".join(lines)
