"""How a calculation stands: what the ledger has of its chunks, beside the chunks that it should have."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from hazard_store.errors import TableMissingError
from hazard_store.ledger import META_CHUNK, CalculationRecord, ChunkRecord, Ledger, layout_of
from hazard_store.names import ChunkId, CurvePart
from hazard_store.planning import Chunk
from hazard_store.settings import Settings
from hazard_store.storage.tables import require_tables

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


def standing_of(record: CalculationRecord, settings: Settings) -> Standing:
    """Compare the plan of a calculation with the records of its chunks, and those with the tables that are there."""
    layout = layout_of(record)
    chunks = Ledger(settings).chunks(record.haz_sol_id, layout)
    made: dict[CurvePart, datetime] = {}
    for part in record.curves_per_site:
        with suppress(TableMissingError):
            base = layout.table_base(part)
            made[part] = require_tables({base}, settings)[base]
    meta = chunks.get(META_CHUNK)
    states: dict[ChunkId, str] = {META_CHUNK: _state(meta, record.identity)}
    for chunk in record.plan():
        state = _state(chunks.get(chunk.id), record.identity)
        gone = state == "done" and not is_stored(chunk, chunks, record.identity, made)
        states[chunk.id] = "missing" if gone else state
    return Standing(record, chunks, states)


def _state(known: ChunkRecord | None, identity: str) -> str:
    # A chunk of an earlier content of the file is as good as none.
    return "missing" if known is None or known.identity != identity else known.status


def is_done(record: ChunkRecord | None, identity: str) -> bool:
    """Whether the ledger has a chunk as stored from this very content."""
    return record is not None and record.status == "done" and record.identity == identity


def is_stored(
    chunk: Chunk,
    records: Mapping[ChunkId, ChunkRecord],
    identity: str,
    tables_made: Mapping[CurvePart, datetime],
    run_id: str | None = None,
) -> bool:
    """Whether the ledger has a chunk as done, in the table that is there now: one may have been deleted since.

    Parameters
    ----------
    tables_made : mapping
        When the tables that are there were made.
    run_id : str, optional
        The run that asks: what it stored it stored here, whatever the worker's clock says.
    """
    record = records.get(chunk.id)
    if record is None or record.ended is None or not is_done(record, identity):
        return False
    if run_id is not None and record.run_id == run_id:
        return True
    made = tables_made.get(chunk.part)
    return made is not None and datetime.fromisoformat(record.ended) >= made
