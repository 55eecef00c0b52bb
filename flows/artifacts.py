"""The texts and tables that a run leaves in the Prefect UI: plain functions of a run's report, no I/O.

Whatever came from a file, a database or an exception is made neutral before it stands in Markdown.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from flows.texts import text_to_markdown
from hazard_store.jobs import ChunkOutcome, StoreReport
from hazard_store.names import PARTS, Part, layout_words
from hazard_store.storage.metrics import Metrics
from hazard_store.texts import one_line, without_secrets
from hazard_store.wording import count, rerun_command

ALL_PARTS = "all"

# A row of the table, by column.
Row = dict[str, Any]

EARLIER_RUNS = 5

# Half the usual throughput is no noise any more: a throttled table, a slow disk, a worker too few.
SLOW_SHARE = 0.5

MAX_ERROR_CHARS = 500

_SLUG_CHARS = 60
_DIGEST_CHARS = 10
_PLAIN_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ENDS_LIKE_A_DIGEST = re.compile(rf"(.*-)?[0-9a-f]{{{_DIGEST_CHARS}}}")

# Of two texts side by side, the columns that runs are compared by.
_COMPARED = ("items", "WCU", "seconds", "items/s", "WCU/s", "retries", "throttles", "p50 ms", "p95 ms")


def slug(text: str) -> str:
    """Write any text in the signs of an artifact key, a-z 0-9 and dashes; no two texts give the same slug.

    A text that is a slug already stays as it is. Any other loses something on the way and gets its digest as well, and
    so does one that ends as if it had one.

    Examples
    --------
    >>> slug("nz-2026-a")
    'nz-2026-a'
    >>> slug("NZ_2026/A")
    'nz-2026-a-30be945920'
    """
    if len(text) <= _SLUG_CHARS and _PLAIN_SLUG.fullmatch(text) and not _ENDS_LIKE_A_DIGEST.fullmatch(text):
        return text
    body = re.sub(r"[^a-z0-9]+", "-", text.lower())[:_SLUG_CHARS].strip("-")
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{body}-{digest}".lstrip("-")


def as_code(text: str) -> str:
    """Put an id into a code span, in a table or out of it: its signs mean nothing there, and it stays legible."""
    inner = one_line(without_secrets(text)).replace("`", "'").replace("|", "/")
    return f"`{inner}`"


def as_text(text: str) -> str:
    """Make a text of any origin one line of moderate length that means nothing to Markdown or HTML."""
    line = one_line(without_secrets(text))
    return text_to_markdown(line if len(line) <= MAX_ERROR_CHARS else f"{line[: MAX_ERROR_CHARS - 1]}…")


def table_rows(report: StoreReport, wall_secs: Mapping[Part, float]) -> list[Row]:
    """Give the rows of the table artifact: one a part that had something to do, and one for all.

    Parameters
    ----------
    wall_secs : mapping of part to float
        From the begin of a part's first chunk to the end of its last. Parts overlap, so they do not add up.
    """
    rows = []
    for part in PARTS:
        outcomes = [outcome for outcome in report.outcomes if outcome.part == part]
        if outcomes:
            rows.append(_row(report.haz_sol_id, part, outcomes, wall_secs.get(part, 0.0)))
    curves = [outcome for outcome in report.outcomes if outcome.part != "meta"]
    return [*rows, _row(report.haz_sol_id, ALL_PARTS, curves, report.seconds)]


def _row(haz_sol_id: str, part: str, outcomes: Sequence[ChunkOutcome], wall_secs: float) -> Row:
    """One row; ``/s`` is over wall time, ``/s a worker`` over the time that workers spent in chunks."""
    total = Metrics()
    for outcome in outcomes:
        total.add(outcome.metrics)
    return {
        "calculation": haz_sol_id,
        "part": part,
        "chunks": len(outcomes),
        "failed": sum(outcome.error is not None for outcome in outcomes),
        "items": total.items,
        "MB": round(total.item_bytes / 1e6, 3),
        "WCU": round(total.wcu, 1),
        "seconds": round(wall_secs, 2),
        "reading s": round(total.reading_secs, 2),
        "encoding s": round(total.encoding_secs, 2),
        "writing s": round(total.writing_secs, 2),
        "items/s": per_sec(total.items, wall_secs),
        "items/s a worker": per_sec(total.items, total.seconds),
        "WCU/s": per_sec(total.wcu, wall_secs),
        "WCU/s a worker": per_sec(total.wcu, total.seconds),
        "requests": total.requests,
        "retries": total.retries,
        "throttles": total.throttles,
        "S3 MB": round(total.source_bytes / 1e6, 3),
        "p50 ms": round(1e3 * total.latency_secs(0.5), 1),
        "p95 ms": round(1e3 * total.latency_secs(0.95), 1),
    }


def per_sec(amount: float, seconds: float) -> float:
    """Amount over time, to a tenth; 0.0 in no time."""
    return round(amount / seconds, 1) if seconds > 0 else 0.0


def earlier_run(data: object, ended: str) -> Row | None:
    """Read the row for all parts back from an earlier table artifact.

    Returns None for a run that stored nothing, and for what is no table of ours: somebody else may have used the key,
    or an older version of this program.
    """
    try:
        rows: Any = json.loads(data) if isinstance(data, str) else data
        row: Row = next(row for row in rows if row["part"] == ALL_PARTS)
        return {"ended": ended, "calculation": str(row["calculation"])} | {name: float(row[name]) for name in _COMPARED}
    except (ValueError, TypeError, KeyError, StopIteration):
        return None


def summary_markdown(
    report: StoreReport, rows: Sequence[Row], earlier: Iterable[Row], usd_per_million_wcu: float
) -> str:
    """Write the summary of a run: how it ended, what it cost, and the runs before it, so that a slow night shows.

    Parameters
    ----------
    rows : sequence of rows
        The run's own table.
    earlier : iterable of rows
        Earlier runs, the newest first, as ``earlier_run`` gives them.
    """
    whole = rows[-1]
    before = [row for row in earlier if row["items"] > 0][:EARLIER_RUNS]
    lines = [
        f"# {ending(report)}",
        f"**{whole['items']:,} items** and {whole['WCU']:,.0f} WCU in {whole['seconds']:,.1f} s: "
        f"**{whole['items/s']:,.0f} items/s**, {whole['WCU/s']:,.0f} WCU/s; "
        f"a worker while it stored {whole['items/s a worker']:,.0f} items/s, {whole['WCU/s a worker']:,.0f} WCU/s.",
        f"{whole['requests']:,} requests, {whole['retries']:,} retries, {count(whole['throttles'], 'throttle')}; "
        f"latency {whole['p50 ms']:g} ms (p50), {whole['p95 ms']:g} ms (p95).",
        f"Cost: **{cost_usd(whole['WCU'], usd_per_million_wcu):,.4f} USD** "
        f"at {usd_per_million_wcu:g} USD a million write units.",
    ]
    if read := report.source_bytes():
        sizes = ", ".join(f"{size / 1e6:,.1f}" for size in read.values())
        lines.append(f"Read from S3: {sum(read.values()) / 1e6:,.1f} MB by {count(len(read), 'worker')} ({sizes} MB).")
    if report.skipped:
        lines.append(f"{count(report.skipped, 'chunk')} of {report.chunks:,} stored before.")
    lines += [f"Warning: {as_text(warning)}" for warning in report.warnings]
    if whole["items"] and before:
        usual = median(row["items/s"] for row in before)
        if whole["items/s"] < SLOW_SHARE * usual:
            lines.append(f"**Slower than usual**: {whole['items/s']:,.0f} items/s, the median before {usual:,.0f}.")
    lines.append(_comparison({"ended": "this run"} | dict(whole), before, usd_per_million_wcu))
    return "\n\n".join(lines)


def ending(report: StoreReport) -> str:
    """Say in a few words how a run ended."""
    name = f"{as_code(report.haz_sol_id)} ({report.layout})"
    if report.failed:
        return f"{name}: {len(report.failed)} of {count(len(report.outcomes), 'chunk')} failed"
    return f"{name}: {'complete' if report.complete else 'stored, not complete yet'}"


def cost_usd(wcu: float, usd_per_million_wcu: float) -> float:
    """Price of write units."""
    return wcu * usd_per_million_wcu / 1e6


def _comparison(this: Row, before: Sequence[Row], usd_per_million_wcu: float) -> str:
    columns = ("ended", "calculation", *_COMPARED, "USD")
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in (this, *before):
        figures = (f"{row[name]:,.10g}" for name in _COMPARED)
        cost = f"{cost_usd(row['WCU'], usd_per_million_wcu):,.4f}"
        lines.append(f"| {' | '.join((row['ended'], as_code(row['calculation']), *figures, cost))} |")
    if not before:
        lines.append("\nNo earlier run to compare with.")
    return "\n".join(lines)


def rerun_parameters(report: StoreReport) -> dict[str, Any]:
    """Give the parameters with which ``rerun-failed-chunks`` stores exactly what failed."""
    encoding, partition = layout_words(report.layout)
    return {
        "haz_sol_id": report.haz_sol_id,
        "encoding": encoding,
        "partition": partition,
        "chunks": [outcome.chunk_id for outcome in report.failed],
    }


def failed_chunks_markdown(report: StoreReport, rerun_url: str | None) -> str:
    """Write what failed, each chunk with its error, and how to store it again.

    Parameters
    ----------
    rerun_url : str or None
        Of the form that is filled in for it.
    """
    # ensure_ascii and the escaped backtick: nothing in it can end the fence.
    parameters = json.dumps(rerun_parameters(report), indent=2).replace("`", "\\u0060")
    flags = [word for outcome in report.failed for word in ("--chunk", outcome.chunk_id)]
    command = f"{rerun_command(report.haz_sol_id, report.layout)} {shlex.join(flags)}"
    errors = "\n".join(f"| {as_code(o.chunk_id)} | {as_text(o.error or '')} |" for o in report.failed)
    return "\n\n".join(
        (
            f"# {ending(report)}",
            f"| chunk | error |\n| --- | --- |\n{errors}",
            *([f"**[Store just these again]({rerun_url})**: opens the form, filled in."] if rerun_url else []),
            "To store just these, run the deployment `rerun-failed-chunks` with these parameters:",
            f"```json\n{parameters}\n```",
            "or on the command line:",
            f"```sh\n{command}\n```",
        )
    )
