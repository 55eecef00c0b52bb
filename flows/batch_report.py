"""What a batch leaves in the Prefect UI: every file with its outcome."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from flows.artifacts import as_code, as_text, slug
from hazard_store.batch.sorting import Finding


def publish(
    folder: str, summary: str, findings: Sequence[Finding], unreadable: Sequence[str], *, dry_run: bool
) -> None:
    """Make the artifact ``batch-{folder}``, unless the last one says the same.

    A batch that looks every five minutes would else leave a hundred thousand copies of one table in a year.
    """
    key = f"batch-{slug(folder)}"
    text = report_to_markdown(folder, summary, findings, unreadable, dry_run=dry_run)
    with get_client(sync_client=True) as client:
        last = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
        )
    if not last or last[0].data != text:
        create_markdown_artifact(text, key=key, description=summary)


def report_to_markdown(
    folder: str, summary: str, findings: Sequence[Finding], unreadable: Sequence[str], *, dry_run: bool
) -> str:
    """List every file with its outcome, those that a person must look at first."""
    lines = [f"# {as_code(folder)}", "", f"**{summary}**" + (", a dry run: nothing was stored" if dry_run else ""), ""]
    lines += [f"- could not be read: {as_text(line)}" for line in unreadable]
    lines += ["", "| file | id | outcome | run | |", "| --- | --- | --- | --- | --- |"]
    for finding in sorted(findings, key=lambda one: (one.fate == "stored before", one.file.name)):
        run = f"[run](/runs/flow-run/{finding.run_id})" if finding.run_id else ""
        haz_sol_id = as_code(finding.haz_sol_id) if finding.haz_sol_id else ""
        cells = (as_code(finding.file.name), haz_sol_id, finding.fate, run, as_text(finding.reason or ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
