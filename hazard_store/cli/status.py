"""``status``: what the ledger knows of what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS
from hazard_store.cli.options import example, json_option
from hazard_store.cli.output import count, note, put, put_fields, put_json, put_table
from hazard_store.cli.storing import rerun_command

if TYPE_CHECKING:
    from hazard_store.ledger import CalculationRecord, ChunkRecord, Ledger
    from hazard_store.names import ChunkId

STATES = ("done", "failed", "running", "missing")


@dataclass(frozen=True)
class Standing:
    """A calculation in one layout as the ledger has it: its chunks by what became of them."""

    record: CalculationRecord
    chunks: dict[ChunkId, ChunkRecord]
    states: dict[ChunkId, str]

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for is stored, and the run that stored it came to its end."""
        return self.record.status == "complete" and set(self.states.values()) <= {"done"}

    @property
    def mend(self) -> str | None:
        """The command that stores what is not done."""
        return None if self.is_complete else rerun_command(self.record.haz_sol_id, self.record.layout)

    def of(self, state: str, part: str | None = None) -> list[ChunkId]:
        """Ids of the chunks in a state, of one part or of all."""
        return [c for c, s in self.states.items() if s == state and part in (None, c.partition(":")[0])]

    def items_per_sec(self, part: str | None = None) -> float:
        """Items over the time from the first start to the last end of each run."""
        spans: dict[str, tuple[float, float]] = {}
        items = 0
        for chunk_id in self.of("done", part):
            chunk = self.chunks[chunk_id]
            if chunk.ended and chunk_id != "meta":
                items += chunk.items
                start, end = (datetime.fromisoformat(text).timestamp() for text in (chunk.started, chunk.ended))
                first, last = spans.get(chunk.run_id, (start, end))
                spans[chunk.run_id] = (min(first, start), max(last, end))
        seconds = sum(last - first for first, last in spans.values())
        return items / seconds if seconds > 0 else 0.0

    def wcu(self, part: str | None = None) -> float:
        """Write units that the done chunks took."""
        return sum(self.chunks[chunk_id].wcu for chunk_id in self.of("done", part))

    def items(self, part: str | None = None) -> int:
        """Items of the done chunks."""
        return sum(self.chunks[chunk_id].items for chunk_id in self.of("done", part))


def standing_of(ledger: Ledger, record: CalculationRecord) -> Standing:
    """Compare the plan of a calculation with the records of its chunks."""
    from hazard_store.ledger import META_CHUNK, layout_of

    chunks = ledger.chunks(record.haz_sol_id, layout_of(record))
    states: dict[ChunkId, str] = {}
    for chunk_id in (META_CHUNK, *(chunk.id for chunk in record.plan())):
        known = chunks.get(chunk_id)
        # A chunk of an earlier content of the file is as good as none.
        states[chunk_id] = "missing" if known is None or known.identity != record.identity else known.status
    return Standing(record, chunks, states)


@click.command(
    context_settings=CONTEXT_SETTINGS, epilog=example("hazard-store status", "hazard-store status NZ-2026-A --json")
)
@click.argument("haz_sol_id", required=False, metavar="[ID]")
@json_option
def status(haz_sol_id: str | None, as_json: bool) -> None:
    """List what is stored, or how one calculation stands.

    With an ID: its chunks by part, errors, throughput, and the command that mends it.
    """
    from hazard_store.ledger import Ledger
    from hazard_store.settings import Settings

    ledger = Ledger(Settings.from_environment())
    if haz_sol_id is None:
        _put_calculations(ledger.calculations(), as_json)
        return
    ledger.require_calculation(haz_sol_id)
    standings = [standing_of(ledger, record) for record in ledger.calculations(haz_sol_id)]
    if as_json:
        put_json({"haz_sol_id": haz_sol_id, "calculations": [standing_to_json(s) for s in standings]})
        return
    for number, standing in enumerate(standings):
        if number:
            put()
        _put_standing(standing)


def _put_calculations(records: list[CalculationRecord], as_json: bool) -> None:
    if as_json:
        put_json({"calculations": [record_to_json(record) for record in records]})
    elif not records:
        note("nothing is stored at this stage")
    else:
        put_table(
            ("id", "layout", "status", "items", "updated (UTC)", "source"),
            (
                (r.haz_sol_id, r.layout, r.status, f"{r.items:,}", r.updated[:16].replace("T", " "), r.source)
                for r in records
            ),
            numbers="lllrll",
        )


def record_to_json(record: CalculationRecord) -> dict[str, Any]:
    """Give what the ledger has of a calculation as such."""
    return {
        "haz_sol_id": record.haz_sol_id,
        "layout": record.layout,
        "status": record.status,
        "complete": record.status == "complete",
        "parts": list(record.parts),
        "items": record.items,
        "sites": record.n_sites,
        "source": record.source,
        "fingerprint": record.fingerprint,
        "run_id": record.run_id,
        "created": record.created,
        "updated": record.updated,
    }


def standing_to_json(standing: Standing) -> dict[str, Any]:
    """Give a calculation with its chunks."""
    return record_to_json(standing.record) | {
        "complete": standing.is_complete,
        "chunks": {"total": len(standing.states)} | {state: len(standing.of(state)) for state in STATES},
        "parts_stored": {
            part: {state: len(standing.of(state, part)) for state in STATES}
            | {
                "items": standing.items(part),
                "wcu": standing.wcu(part),
                "items_per_sec": standing.items_per_sec(part),
            }
            for part in standing.record.parts
        },
        "failed": [{"chunk": c, "error": standing.chunks[c].error} for c in standing.of("failed")],
        "running": standing.of("running"),
        "missing": standing.of("missing"),
        "wcu": standing.wcu(),
        "items_per_sec": standing.items_per_sec(),
        "mend": standing.mend,
    }


def _put_standing(standing: Standing) -> None:
    record = standing.record
    put_fields(
        [
            ("id", record.haz_sol_id),
            ("layout", record.layout),
            ("status", "complete" if standing.is_complete else record.status),
            ("source", record.source),
            ("sites", f"{record.n_sites:,}"),
            ("parts", ", ".join(record.parts)),
            ("stored", f"{count(standing.items(), 'item')}, {standing.wcu():,.0f} WCU"),
            ("updated", f"{record.updated} (run {record.run_id})"),
        ]
    )
    put()
    put_table(
        ("part", "chunks", *STATES, "items", "WCU", "items/s"),
        (
            (
                part,
                str(sum(len(standing.of(state, part)) for state in STATES)),
                *(str(len(standing.of(state, part))) for state in STATES),
                f"{standing.items(part):,}",
                f"{standing.wcu(part):,.0f}",
                f"{standing.items_per_sec(part):,.0f}",
            )
            for part in record.parts
        ),
        numbers="lrrrrrrrr",
    )
    for chunk_id in standing.of("failed"):
        put(f"failed: {chunk_id}: {standing.chunks[chunk_id].error}")
    for chunk_id in standing.of("running"):
        put(f"running since {standing.chunks[chunk_id].started}: {chunk_id}")
    for chunk_id in standing.of("missing"):
        put(f"missing: {chunk_id}")
    if standing.mend:
        alive = ", unless a run is under way" if standing.of("running") else ""
        put(f"mend it with: {standing.mend}{alive}")
