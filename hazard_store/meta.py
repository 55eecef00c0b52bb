"""The meta of a stored calculation: what a reader needs beside the curves, and whether they are complete.

A meta is one JSON document, compressed. Where it does not fit into one item of 400 KB it is cut into segments, which
are written first, under the document's own hash; the head item that names them is written last, and the segments of
the old document go after that. A reader who had the old head, and comes too late for them, reads the new one.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import zstandard

from hazard_store.errors import CorruptItemError, NotStoredError
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.meta_document import document_to_json
from hazard_store.names import CurvePart, HazSolId
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import CalculationMeta, bind

# An item holds 400 KB, attribute names included; the rest of a segment's item is under 1 KB.
MAX_SEGMENT_BYTES = 390_000

# Nothing of a calculation is changed for so long after its meta said that it is not complete any more: whoever has read
# meta and curves within that need not look at the meta again. A store's first curve came 24 ms later by itself.
QUIET_SECS = 0.05

# A document is JSON of at most some MB; the bound keeps a damaged one from asking for all memory.
MAX_DOCUMENT_BYTES = 1 << 30


@dataclass(frozen=True)
class Meta:
    """A stored calculation's meta.

    Attributes
    ----------
    complete : bool
        Whether every chunk of everything that was asked for is stored.
    parts : tuple of str
        The parts that were asked for.
    document : dict
        The calculation as ``meta_document.calculation_to_document`` wrote it.
    generation : str
        Another one for another document, of a meta that was read.
    """

    haz_sol_id: HazSolId
    layout: Layout
    complete: bool
    parts: tuple[str, ...]
    document: dict[str, Any]
    generation: str = field(default="", compare=False)

    @cached_property
    def codes(self) -> list[str]:
        """Site codes in the file's order."""
        codes: list[str] = self.document["sites"]["code"]
        return codes

    @cached_property
    def lat(self) -> npt.NDArray[np.float64]:
        """Shape (n_sites,), degrees."""
        return np.array(self.document["sites"]["lat"], np.float64)

    @cached_property
    def lon(self) -> npt.NDArray[np.float64]:
        """Shape (n_sites,), degrees."""
        return np.array(self.document["sites"]["lon"], np.float64)

    @cached_property
    def vs30(self) -> npt.NDArray[np.float64]:
        """Shape (n_sites,), m/s; NaN where the calculation has none."""
        return np.array(self.document["sites"]["vs30"], np.float64)

    @cached_property
    def imtls(self) -> dict[str, npt.NDArray[np.float64]]:
        """Intensity levels by IMT, in stored order."""
        return {imt: np.array(levels, np.float64) for imt, levels in self.document["imtls"].items()}

    def kinds(self, part: CurvePart) -> list[str]:
        """What the range keys of a part end with: short names of statistics, or ordinals."""
        kinds: list[str] = self.document["kinds"][part] if part in self.parts else []
        return kinds

    def describe(self) -> dict[str, Any]:
        """The JSON of ``hazard-store meta ID --json``: the form of ``inspect --json`` with what is stored."""
        document = dict(self.document)
        sites = document.pop("sites")
        realisations = document.pop("realisations")
        document["sites"] = [dict(zip(sites, row, strict=True)) for row in zip(*sites.values(), strict=True)]
        document["realisations"] = [
            dict(zip(realisations, row, strict=True)) for row in zip(*realisations.values(), strict=True)
        ]
        return {
            "haz_sol_id": self.haz_sol_id,
            "encoding": self.layout.encoding.name,
            "partition": self.layout.partition.name,
            "complete": self.complete,
            "parts": list(self.parts),
        } | document


def _compress(document: dict[str, Any]) -> bytes:
    n_bytes = sum(len(piece) for piece in document_to_json(document))
    # With its size in front, by which readers bound what they unpack.
    compressor = zstandard.ZstdCompressor(level=9).compressobj(size=n_bytes)
    return b"".join([*map(compressor.compress, document_to_json(document)), compressor.flush()])


def write_meta(meta: Meta, settings: Settings) -> float:
    """Write a meta whole: segments first, the head last, then remove the segments of an earlier document.

    Returns
    -------
    float
        Write units that its items took.
    """
    model = bind(CalculationMeta, settings)
    payload = _compress(meta.document)
    generation = hashlib.sha256(payload).hexdigest()[:16]
    cut = range(0, len(payload), MAX_SEGMENT_BYTES)
    segments = [payload[start : start + MAX_SEGMENT_BYTES] for start in cut] if len(cut) > 1 else []
    layout = meta.layout.name
    with translated(settings, model.Meta.table_name):
        wcu: float = 0.0
        for number, segment in enumerate(segments):
            entry = _segment_entry(layout, generation, number)
            wcu += model(haz_sol_id=meta.haz_sol_id, entry=entry, payload=segment).put()
        wcu += model(
            haz_sol_id=meta.haz_sol_id,
            entry=layout,
            complete=meta.complete,
            parts=set(meta.parts),
            generation=generation,
            segments=len(segments),
            payload=None if segments else payload,
        ).put()
        # Consistent reads, here and below: others may miss what a run before this one wrote just now.
        prefix = model.entry.startswith(f"{layout}#")
        for item in model.query(meta.haz_sol_id, prefix, attributes_to_get=["entry"], consistent_read=True):
            if not item.entry.startswith(f"{layout}#{generation}#"):
                model(haz_sol_id=meta.haz_sol_id, entry=item.entry).delete()
    return wcu


def mark_complete(haz_sol_id: str, layout: Layout, settings: Settings, *, complete: bool) -> None:
    """Tell readers whether every chunk is stored, if there is a meta to tell it in.

    That they are not any more, readers have known for `QUIET_SECS` when this returns.
    """
    model = bind(CalculationMeta, settings)
    with translated(settings, model.Meta.table_name):
        if model.count(haz_sol_id, model.entry == layout.name, consistent_read=True):
            model(haz_sol_id=haz_sol_id, entry=layout.name).update(actions=[model.complete.set(complete)])
            if not complete:
                time.sleep(QUIET_SECS)


def read_meta(haz_sol_id: str, settings: Settings, layout: Layout | None = None) -> Meta:
    """Read a calculation's meta.

    Parameters
    ----------
    layout : Layout, optional
        By default the layout that is complete, else any; packed before list.

    Raises
    ------
    NotStoredError
        If there is none.
    CorruptItemError
        If it is damaged.
    """
    head, payload = _read_payload(haz_sol_id, settings, layout)
    try:
        document = orjson.loads(zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_DOCUMENT_BYTES))
    except (zstandard.ZstdError, orjson.JSONDecodeError) as exc:
        raise CorruptItemError(f"the meta of {haz_sol_id!r} does not decode ({exc}): store it again") from exc
    return Meta(
        haz_sol_id=HazSolId(haz_sol_id),
        layout=LAYOUTS[head.entry],
        complete=bool(head.complete),
        parts=tuple(sorted(head.parts or ())),
        document=document,
        generation=head.generation or "",
    )


def still_stands(meta: Meta, settings: Settings) -> bool:
    """Whether a meta that was read is the one that is stored, and as complete as it was."""
    model = bind(CalculationMeta, settings)
    with translated(settings, model.Meta.table_name):
        try:
            head = model.get(
                meta.haz_sol_id,
                meta.layout.name,
                consistent_read=True,
                attributes_to_get=["complete", "generation"],
            )
        except model.DoesNotExist:
            return False
    return (bool(head.complete), head.generation or "") == (meta.complete, meta.generation)


def _read_payload(haz_sol_id: str, settings: Settings, layout: Layout | None) -> tuple[CalculationMeta, bytes]:
    """Read the head and the compressed document that it names."""
    model = bind(CalculationMeta, settings)
    incomplete: str | None = None
    while True:
        with translated(settings, model.Meta.table_name):
            items = {item.entry: item for item in model.query(haz_sol_id, consistent_read=True)}
        heads = [items[name] for name in LAYOUTS if name in items and layout in (None, LAYOUTS[name])]
        if not heads:
            where = f" in {layout.name}" if layout else ""
            raise NotStoredError(
                f"nothing is stored under {haz_sol_id!r}{where} at stage {settings.stage}: "
                "`hazard-store status` lists what is"
            )
        head = min(heads, key=lambda item: not item.complete)
        if not head.segments:
            return head, head.payload
        entries = [_segment_entry(head.entry, head.generation, number) for number in range(int(head.segments))]
        lacking = next((entry for entry in entries if entry not in items), None)
        if lacking is None:
            return head, b"".join(items[entry].payload for entry in entries)
        if head.generation == incomplete:
            raise CorruptItemError(f"the meta of {haz_sol_id!r} lacks its segment {lacking}: store it again")
        # The answer comes in pages, between which another document may have taken this one's place.
        incomplete = head.generation


def delete_meta(haz_sol_id: str, layout: Layout, settings: Settings) -> int:
    """Delete a calculation's meta in one layout, the head first; gives the number of items removed."""
    model = bind(CalculationMeta, settings)
    removed = 0
    with translated(settings, model.Meta.table_name):
        prefix = model.entry.startswith(layout.name)
        for item in list(model.query(haz_sol_id, prefix, attributes_to_get=["entry"], consistent_read=True)):
            # The names of two layouts may share a start, their entries do not.
            if item.entry == layout.name or item.entry.startswith(f"{layout.name}#"):
                model(haz_sol_id=haz_sol_id, entry=item.entry).delete()
                removed += 1
    return removed


def _segment_entry(layout: str, generation: str, number: int) -> str:
    return f"{layout}#{generation}#{number:04d}"
