"""The meta of a stored calculation: what a reader needs beside the curves, and whether they are complete.

A meta is one JSON document, compressed. Where it does not fit into one item of 400 KB it is cut into segments, which
are written first, under the document's own hash; the head item that names them is written last, and the segments of
the old document go after that. A reader who had the old head, and comes too late for them, reads the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import zstandard

from hazard_store.errors import CorruptItemError, NotStoredError
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.names import CurvePart, HazSolId, Part
from hazard_store.oq import Calculation
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import CalculationMeta, V2Meta, bind

# An item holds 400 KB, attribute names included; the rest of a segment's item is under 1 KB.
MAX_SEGMENT_BYTES = 390_000

# A document is JSON of at most some MB; the bound keeps a damaged one from asking for all memory.
MAX_DOCUMENT_BYTES = 1 << 30

# Where the sites' columns go in a document's JSON: no other text of it has this byte, which JSON escapes.
_PLACE_OF_SITES = b"\0"
_ROWS_A_PIECE = 8_192

# What a V2 meta's item may hold before attributes are left out, biggest and least asked for first.
MAX_V2_ITEM_BYTES = 395_000
_V2_DROP_ORDER = ("rlz_lt", "src_lt", "gsim_lt", "locs")

# The vs30 of a V2 meta whose sites differ: readers filter on one number, and no single site's would be true of all.
V2_SITE_SPECIFIC_VS30 = 0.0


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
        The calculation as ``calculation_to_document`` wrote it.
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


def calculation_to_document(calculation: Calculation, kinds: dict[CurvePart, list[str]]) -> dict[str, Any]:
    """Put together what readers need to know of a calculation: columns for what has thousands of rows.

    Those of the sites are as the calculation has them, for `document_to_json`; a document that was read has lists.
    """
    tree = calculation.logic_tree
    realisations = calculation.realisations
    return {
        "engine_version": calculation.engine_version,
        "calculation_mode": calculation.calculation_mode,
        "investigation_time": calculation.investigation_time,
        "fingerprint": calculation.fingerprint,
        "imtls": {imt: levels.tolist() for imt, levels in calculation.imtls.items()},
        "stats": list(calculation.stats),
        "mean": {
            "of": "rates" if calculation.averages_rates else "poes",
            "imts_with_own_weights": list(calculation.imts_with_own_weights),
        },
        "kinds": kinds,
        "curves": {part: None if shape is None else list(shape) for part, shape in calculation.curves.items()},
        "sites": {
            "code": calculation.sites.codes,
            "lon": calculation.sites.lon,
            "lat": calculation.sites.lat,
            "vs30": calculation.sites.vs30,
        },
        "realisations": {
            "rlz": [realisation.rlz for realisation in realisations],
            "source_path": [list(realisation.source_path) for realisation in realisations],
            "gsim_path": [list(realisation.gsim_path) for realisation in realisations],
            "weight": [realisation.weight for realisation in realisations],
        },
        "logic_tree": None
        if tree is None
        else {"sources": tree.sources, "gsims": tree.gsims, "realisations": tree.realisations},
        "warnings": list(calculation.warnings),
    }


def document_to_json(document: dict[str, Any]) -> Iterator[bytes]:
    """Give a document's JSON in pieces: a million sites would take hundreds of MB of a worker at once."""
    frame = orjson.dumps(document | {"sites": orjson.Fragment(_PLACE_OF_SITES)})
    before, after = frame.split(_PLACE_OF_SITES)
    yield before
    for number, (name, column) in enumerate(document["sites"].items()):
        yield b'%b"%b":[' % (b"," if number else b"{", name.encode())
        for start in range(0, len(column), _ROWS_A_PIECE):
            # NaN, of sites without vs30, becomes null.
            rows = orjson.dumps(column[start : start + _ROWS_A_PIECE], option=orjson.OPT_SERIALIZE_NUMPY)
            yield (b"," if start else b"") + rows[1:-1]
        yield b"]"
    yield b"}" + after


def document_digest(document: dict[str, Any]) -> str:
    """Digest a document, the same before it is stored and after it is read: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for piece in document_to_json(document):
        digest.update(piece)
    return digest.hexdigest()


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
    """Tell readers whether every chunk is stored, if there is a meta to tell it in."""
    model = bind(CalculationMeta, settings)
    with translated(settings, model.Meta.table_name):
        if model.count(haz_sol_id, model.entry == layout.name, consistent_read=True):
            model(haz_sol_id=haz_sol_id, entry=layout.name).update(actions=[model.complete.set(complete)])


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


def write_v2_meta(meta: Meta, settings: Settings) -> list[str]:
    """Write the item by which V2 readers find a calculation; only a complete one may have it.

    Returns
    -------
    list of str
        Names of the attributes that were left out because the item would have exceeded 400 KB. The whole meta
        stands in our own table.
    """
    model = bind(V2Meta, settings)
    attributes, left_out = v2_large_attributes(meta)
    vs30 = v2_vs30(meta)
    with translated(settings, model.Meta.table_name):
        key = (model().partition_key, f"{meta.haz_sol_id}:{v2_number(vs30)}")
        delete_v2_meta(meta.haz_sol_id, settings)
        model(
            *key,
            updated=datetime.now(tz=UTC),
            haz_sol_id=meta.haz_sol_id,
            vs30=vs30,
            imts=set(meta.imtls),
            aggs=set(meta.kinds("stats")) or None,
            inv_time=meta.document["investigation_time"],
            **attributes,
            # Without the condition that there is none: a write that is sent again would meet itself.
        ).save(add_version_condition=False)
    return left_out


def v2_large_attributes(meta: Meta) -> tuple[dict[str, Any], list[str]]:
    """Give the attributes of a V2 meta that grow with the calculation, and the names of those that do not fit."""
    tree = meta.document["logic_tree"] or {}
    attributes: dict[str, Any] = {
        "locs": set(meta.codes),
        # JSONAttribute on top of DataFrame.to_json(): the V2 tables hold the text as a JSON string.
        "src_lt": _frame_text(tree.get("sources")),
        "gsim_lt": _frame_text(tree.get("gsims")),
        "rlz_lt": _frame_text(tree.get("realisations")),
    }
    sizes = {
        name: sum(len(code.encode()) for code in value) if isinstance(value, set) else len(orjson.dumps(value))
        for name, value in attributes.items()
        if value is not None
    }
    left_out = []
    for name in _V2_DROP_ORDER:
        # 8 KB are kept for the keys, the IMTs, the aggs and the rest, which are bounded.
        if sum(sizes.values()) > MAX_V2_ITEM_BYTES - 8_192 and name in sizes:
            del sizes[name], attributes[name]
            left_out.append(name)
    return attributes, left_out


def delete_v2_meta(haz_sol_id: str, settings: Settings) -> int:
    """Delete a calculation's V2 meta, whatever its vs30; gives the number of items removed."""
    model = bind(V2Meta, settings)
    with translated(settings, model.Meta.table_name):
        items = list(
            model.query(
                model().partition_key,
                model.hazsol_vs30_rk.startswith(f"{haz_sol_id}:"),
                attributes_to_get=["partition_key", "hazsol_vs30_rk"],
                consistent_read=True,
            )
        )
        for item in items:
            # Not item.delete(): that would make the item's unread version a condition.
            model._get_connection().delete_item(item.partition_key, item.hazsol_vs30_rk)
    return len(items)


def v2_vs30(meta: Meta) -> float:
    """The one vs30 that a V2 meta carries: that of all sites, or 0 where they differ or have none."""
    values = set(meta.vs30.tolist())
    vs30 = values.pop() if len(values) == 1 else V2_SITE_SPECIFIC_VS30
    return vs30 if np.isfinite(vs30) else V2_SITE_SPECIFIC_VS30


def v2_number(number: float) -> str:
    """Write a number as it stands in V2 range keys: whole numbers without a fraction."""
    return f"{number:g}" if number == int(number) else repr(number)


def _frame_text(columns: dict[str, list[Any]] | None) -> str | None:
    # 60 MB and 0.3 s, which workers do not have to take: only the end of a store of V2 tables comes here.
    import pandas as pd

    return None if columns is None else pd.DataFrame(columns).to_json()


def asked_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Sort parts into the order in which they are stored."""
    order: tuple[Part, ...] = ("meta", "stats", "realisations")
    wanted = set(parts)
    return tuple(part for part in order if part in wanted)
