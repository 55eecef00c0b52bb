"""Predicting a poe from those decoded before it: the half of the `packed` codec that knows hazard curves.

Everything is integer arithmetic on the 32-bit patterns of the float32 poes, so that every machine and every language
predicts the same and the coded differences give the poes back to the bit. Where float64 is used it holds integers below
2**53, or such integers times a power of two: fast, and exact whatever the order of the operations.

A bit pattern read as an integer is nearly the logarithm of its value, but for a kink at each power of two, which
`log2_of_bits` takes out. In logarithms a curve is smooth, so the polynomial through the last values extrapolates it
well, and what the extrapolation misses is nearly the same at the next IMT.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

# Points of the polynomial. A rough curve (few sources) is predicted best by 3, a smooth one by 6.
ORDERS = (3, 4, 6)

# Weights are multiples of 2**-12 up to 64: five of them times differences of 32-bit numbers stay below 2**53.
WEIGHT_BITS = 12
MAX_WEIGHT = 64 << WEIGHT_BITS
MAX_ORDER = 6

_MANTISSA_BITS = 23
_STEP_BITS = 13
_STEPS = 1 << (_MANTISSA_BITS - _STEP_BITS)
_MANTISSA = np.uint32((1 << _MANTISSA_BITS) - 1)
_EXPONENT = np.uint32(0xFF80_0000)
_STEP = np.uint32((1 << _STEP_BITS) - 1)
_SHIFT = np.uint32(_STEP_BITS)

_UNIT = 1 << _MANTISSA_BITS
# No entry is within 1e-4 of a half, so every library's logarithm rounds to the same integers (a test holds that).
LOG_TABLE = np.array([math.floor(_UNIT * math.log2(1 + j / _STEPS) + 0.5) for j in range(_STEPS + 1)], np.uint32)
EXP_TABLE = np.array([math.floor(_UNIT * (2 ** (j / _STEPS) - 1) + 0.5) for j in range(_STEPS + 1)], np.uint32)


def _with_rises(table: Words) -> npt.NDArray[np.uint64]:
    """Put each entry and its distance to the next into one 64-bit word: one look-up is half the time of two."""
    return np.stack([table[:-1], np.diff(table)], axis=1).view(np.uint64).ravel()


_LOG_STEPS = _with_rises(LOG_TABLE)
_EXP_STEPS = _with_rises(EXP_TABLE)


def log2_of_bits(bits: Words) -> Words:
    """Give the logarithm of float32 bit patterns in units of 2**-23 octaves, zero being the pattern 0."""
    return _mapped(bits, _LOG_STEPS)


def bits_of_log2(logs: Words) -> Words:
    """Give bit patterns from logarithms; the inverse of `log2_of_bits` but for a few units."""
    return _mapped(logs, _EXP_STEPS)


def _mapped(words: Words, steps: npt.NDArray[np.uint64]) -> Words:
    """Replace the low 23 bits by the piecewise linear function of a table; the high bits stay."""
    low = words & _MANTISSA
    found = steps.take((low >> _SHIFT).astype(np.intp)).view(np.uint32).reshape(*words.shape, 2)
    low &= _STEP
    low *= found[..., 1]
    low >>= _SHIFT
    low += found[..., 0]
    low += words & _EXPONENT
    return low


def weights_of_levels(levels: npt.NDArray[np.float64], order: int) -> Floats:
    """Give the weights of the polynomial through the last `order` values, level by level.

    Parameters
    ----------
    levels : ndarray, shape (n_imts, n_levels)
        Intensity levels, any unit.
    order : int
        Points of the polynomial, 1 to `MAX_ORDER`.

    Returns
    -------
    ndarray, shape (order - 1, n_imts, n_levels), read-only
        Multiples of 2**-12. Entry ``[j - 2]`` is the weight of the value j levels before, less the value before.
    """
    return _cached_weights(np.ascontiguousarray(levels, "<f8").tobytes(), levels.shape[0], order)


@lru_cache(maxsize=64)
def _cached_weights(levels: bytes, n_imts: int, order: int) -> Floats:
    rows = np.frombuffer(levels, "<f8").reshape(n_imts, -1)
    # Most calculations have the same levels for many IMTs.
    rows, inverse = np.unique(rows, axis=0, return_inverse=True)
    weights = np.zeros((order - 1, *rows.shape))
    for row, logs in enumerate(log2_of_bits(rows.astype(np.float32).view(np.uint32)).tolist()):
        for level in range(2, len(logs)):
            for j, weight in enumerate(_weights(logs[max(0, level - order) : level + 1])):
                weights[j, row, level] = weight
    weights = np.ascontiguousarray(weights[:, inverse.ravel()]) / (1 << WEIGHT_BITS)
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


def extrapolate(logs: Floats, zeros: npt.NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Extrapolate every value from those before it at the same IMT, all at once.

    Parameters
    ----------
    logs : ndarray, shape (n_curves, n_imts, n_levels)
        Logarithms as integers.
    zeros : ndarray of bool, the same shape
        Where the poe is zero, which no extrapolation is measured by.
    weights : ndarray, shape (order - 1, n_imts, n_levels)

    Returns
    -------
    expected, errors : ndarray, shape (n_curves, n_imts, n_levels)
        Integers; the first level expects 0.
    """
    shape = logs.shape
    by_curve = (shape[0], shape[1] * shape[2])
    # One row of numbers, where the value j levels before is j places before; where that is in another row, its weight
    # is zero.
    line = np.zeros(MAX_ORDER + logs.size)
    line[MAX_ORDER:] = logs.ravel()
    before = line[MAX_ORDER - 1 : -1].reshape(by_curve)
    expected = np.zeros(by_curve)
    term = np.empty(by_curve)
    for j, weight in enumerate(weights.reshape(len(weights), by_curve[1]), 2):
        np.subtract(line[MAX_ORDER - j : -j].reshape(by_curve), before, out=term)
        term *= weight
        expected += term
    np.floor(expected, out=expected)
    expected += before
    expected = expected.reshape(shape)
    expected[:, :, 0] = 0.0
    errors = logs - expected
    errors *= ~zeros
    return expected, errors


def predict(bits: Words, weights: Floats) -> Words:
    """Predict every bit pattern of some curves from those before it, shape (n_curves, n_imts, n_levels)."""
    logs = log2_of_bits(bits).astype(np.float64)
    expected, errors = extrapolate(logs, bits == 0, weights)
    expected[:, 1:] += errors[:, :-1]
    # A plateau is predicted exactly: the logarithm and its inverse alone would miss it by a unit.
    plateaus = (expected[:, :, 1:] == logs[:, :, :-1]).astype(np.uint32)
    first_plateaus = expected[:, 1:, 0] == logs[:, :-1, 0]
    predicted = _expected_bits(expected)
    # Exclusive or twice, because numpy's masked copies take longer than everything above.
    np.negative(plateaus, out=plateaus)
    plateaus &= predicted[:, :, 1:] ^ bits[:, :, :-1]
    predicted[:, :, 1:] ^= plateaus
    np.copyto(predicted[:, 1:, 0], bits[:, :-1, 0], where=first_plateaus)
    return predicted


def _expected_bits(expected: Floats) -> Words:
    """Give the bit patterns of expected logarithms, which are limited to those of positive numbers in place."""
    np.clip(expected, 0.0, 2.0**31 - 1, out=expected)
    return bits_of_log2(expected.astype(np.int32).view(np.uint32))


def restore(residuals: Words, lengths: npt.NDArray[np.int64], weights: Floats) -> Words:
    """Give the bit patterns whose predictions miss by `residuals`: the inverse of `predict`.

    A value needs those before it at its own IMT and the one at its level of the IMT before. So all values whose IMT and
    level add up to the same number can be restored at once, of all curves.

    Parameters
    ----------
    residuals : ndarray, shape (n_imts, n_levels, n_curves)
        Modulo 2**32.
    lengths : ndarray, shape (n_imts, n_curves)
        How many values stand before a row's closing zeros.
    weights : ndarray, shape (order - 1, n_imts, n_levels)

    Returns
    -------
    ndarray, shape (n_imts, n_levels, n_curves)
    """
    n_imts, n_levels, n_curves = residuals.shape
    # Zeros before the first level and above the first IMT save asking whether there is a value.
    bits = np.zeros((n_imts, MAX_ORDER + n_levels, n_curves), np.uint32)
    logs = np.zeros(bits.shape)
    errors = np.zeros((1 + n_imts, n_levels, n_curves))
    for total in range(n_imts + n_levels - 1):
        imts = np.arange(max(0, total - n_levels + 1), min(n_imts, total + 1))
        levels = total - imts
        places = levels + MAX_ORDER
        before, bits_before = logs[imts, places - 1], bits[imts, places - 1]
        expected = np.zeros(before.shape)
        for j, weight in enumerate(weights, 2):
            expected += (logs[imts, places - j] - before) * weight[imts, levels, None]
        np.floor(expected, out=expected)
        expected += before
        sums = expected + errors[imts, levels]
        if 0 < total < n_imts:
            # The last of these is a first level, which has its like in the row above.
            before[-1], bits_before[-1] = logs[total - 1, MAX_ORDER], bits[total - 1, MAX_ORDER]
        plateaus = sums == before
        found = np.where(plateaus, bits_before, _expected_bits(sums))
        found += residuals[imts, levels]
        found[levels[:, None] >= lengths[imts]] = 0
        bits[imts, places] = found
        logs[imts, places] = log2_of_bits(found)
        errors[imts + 1, levels] = np.where(found == 0, 0.0, logs[imts, places] - expected)
    return bits[:, MAX_ORDER:]
