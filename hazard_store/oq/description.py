"""What `hazard-store inspect --json` tells of a calculation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hazard_store.oq.calculation import Calculation
    from hazard_store.oq.sites import Sites


def describe(calculation: Calculation) -> dict[str, Any]:
    """Return a calculation as JSON-ready values; the keys are a contract with other people's programs (DESIGN.md)."""
    columns = site_columns(calculation.sites)
    return {
        "engine_version": calculation.engine_version,
        "calculation_mode": calculation.calculation_mode,
        "investigation_time": calculation.investigation_time,
        "sites": [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
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


def site_columns(sites: Sites) -> dict[str, list[Any]]:
    """Return what is told of sites, a list each of length n_sites: rows would be a dictionary for each site."""
    return {
        "code": list(sites.codes),
        "lon": sites.lon.tolist(),
        "lat": sites.lat.tolist(),
        "vs30": [None if math.isnan(vs30) else vs30 for vs30 in sites.vs30.tolist()],
    }
