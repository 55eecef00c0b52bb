"""What is found out of a request to store before the ledger is asked, and before anything is written."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from hazard_store.chunks import kinds_of
from hazard_store.errors import UsageError
from hazard_store.inventory import places_of
from hazard_store.jobs import StoreJob, StoreRequest
from hazard_store.layouts import layout_from_names
from hazard_store.ledger import META_CHUNK
from hazard_store.names import CURVE_PARTS, PARTS, CurvePart, Part, haz_sol_id_from_text, parts_in_order
from hazard_store.oq import Calculation
from hazard_store.oq.trial import open_tried
from hazard_store.planning import Chunk, plan_chunks, select_chunks
from hazard_store.settings import Settings
from hazard_store.sources.reading import Reading
from hazard_store.storage.models import CalculationMeta, LedgerEntry, V2Meta
from hazard_store.storage.tables import require_tables
from hazard_store.stored import Place


@dataclass(frozen=True)
class Checked:
    """A request whose file was read and found right, before the ledger was asked."""

    job: StoreJob
    places: tuple[Place, ...]
    kinds: dict[CurvePart, list[str]]
    chunks: list[Chunk]
    named: list[Chunk]
    tables_made: dict[CurvePart, datetime]
    warnings: tuple[str, ...]


def check_request(request: StoreRequest, settings: Settings) -> Checked:
    """Read a calculation whole, and see that it can be stored as it is asked for.

    Raises
    ------
    SourceError
        If it cannot be read rightly.
    UsageError
        If the id, a part, a chunk or the layout means nothing.
    StorageError
        If the store cannot be reached or a table is missing.
    """
    haz_sol_id = haz_sol_id_from_text(request.haz_sol_id)
    layout = layout_from_names(request.encoding, request.partition)
    if request.max_wcu is not None and request.max_wcu <= 0:
        raise UsageError(f"--max-wcu must be above 0, not {request.max_wcu:g}")
    reading = Reading.from_environment()
    unknown = set(request.parts) - set(PARTS)
    if unknown:
        raise UsageError(f"unknown part {min(unknown)!r}: choose {', '.join(PARTS)}")
    with open_tried(
        request.source, parent=request.parent, sites=request.sites, trust_imt_order=request.trust_imt_order
    ) as calculation:
        curves_per_site: dict[CurvePart, int] = {
            part: calculation.number_of(part) for part in CURVE_PARTS if calculation.curves[part] is not None
        }
        for part in request.parts:
            if part != "meta" and part not in curves_per_site:
                raise UsageError(_missing_part(part, calculation))
        parts = parts_in_order(request.parts or ("meta", *curves_per_site))
        tables = {CalculationMeta.table_base, LedgerEntry.table_base, *(layout.table_base(p) for p in curves_per_site)}
        made = require_tables(tables | ({V2Meta.table_base} if layout.is_v2 else set()), settings)
        # Reads the whole file, and so comes after what fails quickly.
        calculation.check_curves()
        job = StoreJob(
            source=calculation.source,
            stamp=calculation.stamp,
            fingerprint=calculation.fingerprint,
            haz_sol_id=haz_sol_id,
            layout=layout,
            parts=parts,
            settings=settings,
            sites=request.sites,
            parent=request.parent,
            trust_imt_order=request.trust_imt_order,
            max_wcu=request.max_wcu,
            connections=request.connections,
            run_id=uuid.uuid4().hex[:12],
            reading=reading,
            chunked=calculation.has_chunked_curves,
        )
        calculation.check_unchanged()
        places = places_of(calculation)
        chunks = plan_chunks(len(places), {p: n for p, n in curves_per_site.items() if p in job.parts})
        named = select_chunks(chunks, [name for name in request.chunks if name != META_CHUNK])
        tables_made = {part: made[layout.table_base(part)] for part in curves_per_site}
        kinds = {part: kinds_of(calculation, part) for part in curves_per_site}
        return Checked(job, places, kinds, chunks, named, tables_made, calculation.warnings)


def _missing_part(part: Part, calculation: Calculation) -> str:
    setting = "individual_rlzs = true" if part == "realisations" else "mean = true, or quantiles"
    return f"{calculation.source} holds no {part}: run the job with `{setting}` to have them"
