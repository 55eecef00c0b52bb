"""Flow `store_batch`: store the finished calculations under a folder that are not stored yet, each as a run of its own.

It may run every five minutes for a year: what is stored, refused or given up is known from the ledger without opening a
file, and a run that finds nothing new writes nothing but its own state.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from threading import Event
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed
from pydantic import Field

from flows import children
from flows.batch_report import publish
from flows.endings import failed, refused
from flows.parameters import ClusterName, Encoding, Partition, SourceText, WcuPerSec, Workers
from hazard_store import lease
from hazard_store.batch.discovery import DEFAULT_PATTERNS
from hazard_store.batch.examination import ReaderOptions
from hazard_store.batch.looking import Batch, Look
from hazard_store.batch.naming import DEFAULT_TEMPLATE
from hazard_store.batch.sorting import Finding, Wanted, counted
from hazard_store.errors import HazardStoreError, LeaseHeldError, LeaseLostError, UsageError
from hazard_store.layouts import layout_from_names
from hazard_store.names import HazSolId, Part
from hazard_store.settings import Settings
from hazard_store.sources import SourceFile
from hazard_store.storage.models import LedgerEntry
from hazard_store.storage.tables import require_tables
from tasks.sources import use_credentials_block

STORE_DEPLOYMENT = "store_hazard/store-hazard"

POLL_SECS = 2.0

# These end a batch Failed, if no earlier run has said so already.
BAD_NEWS = ("failed", "refused", "given up")


@flow(
    name="store_batch",
    flow_run_name="batch {prefix}",
    persist_result=False,
    on_cancellation=[children.cancel],
    on_crashed=[children.cancel],
)
def store_batch(
    prefix: Annotated[SourceText, Field(min_length=1)],
    patterns: list[str] = list(DEFAULT_PATTERNS),  # noqa: B006 - the form shows it; nothing changes it
    haz_sol_id_template: str = DEFAULT_TEMPLATE,
    manifest: SourceText | None = None,
    settle_secs: Annotated[float, Field(ge=0, le=3600)] = 30.0,
    attempts: Annotated[int, Field(ge=1)] = 3,
    parts: list[Part] | None = None,
    encoding: Encoding = "packed",
    partition: Partition = "solution",
    sites: Literal["auto", "normalised"] = "auto",
    trust_imt_order: bool = False,
    cluster: ClusterName = "local",
    workers: Workers | None = None,
    max_wcu: WcuPerSec | None = None,
    dry_run: bool = False,
    store_deployment: str = STORE_DEPLOYMENT,
) -> State[list[Finding]]:
    """Store the finished calculations under a folder that are not stored yet, each as a run of its own.

    Args:
        prefix: The folder to look under, as the worker sees it, or s3://BUCKET/PREFIX; a single file will do as well.
        patterns: Shell patterns of the files' names (calc_*.hdf5), or with a slash of their paths in the folder.
        haz_sol_id_template: The id of each, made of {stem} (its name without the suffix), {folder} (the folder it lies
            in), {path} (its path in the folder, without the suffix) and {number} (the last number in its name).
        manifest: A file that names the ids instead: CSV with the columns file and haz_sol_id, or a JSON object. Its
            path may be relative to the folder.
        settle_secs: A file that changed within these seconds is watched for so long, and left for the next run if it
            changes again.
        attempts: A calculation whose store failed in so many runs is left alone until its file changes.
        parts: What to store of each: meta, stats, realisations. Empty for all that the file holds.
        encoding: packed (compact, lossless) or list (the V2 form).
        partition: solution (one query a calculation) or location (0.5 degree bins).
        sites: auto (the job's custom_site_id where there is one) or normalised ([lat~lon] for all).
        trust_imt_order: Store files of engine 3.17 or 3.18 although their IMT labels are suspect.
        cluster: local (worker processes on this machine), none (in one process), fargate (on AWS), or the
            tcp://HOST:PORT of a Dask scheduler.
        workers: Workers of a local cluster (empty for one a core) or on Fargate (empty for as many as have work).
        max_wcu: Write units per second that each store may use; empty for no limit.
        dry_run: Only say what would be stored.
        store_deployment: The deployment whose runs store the calculations.
    """
    parameters = {
        "parts": parts,
        "encoding": encoding,
        "partition": partition,
        "sites": sites,
        "trust_imt_order": trust_imt_order,
        "cluster": cluster,
        "workers": workers,
        "max_wcu": max_wcu,
    }
    try:
        settings = Settings.from_environment()
        use_credentials_block()
        wanted = Wanted(
            layout_from_names(encoding, partition), ReaderOptions(sites, trust_imt_order), tuple(parts or ()), attempts
        )
        batch = Batch.of(
            prefix,
            wanted,
            patterns=tuple(patterns),
            template=haz_sol_id_template,
            manifest=manifest or None,
            settle_secs=settle_secs,
        )
        require_tables({LedgerEntry.table_base}, settings)
        if dry_run:
            return _end(batch, Look(batch, settings), [], dry_run=True)
        _require_deployment(store_deployment)
        # Two runs that look at once would start each store twice, the second of them to be refused.
        name = "#batch:" + hashlib.sha256(batch.folder.name.encode(errors="surrogateescape")).hexdigest()
        with lease.held(name, wanted.layout, uuid.uuid4().hex[:12], settings) as lost:
            return _store_all(batch, settings, store_deployment, parameters, lost)
    except LeaseHeldError:
        return Completed(message=f"another run is at work on {prefix}: it looks again before it ends")
    except HazardStoreError as exc:
        return refused(exc)


def _store_all(
    batch: Batch, settings: Settings, deployment: str, parameters: dict[str, Any], lost: Event
) -> State[list[Finding]]:
    """Look and store, and look again for what was finished in the meantime, until nothing new is there."""
    tried: dict[SourceFile, Finding] = {}
    written: set[str] = set()
    while True:
        look = Look(batch, settings)
        # What was being written is the next run's: watching it here could go on for ever.
        look.unread = [(file, i) for file, i in look.unread if file not in tried and file.path not in written]
        look.settle(time.time())
        if not look.unread:
            look.remember_names()
            return _end(batch, look, list(tried.values()), dry_run=False)
        for finding in _stored(look, deployment, parameters):
            tried[finding.file] = finding
            if finding.fate == "being written":
                written.add(finding.file.path)
            if lost.is_set():
                raise LeaseLostError(
                    f"another run of the batch {batch.folder.name} took over: that one stores the rest"
                )


def _stored(look: Look, deployment: str, parameters: dict[str, Any]) -> Iterator[Finding]:
    """Read file by file, and store what is ready; a file that goes wrong stops no other."""
    logger = get_run_logger()
    for file, haz_sol_id in look.unread:
        finding, examination = look.read(file, haz_sol_id)
        if finding.fate == "to store":
            finding = _store(file, haz_sol_id, deployment, parameters)
            if finding.fate == "failed":
                finding = look.remember_failure(finding, examination)
        logger.info("%s: %s%s", file.name, finding.fate, f", {finding.reason}" if finding.reason else "")
        yield finding


def _store(file: SourceFile, haz_sol_id: HazSolId, deployment: str, parameters: dict[str, Any]) -> Finding:
    run: Any = run_deployment(
        deployment,
        parameters={"source": file.path, "haz_sol_id": haz_sol_id, **parameters},
        flow_run_name=f"store {haz_sol_id}",
        tags=["store-batch"],
        poll_interval=POLL_SECS,
        timeout=None,
    )
    state = run.state
    if state is not None and state.type == StateType.COMPLETED:
        return Finding(file, haz_sol_id, "stored", state.message, is_news=True, run_id=str(run.id))
    reason = (state.message if state is not None else None) or "its run ended without a word"
    return Finding(file, haz_sol_id, "failed", reason, is_news=True, run_id=str(run.id))


def _end(batch: Batch, look: Look, tried: list[Finding], *, dry_run: bool) -> State[list[Finding]]:
    """Publish the report and give the state in which the run ends."""
    done = {finding.file.name for finding in tried}
    findings = [*tried, *(finding for finding in look.findings if finding.file.name not in done)]
    if dry_run:
        findings += [Finding(file, haz_sol_id, "to store") for file, haz_sol_id in look.unread]
    findings.sort(key=lambda finding: finding.file.name)
    summary = counted(findings)
    publish(batch.folder.name, summary, findings, look.unreadable, dry_run=dry_run)
    message = f"dry run, nothing was stored: {summary}" if dry_run else summary
    bad = [f for f in findings if f.fate in BAD_NEWS and f.is_news]
    if look.unreadable:
        message += f"; {len(look.unreadable)} folders could not be read, the first one {look.unreadable[0]}"
    elif bad and not dry_run:
        message += f"; the first one: {bad[0].file.name} {bad[0].fate}, {bad[0].reason}"
    if (bad or look.unreadable) and not dry_run:
        return failed(message, findings)
    return Completed(message=message, data=findings)


def _require_deployment(name: str) -> None:
    """Refuse at once what would make the first child run fail, or wait for ever.

    Raises
    ------
    UsageError
        If the deployment is not on this server, or its work pool runs one run at a time, which is this one.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(name)
        except (ObjectNotFound, ValueError) as exc:
            raise UsageError(
                f"there is no deployment {name!r} to store with: make it with `prefect --no-prompt deploy --all`"
            ) from exc
        if deployment.work_pool_name is None:
            raise UsageError(f"the deployment {name!r} has no work pool: nothing would run its runs")
        pool = client.read_work_pool(deployment.work_pool_name)
    if pool.concurrency_limit == 1:
        raise UsageError(
            f"the work pool {pool.name} runs one run at a time, and this one would wait for its own child: "
            "raise its concurrency limit to at least 2"
        )
