"""Flow `verify_hazard`: compare every stored value of a calculation with its file."""

from __future__ import annotations

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.endings import failed, refused
from flows.parameters import Encoding, HazSolIdText, Partition
from flows.texts import text_to_markdown
from hazard_store.errors import HazardStoreError
from hazard_store.layouts import chosen_layout
from hazard_store.ledger import Ledger
from hazard_store.settings import Settings
from hazard_store.verification import VerifyReport, verify

ARTIFACT_KEY = "verification"


@flow(name="verify_hazard", flow_run_name="verify {haz_sol_id}", persist_result=False)
def verify_hazard(
    haz_sol_id: HazSolIdText,
    source: str | None = None,
    encoding: Encoding | None = None,
    partition: Partition | None = None,
    parent: str | None = None,
) -> State[VerifyReport]:
    """Compare every stored value of a calculation with its file; the run fails where one differs.

    Args:
        haz_sol_id: The id under which the calculation is stored.
        source: Path of the datastore or of a zip archive that holds it. Empty for the file it was stored from.
        encoding: packed or list; empty for the layout that was stored last.
        partition: solution or location; empty for the layout that was stored last.
        parent: The parent calculation's file. Empty for the one that it was stored with.
    """
    try:
        settings = Settings.from_environment()
        layout = chosen_layout(encoding, partition)
        if not source:
            source = Ledger(settings).require_calculation(haz_sol_id, layout).source
        report = verify(source, haz_sol_id, layout=layout, settings=settings, parent=parent or None)
    except HazardStoreError as exc:
        return refused(exc)
    create_markdown_artifact(report_to_markdown(report, source), key=ARTIFACT_KEY, description=report.summary)
    for difference in report.differences:
        get_run_logger().error("%s", difference)
    return Completed(message=report.summary, data=report) if report.ok else failed(report.summary, report)


def report_to_markdown(report: VerifyReport, source: str) -> str:
    """Write what was compared and the first differences."""
    lines = [
        f"### {'The same' if report.ok else 'Different'}",
        "",
        f"{text_to_markdown(report.summary)}. The file: {text_to_markdown(source)}.",
    ]
    if report.differences:
        total = report.missing + report.extra + report.different + report.meta_differences
        lines += ["", f"The first {len(report.differences):,} of {total:,}:", ""]
        lines += [
            "| what | site | kind | IMT | level | expected | got |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
    for one in report.differences:
        cells = (one.what, one.site, one.kind, one.imt, one.level, one.expected, one.got)
        lines.append("| " + " | ".join("" if cell is None else text_to_markdown(cell) for cell in cells) + " |")
    return "\n".join(lines)
