"""Predicting a poe from those decoded before it: the tables and weights of the `packed` codec.

Everything is integer arithmetic on the 32-bit patterns of the float32 poes, so that every machine and every language
predicts the same and the coded differences give the poes back to the bit.

A bit pattern read as an integer is nearly the logarithm of its value, but for a kink at each power of two, which
`LOG_TABLE` takes out. In logarithms a curve is smooth, so the polynomial through the last values extrapolates it well,
and what the extrapolation misses is nearly the same at the next IMT.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Points of the polynomial. A rough curve (few sources) is predicted best by 3, a smooth one by 6.
ORDERS = (3, 4, 6)

# Weights are multiples of 2**-12 up to 64: five of them times differences of 32-bit numbers stay below 2**53.
WEIGHT_BITS = 12
MAX_WEIGHT = 64 << WEIGHT_BITS
MAX_ORDER = 6

_MANTISSA_BITS = 23
_STEP_BITS = 13
_STEPS = 1 << (_MANTISSA_BITS - _STEP_BITS)
_MANTISSA = (1 << _MANTISSA_BITS) - 1
_STEP = (1 << _STEP_BITS) - 1

_UNIT = 1 << _MANTISSA_BITS
# No entry is within 1e-4 of a half, so every library's logarithm rounds to the same integers (a test holds that).
LOG_TABLE = np.array([math.floor(_UNIT * math.log2(1 + j / _STEPS) + 0.5) for j in range(_STEPS + 1)], np.int64)
EXP_TABLE = np.array([math.floor(_UNIT * (2 ** (j / _STEPS) - 1) + 0.5) for j in range(_STEPS + 1)], np.int64)


def mapped(word: int, table: Ints) -> int:
    """Replace the low 23 bits of a 32-bit word by the piecewise linear function of a table; the high bits stay.

    With `LOG_TABLE` it gives the logarithm of a float32's bit pattern in units of 2**-23 octaves, that of 0 being 0;
    with `EXP_TABLE` the bit pattern of a logarithm, but for a few units.
    """
    low = word & _MANTISSA
    step = low >> _STEP_BITS
    return int(word - low + table[step] + ((table[step + 1] - table[step]) * (low & _STEP) >> _STEP_BITS))


def weights_of_levels(levels: npt.NDArray[np.float64], order: int) -> Ints:
    """Give the weights of the polynomial through the last `order` values, level by level.

    Parameters
    ----------
    levels : ndarray, shape (n_imts, n_levels)
        Intensity levels, any unit.
    order : int
        Points of the polynomial, 1 to `MAX_ORDER`.

    Returns
    -------
    ndarray, shape (n_imts, n_levels, order - 1), read-only
        In units of 2**-12. Entry ``[..., j - 2]`` is the weight of the value j levels before, less the value before.
    """
    return _cached_weights(np.ascontiguousarray(levels, "<f8").tobytes(), levels.shape[0], order)


@lru_cache(maxsize=64)
def _cached_weights(levels: bytes, n_imts: int, order: int) -> Ints:
    rows = np.frombuffer(levels, "<f8").reshape(n_imts, -1)
    weights = np.zeros((*rows.shape, order - 1), np.int64)
    for row, words in enumerate(rows.astype(np.float32).view(np.uint32).tolist()):
        logs = [mapped(word, LOG_TABLE) for word in words]
        for level in range(2, len(logs)):
            for j, weight in enumerate(_weights(logs[max(0, level - order) : level + 1])):
                weights[row, level, j] = weight
    weights.flags.writeable = False
    return weights


def _weights(points: list[int]) -> list[int]:
    """Give the Lagrange weights at the last point of all points before it but the nearest, nearest first.

    Levels that are too uneven for so many points are extrapolated through fewer.
    """
    *known, target = points
    weights = []
    for j in range(2, len(known) + 1):
        others = [point for k, point in enumerate(known, 1) if k != len(known) + 1 - j]
        if known[-j] in others:
            return _weights(points[1:])
        exact = Fraction(1 << WEIGHT_BITS)
        for other in others:
            exact *= Fraction(target - other, known[-j] - other)
        weights.append(math.floor(exact + Fraction(1, 2)))
    return weights if all(abs(weight) <= MAX_WEIGHT for weight in weights) else _weights(points[1:])
