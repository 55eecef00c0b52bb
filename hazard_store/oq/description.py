"""What `hazard-store inspect --json` tells of a calculation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hazard_store.oq.calculation import Calculation


def describe(calculation: Calculation) -> dict[str, Any]:
    """Return a calculation as JSON-ready values; the keys are a contract with other people's programs (DESIGN.md)."""
    sites = calculation.sites
    columns = (sites.codes, sites.lon.tolist(), sites.lat.tolist(), sites.vs30.tolist())
    return {
        "engine_version": calculation.engine_version,
        "calculation_mode": calculation.calculation_mode,
        "investigation_time": calculation.investigation_time,
        "sites": [
            {"code": code, "lon": lon, "lat": lat, "vs30": None if np.isnan(vs30) else vs30}
            for code, lon, lat, vs30 in zip(*columns, strict=True)
        ],
        "imtls": {imt: levels.tolist() for imt, levels in calculation.imtls.items()},
        "stats": list(calculation.stats),
        "realisations": [
            {
                "rlz": realisation.rlz,
                "source_path": list(realisation.source_path),
                "gsim_path": list(realisation.gsim_path),
                "weight": realisation.weight,
            }
            for realisation in calculation.realisations
        ],
        "curves": {part: None if shape is None else list(shape) for part, shape in calculation.curves.items()},
        "storable": not calculation.refusals,
        "warnings": [*calculation.refusals, *calculation.warnings],
    }
