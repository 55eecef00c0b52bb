"""The ledger: what has been stored, one item a chunk and one a calculation.

A chunk's record says ``done`` only after every one of its items was acknowledged. The records of all calculations
share one hash key, so that listing them is a query; the records of a calculation's chunks share another.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pynamodb.expressions.condition import Condition

from hazard_store.errors import HazardStoreError, NotStoredError
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.names import ChunkId, CurvePart, HazSolId, Part
from hazard_store.planning import Chunk, plan_chunks
from hazard_store.settings import Settings
from hazard_store.sources import SourceStamp
from hazard_store.storage.faults import RetryPolicy, is_condition_failure, translated
from hazard_store.storage.models import LedgerEntry, bind, table_name

# No id may hold a `#`, so this hash key is nobody's.
_CALCULATIONS = "#calculations"

META_CHUNK = ChunkId("meta")

ChunkStatus = Literal["running", "done", "failed"]
CalculationStatus = Literal["storing", "complete", "failed"]


R = TypeVar("R", "ChunkRecord", "CalculationRecord")


def now_text() -> str:
    """Give the present moment as ISO 8601 text in UTC."""
    return datetime.now(tz=UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class ChunkRecord:
    """What the ledger knows of a chunk.

    `identity` is the content it was stored from (see ``CalculationRecord``): a chunk that is done under another
    identity is not done.
    """

    chunk_id: ChunkId
    status: ChunkStatus
    identity: str
    items: int = 0
    wcu: float = 0.0
    digest: str | None = None
    attempts: int = 0
    error: str | None = None
    run_id: str = ""
    started: str = ""
    ended: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def attempt(self) -> str:
        """Which attempt of which run this is."""
        return f"{self.run_id}/{self.attempts}"


@dataclass(frozen=True)
class CalculationRecord:
    """What the ledger knows of a calculation in one layout.

    Attributes
    ----------
    identity : str
        The file's fingerprint and how its sites are coded: what decides whether a done chunk may be skipped.
    curves_per_site : dict of part to int
        Of every part the file holds; with `n_sites` this is the plan.
    parts : tuple
        Parts that were asked for so far.
    bins : tuple of str
        Hash keys under which items of an earlier content may stand, besides those of the sites of this one. It says
        where to look, never what is there.
    source_size, source_mtime_ns, source_etag : int, int, str
        Stamp of the file, archive or object when it was stored: one that still has it need not be read again.
    """

    haz_sol_id: HazSolId
    layout: str
    source: str
    fingerprint: str
    identity: str
    n_sites: int
    curves_per_site: dict[CurvePart, int]
    parts: tuple[Part, ...]
    status: CalculationStatus
    sites: str = "auto"
    parent: str | None = None
    trust_imt_order: bool = False
    items: int = 0
    bins: tuple[str, ...] = ()
    source_size: int = 0
    source_mtime_ns: int = 0
    source_etag: str = ""
    run_id: str = ""
    created: str = field(default_factory=now_text)
    updated: str = field(default_factory=now_text)

    @property
    def source_stamp(self) -> SourceStamp:
        """Of the source when it was stored."""
        return SourceStamp(self.source_size, self.source_mtime_ns, self.source_etag)

    def plan(self) -> list[Chunk]:
        """The chunks of the parts that were asked for."""
        return plan_chunks(self.n_sites, {p: n for p, n in self.curves_per_site.items() if p in self.parts})


class Ledger:
    """Reads and writes the ledger of a stage.

    Parameters
    ----------
    settings : Settings
    policy : RetryPolicy, optional
        How long requests are sent again; by default as long as all others.
    """

    def __init__(self, settings: Settings, policy: RetryPolicy | None = None) -> None:
        self._settings = settings
        self._model = bind(LedgerEntry, settings, policy)

    def calculation(self, haz_sol_id: str, layout: Layout) -> CalculationRecord | None:
        """Give a calculation's record in one layout, or None."""
        return next((r for r in self.calculations(haz_sol_id) if r.layout == layout.name), None)

    def calculations(self, haz_sol_id: str | None = None) -> list[CalculationRecord]:
        """Give the records of all calculations, or of one in every layout, sorted by id and layout."""
        prefix = None if haz_sol_id is None else self._model.entry.startswith(f"{haz_sol_id}#")
        with translated(self._settings, self._table):
            entries = list(self._model.query(_CALCULATIONS, prefix, consistent_read=True))
        return [_record_from_json(CalculationRecord, entry.record) for entry in entries]

    def require_calculation(self, haz_sol_id: str, layout: Layout | None = None) -> CalculationRecord:
        """Give the record of a calculation, in whichever layout it is if none is named.

        Raises
        ------
        NotStoredError
            If the ledger does not know it.
        """
        records = [r for r in self.calculations(haz_sol_id) if layout is None or r.layout == layout.name]
        if not records:
            where = f" in {layout.name}" if layout else ""
            raise NotStoredError(
                f"nothing is stored under {haz_sol_id!r}{where} at stage {self._settings.stage}: "
                "`hazard-store status` lists what is"
            )
        return max(records, key=lambda record: record.updated)

    def save_calculation(self, record: CalculationRecord) -> None:
        """Write a calculation's record."""
        self._save(_CALCULATIONS, f"{record.haz_sol_id}#{record.layout}", record.status, record)

    def chunks(self, haz_sol_id: str, layout: Layout) -> dict[ChunkId, ChunkRecord]:
        """Give the records of a calculation's chunks in one layout."""
        prefix = _chunk_entry(layout, ChunkId(""))
        with translated(self._settings, self._table):
            entries = list(self._model.query(haz_sol_id, self._model.entry.startswith(prefix), consistent_read=True))
        records = (_record_from_json(ChunkRecord, entry.record) for entry in entries)
        return {record.chunk_id: record for record in records}

    def chunk(self, haz_sol_id: str, layout: Layout, chunk_id: ChunkId) -> ChunkRecord | None:
        """Give the record of one chunk, or None."""
        with translated(self._settings, self._table):
            try:
                entry = self._model.get(haz_sol_id, _chunk_entry(layout, chunk_id), consistent_read=True)
            except self._model.DoesNotExist:
                return None
        return _record_from_json(ChunkRecord, entry.record)

    def save_chunk(self, haz_sol_id: str, layout: Layout, record: ChunkRecord) -> None:
        """Write a chunk's record, whatever is there."""
        self._save(haz_sol_id, _chunk_entry(layout, record.chunk_id), record.status, record)

    def update_chunk(self, haz_sol_id: str, layout: Layout, record: ChunkRecord) -> bool:
        """Write what became of an attempt that did not end well; False if the chunk was done, or tried again, since.

        Dask runs a task again whose worker it lost; that one may live, and must not undo what its successor recorded.
        """
        model = self._model
        condition = (model.attempt == record.attempt) & (model.status != "done")
        try:
            self._save(haz_sol_id, _chunk_entry(layout, record.chunk_id), record.status, record, condition)
        except HazardStoreError as exc:
            if is_condition_failure(exc):
                return False
            raise
        return True

    def start_chunk(
        self, haz_sol_id: str, layout: Layout, chunk_id: ChunkId, *, identity: str, run_id: str
    ) -> ChunkRecord:
        """Mark a chunk as running and count the attempt; gives the record to end it with.

        A chunk that this very run has done is left as it is: Dask runs a task again whose worker died with its result.
        """
        earlier = self.chunk(haz_sol_id, layout, chunk_id)
        if earlier is not None and (earlier.status, earlier.run_id, earlier.identity) == ("done", run_id, identity):
            return earlier
        attempts = earlier.attempts if earlier is not None and earlier.identity == identity else 0
        record = ChunkRecord(chunk_id, "running", identity, attempts=attempts + 1, run_id=run_id, started=now_text())
        self.save_chunk(haz_sol_id, layout, record)
        return record

    def delete(self, haz_sol_id: str, layout: Layout) -> int:
        """Forget a calculation in one layout, its own record last; gives the number of entries removed."""
        removed = 0
        for chunk_id in self.chunks(haz_sol_id, layout):
            removed += self._delete(haz_sol_id, _chunk_entry(layout, chunk_id))
        return removed + self._delete(_CALCULATIONS, f"{haz_sol_id}#{layout.name}")

    def delete_chunks(self, haz_sol_id: str, layout: Layout, *, keep: Container[ChunkId] = ()) -> None:
        """Forget all chunks but those to keep; the calculation's own record stays."""
        for chunk_id in self.chunks(haz_sol_id, layout):
            if chunk_id not in keep:
                self._delete(haz_sol_id, _chunk_entry(layout, chunk_id))

    @property
    def _table(self) -> str:
        return table_name(LedgerEntry.table_base, self._settings)

    def _save(
        self,
        hash_key: str,
        entry: str,
        status: str,
        record: ChunkRecord | CalculationRecord,
        condition: Condition | None = None,
    ) -> None:
        with translated(self._settings, self._table):
            self._model(
                haz_sol_id=hash_key,
                entry=entry,
                status=status,
                fingerprint=record.identity,
                record=asdict(record),
                attempt=record.attempt if isinstance(record, ChunkRecord) else None,
            ).save(condition=condition)

    def _delete(self, hash_key: str, entry: str) -> int:
        with translated(self._settings, self._table):
            self._model(haz_sol_id=hash_key, entry=entry).delete()
        return 1


def end_chunk(record: ChunkRecord, **changes: Any) -> ChunkRecord:
    """Give a running chunk's record as it ends now."""
    return replace(record, ended=now_text(), **changes)


def layout_of(record: CalculationRecord) -> Layout:
    """The layout a record is about."""
    return LAYOUTS[record.layout]


def _chunk_entry(layout: Layout, chunk_id: ChunkId) -> str:
    return f"{layout.name}#chunk#{chunk_id}"


def _record_from_json(kind: type[R], document: dict[str, Any]) -> R:
    """Make a record from its JSON; fields that a newer version added are left out, missing ones take their default."""
    known = {f.name for f in fields(kind)}
    values = {name: value for name, value in document.items() if name in known}
    values |= {name: tuple(values[name]) for name in ("parts", "bins") if name in values}
    return kind(**values)
