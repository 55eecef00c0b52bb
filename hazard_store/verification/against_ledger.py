"""Comparing with the ledger (`digest`), without the file: what the tables return has the digests of the store."""

from __future__ import annotations

from bisect import bisect_right

from hazard_store import digest
from hazard_store.errors import CorruptItemError, NotStoredError
from hazard_store.fetching import place_of
from hazard_store.inventory import Inventory
from hazard_store.ledger import META_CHUNK, ChunkRecord
from hazard_store.meta import Meta
from hazard_store.meta_document import document_digest
from hazard_store.names import CURVE_PARTS, ChunkId, CurvePart
from hazard_store.planning import Chunk
from hazard_store.standing import Standing, standing_of
from hazard_store.verification import metas
from hazard_store.verification.differences import Difference, Tally
from hazard_store.verification.subject import OnProgress, Subject
from hazard_store.verification.walk import Found, Walk, note_undecodable


def compare_with_ledger(subject: Subject, tally: Tally, on_progress: OnProgress) -> Meta | None:
    """Compare meta and curves with the ledger's digests; gives the stored meta.

    Raises
    ------
    NotStoredError
        If the ledger does not know the calculation.
    """
    if subject.record is None:
        raise NotStoredError(
            f"the ledger does not know {subject.haz_sol_id!r} in {subject.layout.name}, and so has no digests: "
            "verify it against its file, with mode full"
        )
    standing = standing_of(subject.record, subject.settings)
    meta = metas.read_stored_meta(subject.haz_sol_id, subject.layout, subject.settings, tally)
    if meta is None:
        # Nothing says which IMTs the items hold, in which order.
        return None
    _compare_meta(meta, standing, tally)
    metas.compare_v2(meta, subject.settings, tally)
    if len(meta.codes) != standing.record.n_sites:
        metas.note_difference(tally, "sites", f"{standing.record.n_sites} sites", f"{len(meta.codes)} sites")
        return meta
    total = sum(chunk.items for chunk in standing.record.plan())
    for part in CURVE_PARTS:
        _PartDigests(subject, meta, part, standing, tally).compare(on_progress, total)
    return meta


def _compare_meta(meta: Meta, standing: Standing, tally: Tally) -> None:
    expected = _digest_of(standing, META_CHUNK)
    if expected is None:
        metas.note_difference(tally, "no digest", standing.states[META_CHUNK], None)
    elif (got := document_digest(meta.document)) != expected:
        metas.note_difference(tally, "digest", expected, got)
    if sorted(meta.parts) != sorted(standing.record.parts):
        metas.note_difference(tally, "parts", sorted(standing.record.parts), sorted(meta.parts))


def _digest_of(standing: Standing, chunk_id: ChunkId) -> str | None:
    """Give the digest of a chunk that is stored, as far as the ledger knows."""
    record: ChunkRecord | None = standing.chunks.get(chunk_id)
    return record.digest if record is not None and standing.states[chunk_id] == "done" else None


class _PartDigests:
    """Sums up the digests of a part's items, chunk by chunk."""

    def __init__(self, subject: Subject, meta: Meta, part: CurvePart, standing: Standing, tally: Tally) -> None:
        self._chunks: list[Chunk] = [chunk for chunk in standing.record.plan() if chunk.part == part]
        self._starts = [chunk.start for chunk in self._chunks]
        self._sums = [0] * len(self._chunks)
        self._items = [0] * len(self._chunks)
        self._standing = standing
        self._meta = meta
        self._tally = tally
        places = [place_of(meta, site) for site in range(len(meta.codes))]
        self._walk = Walk(Inventory(subject.stored(part), places, meta.kinds(part)), meta.imtls, tally)

    def compare(self, on_progress: OnProgress, total: int) -> None:
        for found in self._walk.everything():
            self._add(found)
            on_progress(self._tally.checked_items, total)
        for number, chunk in enumerate(self._chunks):
            self._compare_chunk(chunk, self._sums[number], self._items[number])

    def _add(self, found: Found) -> None:
        if isinstance(found.poes, CorruptItemError):
            note_undecodable(found, self._tally)
            return
        self._tally.checked_values += found.poes.size
        if self._chunks:
            number = bisect_right(self._starts, found.site) - 1
            self._items[number] += 1
            self._sums[number] += digest.curves_digest([found.item.code], [found.item.kind], found.poes[None, None])

    def _compare_chunk(self, chunk: Chunk, got: int, n_items: int) -> None:
        codes = self._meta.codes
        where = f"{codes[chunk.start]} to {codes[chunk.stop - 1]}"
        expected = _digest_of(self._standing, chunk.id)
        if expected is None:
            self._tally.different += 1
            self._tally.note(Difference("no digest", where, chunk.id, expected=self._standing.states[chunk.id]))
        # A chunk that lacks items cannot have its digest; what it lacks is counted and named already.
        elif n_items == chunk.items and (text := digest.digest_to_text(digest.combine_digests([got]))) != expected:
            self._tally.different += 1
            self._tally.note(Difference("digest", where, chunk.id, expected=expected, got=text))
