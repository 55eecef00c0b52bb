"""One hazard curve as it is given to a reader."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class CurveRow:
    """A site's curve for one statistic or realisation and one IMT.

    Attributes
    ----------
    lat, lon : float
        Degrees.
    vs30 : float
        m/s; NaN where the calculation has none.
    agg : str or None
        Short name of the statistic, None for a realisation.
    rlz : int or None
        Ordinal of the realisation, None for a statistic.
    levels : ndarray, shape (n_levels,), float64
        Intensity levels in the IMT's unit (g for PGA and SA).
    poes : ndarray, shape (n_levels,), float32
        Probability of exceedance in the investigation time, to the bit as it was stored.
    """

    haz_sol_id: str
    site: str
    lat: float
    lon: float
    vs30: float
    agg: str | None
    rlz: int | None
    imt: str
    levels: npt.NDArray[np.float64]
    poes: npt.NDArray[np.float32]

    def to_json_dict(self) -> dict[str, Any]:
        """Give the keys of ``hazard-store get --json``.

        `poes` stays an array: ``orjson.dumps(..., option=orjson.OPT_SERIALIZE_NUMPY)`` writes the shortest decimals
        that give the same float32 back.
        """
        kind = {"rlz": self.rlz} if self.agg is None else {"agg": self.agg}
        return {
            "haz_sol_id": self.haz_sol_id,
            "site": self.site,
            "lat": self.lat,
            "lon": self.lon,
            "vs30": None if math.isnan(self.vs30) else self.vs30,
            **kind,
            "imt": self.imt,
            "levels": self.levels.tolist(),
            "poes": np.ascontiguousarray(self.poes),
        }
