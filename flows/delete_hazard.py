"""Flow `delete_hazard`: take a calculation out of the store."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.endings import failed, refused
from flows.parameters import Encoding, HazSolIdText, Partition
from flows.texts import text_to_markdown
from hazard_store.deletion import DeleteReport, delete
from hazard_store.errors import HazardStoreError
from hazard_store.layouts import chosen_layout

ARTIFACT_KEY = "deletion"


@flow(name="delete_hazard", flow_run_name="delete {haz_sol_id}", persist_result=False)
def delete_hazard(
    haz_sol_id: HazSolIdText,
    confirm: str,
    encoding: Encoding | None = None,
    partition: Partition | None = None,
) -> State[DeleteReport]:
    """Delete a calculation with its meta and its ledger; its file is not touched.

    Args:
        haz_sol_id: The id under which the calculation is stored.
        confirm: The id once more: nothing is deleted unless the two are equal.
        encoding: packed or list; empty, with partition empty as well, for every layout that has anything of it.
        partition: solution or location; empty, with encoding empty as well, for every layout.
    """
    if confirm != haz_sol_id:
        return failed(f"nothing was deleted: confirm must be the id {haz_sol_id}, not {confirm!r}")
    try:
        report = delete(haz_sol_id, layout=chosen_layout(encoding, partition))
    except HazardStoreError as exc:
        return refused(exc)
    create_markdown_artifact(report_to_markdown(report), key=ARTIFACT_KEY, description=report.summary)
    return Completed(message=report.summary, data=report)


def report_to_markdown(report: DeleteReport) -> str:
    """Write what was taken away, from where."""
    rows = (
        ("layouts", ", ".join(report.layouts)),
        ("items of curves", f"{report.items:,}"),
        ("meta items", f"{report.meta_items:,}"),
        ("ledger entries", f"{report.ledger_entries:,}"),
    )
    lines = [f"### Deleted {text_to_markdown(report.haz_sol_id)}", "", "| what | deleted |", "| --- | --- |"]
    lines += [f"| {what} | {text_to_markdown(value)} |" for what, value in rows]
    return "\n".join(lines)
