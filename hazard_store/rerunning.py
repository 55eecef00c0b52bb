"""Rerunning: storing what a run left, from the file that the rest was stored from, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hazard_store.errors import SourceChangedError, UsageError
from hazard_store.jobs import SiteCodes, StoreRequest
from hazard_store.ledger import META_CHUNK, CalculationRecord, Ledger
from hazard_store.names import ChunkId, haz_sol_id_from_text, layout_words
from hazard_store.oq.trial import open_tried
from hazard_store.planning import select_chunks
from hazard_store.settings import Settings
from hazard_store.standing import Standing, standing_of

LEFT = "failed"
"""The word for all chunks that are not stored: those that failed, and those that no run came to."""


@dataclass(frozen=True)
class Rerun:
    """What a rerun would do.

    Attributes
    ----------
    request : StoreRequest or None
        None where there is nothing to do.
    chunks : tuple of ChunkId
        What it would store, in the plan's order; none where only the run's end is missing.
    """

    standing: Standing
    request: StoreRequest | None
    chunks: tuple[ChunkId, ...]

    @property
    def summary(self) -> str:
        """One line: ``2 of 9 chunks of MY-ID (packed+solution) to store``."""
        record, total = self.standing.record, len(self.standing.states)
        name = f"{record.haz_sol_id} ({record.layout})"
        if self.request is None:
            number = total - 1
            chunks = "1 chunk" if number == 1 else f"{number:,} chunks"
            return f"nothing to do: {chunks} of {name} and its meta are stored"
        return f"{len(self.chunks):,} of {total:,} chunks of {name} to store"


def plan_rerun(
    haz_sol_id: str,
    settings: Settings,
    *,
    chunks: Sequence[str] = (),
    encoding: str | None = None,
    partition: str | None = None,
    source: str | None = None,
    max_wcu: float | None = None,
) -> Rerun:
    """Find out what a rerun has to store. Nothing is written.

    Parameters
    ----------
    chunks : sequence of str
        Ids, ranges such as ``realisations:04000-06000``, parts, or ``failed`` for all that is not stored. The named
        ones are stored even if they are done. Empty is ``failed``.
    encoding, partition : str, optional
        Needed only where the calculation is stored in several layouts.
    source : str, optional
        Where the file is now; by default where it was.

    Raises
    ------
    UsageError
        If a chunk or layout is not one of this calculation's.
    NotStoredError
        If the ledger does not know the id.
    SourceError
        If the file cannot be read, or is another one.
    """
    wanted = set(chunks) or {LEFT}
    ledger = Ledger(settings)
    ledger.require_calculation(haz_sol_id_from_text(haz_sol_id))
    found = [standing_of(record, settings) for record in ledger.calculations(haz_sol_id)]
    standing = choose_standing(found, encoding, partition, by_name=wanted != {LEFT})
    record = standing.record
    picked: set[ChunkId] = {chunk.id for chunk in select_chunks(record.plan(), sorted(wanted - {LEFT, META_CHUNK}))}
    if wanted == {LEFT} and standing.is_complete:
        return Rerun(standing, None, ())
    for chunk_id, state in standing.states.items():
        # A store writes a meta that is missing, whatever chunks it was asked for.
        if state != "done" and (LEFT in wanted or chunk_id == META_CHUNK):
            picked.add(chunk_id)
    ids = tuple(chunk_id for chunk_id in standing.states if chunk_id in picked)
    stored_encoding, stored_partition = layout_words(record.layout)
    request = StoreRequest(
        source=source or record.source,
        haz_sol_id=record.haz_sol_id,
        parts=record.parts,
        chunks=() if wanted == {LEFT} else (*ids, *sorted(wanted & {META_CHUNK})),
        encoding=stored_encoding,
        partition=stored_partition,
        sites=_sites_of(record),
        parent=record.parent,
        trust_imt_order=record.trust_imt_order,
        max_wcu=max_wcu,
    )
    _require_same_file(record, request.source)
    return Rerun(standing, request, ids)


def choose_standing(found: list[Standing], encoding: str | None, partition: str | None, *, by_name: bool) -> Standing:
    """Pick the layout that is meant: the one named, the only one, or the only one that is not complete.

    Raises
    ------
    UsageError
        If none fits, or several do.
    """
    fitting = [
        standing
        for standing in found
        if all(w in (None, s) for w, s in zip((encoding, partition), layout_words(standing.record.layout), strict=True))
    ]
    if not fitting:
        stored = ", ".join(standing.record.layout for standing in found)
        raise UsageError(f"{found[0].record.haz_sol_id} is not stored in that layout, but in {stored}")
    open_ones = fitting if by_name else [standing for standing in fitting if not standing.is_complete]
    if len(open_ones) > 1:
        layouts = ", ".join(standing.record.layout for standing in open_ones)
        raise UsageError(f"{found[0].record.haz_sol_id} is stored as {layouts}: choose with --encoding and --partition")
    return open_ones[0] if open_ones else fitting[0]


def _require_same_file(record: CalculationRecord, source: str) -> None:
    """A rerun fills gaps; chunks of another file between those that are stored would be worse than the gap."""
    with open_tried(
        source, parent=record.parent, sites=_sites_of(record), trust_imt_order=record.trust_imt_order
    ) as calculation:
        if calculation.fingerprint != record.fingerprint:
            raise SourceChangedError(
                f"the file is not the one that {record.haz_sol_id} was stored from: store it anew with "
                "`hazard-store store`",
                source=source,
            )


def _sites_of(record: CalculationRecord) -> SiteCodes:
    return "normalised" if record.sites == "normalised" else "auto"
