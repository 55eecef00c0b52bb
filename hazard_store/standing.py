"""How a calculation stands: what the ledger has of its chunks, beside the chunks that it should have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hazard_store.ledger import META_CHUNK, CalculationRecord, ChunkRecord, Ledger, layout_of
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
    chunks = ledger.chunks(record.haz_sol_id, layout_of(record))
    states: dict[ChunkId, str] = {}
    for chunk_id in (META_CHUNK, *(chunk.id for chunk in record.plan())):
        known = chunks.get(chunk_id)
        # A chunk of an earlier content of the file is as good as none.
        states[chunk_id] = "missing" if known is None or known.identity != record.identity else known.status
    return Standing(record, chunks, states)
