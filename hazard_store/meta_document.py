"""What a meta says of a calculation, as one JSON document."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

from hazard_store.names import CurvePart
from hazard_store.oq import Calculation

# Where the sites' columns go in a document's JSON: no other text of it has this byte, which JSON escapes.
_PLACE_OF_SITES = b"\0"
_ROWS_A_PIECE = 8_192


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
