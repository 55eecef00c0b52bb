"""What passes between the encodings and the writer: a block of curves going in, ready items coming out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hazard_store.names import CurvePart


@dataclass(frozen=True)
class CurveBlock:
    """Curves of some sites as they were read, with what their items say about them.

    Parameters
    ----------
    part : {'stats', 'realisations'}
    haz_sol_id : str
    codes : sequence of str, length n_sites
        Site codes.
    lat, lon : ndarray, shape (n_sites,), degrees
    kinds : sequence of str, length n_kinds
        Short names of the statistics, or realisation ordinals such as ``00007``.
    imts : sequence of str, length n_imts
    levels : ndarray, shape (n_imts, n_levels)
        Intensity levels in each IMT's unit (g for PGA and SA).
    poes : ndarray, shape (n_sites, n_kinds, n_imts, n_levels), float32, C-contiguous
        Probability of exceedance in the investigation time.
    created : int
        Epoch seconds of the calculation, which `list` items carry.
    """

    part: CurvePart
    haz_sol_id: str
    codes: Sequence[str]
    lat: npt.NDArray[np.float64]
    lon: npt.NDArray[np.float64]
    kinds: Sequence[str]
    imts: Sequence[str]
    levels: npt.NDArray[np.float64]
    poes: npt.NDArray[np.float32]
    created: int


class EncodedItem(NamedTuple):
    """One item as it goes over the wire.

    `body` is the JSON of its entry in ``BatchWriteItem``: ``{"PutRequest":{"Item":{...}}}``.
    """

    hash_key: str
    range_key: str
    body: bytes
