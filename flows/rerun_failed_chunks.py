"""Flow `rerun_failed_chunks`: store what a run left of a calculation, and nothing else."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.endings import refused
from flows.fargate import end_cluster
from flows.leftovers import end_leftovers
from flows.parameters import (
    ClusterName,
    Encoding,
    HazSolIdText,
    Partition,
    RerunChunkName,
    SourceText,
    WcuPerSec,
    Workers,
)
from flows.store_hazard import store
from flows.texts import text_to_markdown
from hazard_store.errors import HazardStoreError
from hazard_store.rerunning import Rerun, plan_rerun
from hazard_store.settings import Settings
from tasks.sources import use_credentials_block

PLAN_ARTIFACT_KEY = "rerun-plan"

# What the dry run spells out; a message in the UI is one line.
MAX_NAMED_CHUNKS = 20


@flow(
    name="rerun_failed_chunks",
    flow_run_name="rerun {haz_sol_id}",
    persist_result=False,
    on_cancellation=[end_leftovers, end_cluster],
    on_crashed=[end_leftovers, end_cluster],
)
def rerun_failed_chunks(
    haz_sol_id: HazSolIdText,
    chunks: list[RerunChunkName] = ["failed"],  # noqa: B006 - the form shows it; nothing changes it
    encoding: Encoding | None = None,
    partition: Partition | None = None,
    source: SourceText | None = None,
    cluster: ClusterName = "local",
    workers: Workers | None = None,
    max_wcu: WcuPerSec | None = None,
    dry_run: bool = False,
) -> State[Any]:
    """Store the failed and missing chunks of a calculation, or those that are named.

    Args:
        haz_sol_id: The id under which the calculation is stored.
        chunks: failed (all that failed or are missing), an id or range such as realisations:04000-06000, or a part
            (meta, stats, realisations). Those that are named are stored even if they are done.
        encoding: packed or list; needed only where the id is stored in several layouts.
        partition: solution or location; needed only where the id is stored in several layouts.
        source: Where the file is now, if it has moved; it must be the very file. Empty for where it was.
        cluster: local (worker processes on this machine), none (in this process), fargate (on AWS), or the
            tcp://HOST:PORT of a Dask scheduler.
        workers: Workers of a local cluster (empty for one a core) or on Fargate (empty for as many as have work).
        max_wcu: Write units per second that the whole run may use; empty for no limit.
        dry_run: Only say what would be stored.
    """
    try:
        use_credentials_block()
        planned = plan_rerun(
            haz_sol_id,
            Settings.from_environment(),
            chunks=chunks,
            encoding=encoding,
            partition=partition,
            source=source or None,
            max_wcu=max_wcu,
        )
    except HazardStoreError as exc:
        return refused(exc)
    if planned.request is None:
        return Completed(message=planned.summary)
    if dry_run:
        create_markdown_artifact(plan_to_markdown(planned), key=PLAN_ARTIFACT_KEY, description=planned.summary)
        message = dry_run_message(planned)
        get_run_logger().info("%s", message)
        return Completed(message=message)
    return store(planned.request, cluster, workers, "rerun")


def dry_run_message(planned: Rerun) -> str:
    """Say in one line what a rerun would store."""
    names = ", ".join(planned.chunks[:MAX_NAMED_CHUNKS])
    more = f" and {len(planned.chunks) - MAX_NAMED_CHUNKS:,} more" if len(planned.chunks) > MAX_NAMED_CHUNKS else ""
    return f"dry run, nothing was written: {planned.summary}" + (f": {names}{more}" if names else "")


def plan_to_markdown(planned: Rerun) -> str:
    """List every chunk that a rerun would store, with what became of it."""
    standing = planned.standing
    source = planned.request.source if planned.request else standing.record.source
    lines = [
        f"### {text_to_markdown(planned.summary)}",
        "",
        f"From {text_to_markdown(source)}. This was a dry run: nothing was written.",
        "",
        "| chunk | state | error |",
        "| --- | --- | --- |",
    ]
    for chunk_id in planned.chunks:
        known = standing.chunks.get(chunk_id)
        error = known.error if known is not None and standing.states[chunk_id] == "failed" else None
        cells = (chunk_id, standing.states[chunk_id], error or "")
        lines.append("| " + " | ".join(text_to_markdown(cell) for cell in cells) + " |")
    return "\n".join(lines)
