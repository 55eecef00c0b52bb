"""The loops of the `packed` codec, value after value, compiled on their first use and kept beside this file.

What they do stands in ``docs/packed-format.md``; tables and weights come from `prediction` and `bitcode`. Everything is
arithmetic of 64-bit integers: weights below 2**18 times differences of 32-bit logarithms, five of them added, stay
below 2**53. The interpreter's lock is not held, so that a worker's sending threads go on meanwhile.

Importing this takes 0.3 s and 60 MB: whoever needs it imports it where it is used, for many commands do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from hazard_store.layouts import prediction
from hazard_store.layouts.bitcode import END, MAX_CODE_BITS
from hazard_store.layouts.prediction import MAX_ORDER

# A scalar is an int64 in compiled code, whether Python calls it an int or numpy's.
Int: TypeAlias = Any
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

F = TypeVar("F", bound=Callable[..., Any])

_NO_CLASS = -1
_LARGEST_LOG = 2**31 - 1

# What `decode_curves` finds wrong with a payload.
FINE, ENDS_ELSEWHERE, WRONG_CHECK = 0, 1, 2


def _compiled(function: F) -> F:
    """Compile a function when it is called first, and keep what was compiled if there is a place for it.

    What is kept is made anew when this file changes, but not when a constant or function that comes from another does:
    `make clean` then.
    """
    try:
        return cast("F", njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # Neither this folder nor the user's cache can be written to: every process compiles for itself.
        return cast("F", njit(nogil=True)(function))


_mapped = _compiled(prediction.mapped)


@_compiled
def _expect(logs: Ints, level: Int, weights: Ints) -> Int:
    """Extrapolate the logarithm of a value from those before it in its row, which starts after `MAX_ORDER` zeros."""
    if level == 0:
        return 0
    place = level + MAX_ORDER
    before = logs[place - 1]
    total = 0
    for j in range(MAX_ORDER - 1):
        total += weights[j, level] * (logs[place - 2 - j] - before)
    return before + (total >> prediction.WEIGHT_BITS)


@_compiled
def _expect_row(logs: Ints, weights: Ints, expected: Ints) -> None:
    """Do the same for all levels of a row."""
    for level in range(len(expected)):
        expected[level] = _expect(logs, level, weights)


@_compiled
def _miss_row(bits: Words, logs: Ints, expected: Ints, errors: Ints) -> None:
    """Fill in by how much a row's logarithms differ from the expected ones; zeros are not expected at all."""
    for level in range(len(errors)):
        errors[level] = logs[MAX_ORDER + level] - expected[level] if bits[level] else 0


@_compiled
def _guess(expected: Int, log_before: Int, bits_before: Int, exp_table: Ints) -> Int:
    """Give the bit pattern of an expected logarithm.

    A plateau is guessed exactly: the logarithm and its inverse alone would miss it by a unit.
    """
    if expected == log_before:
        return bits_before
    return _mapped(min(max(expected, 0), _LARGEST_LOG), exp_table)


@_compiled
def _context(left: Int, above: Int, right: Int) -> Int:
    """Say what to expect of a class: the mean of its neighbours', that at the left counting twice."""
    return (2 * left + (left if above == _NO_CLASS else above) + (left if right == _NO_CLASS else right) + 2) >> 2


@_compiled
def _bit_length(magnitude: Int) -> Int:
    """Give the bits of a number below 2**53: a float64 has as many in its exponent."""
    return (np.float64(magnitude).view(np.int64) >> 52) - 1022 if magnitude else 0


@_compiled
def _order_of(bits: Words, logs: Ints, weights: Ints, rows: Ints, expected: Ints, errors: Ints) -> Int:
    """Find which of the orders predicts a curve best, judged by the two IMTs in the middle.

    Parameters
    ----------
    expected : ndarray, shape (n_levels,)
    errors : ndarray, shape (2, n_levels)
        Both to work in.
    """
    n_imts, n_levels = bits.shape
    last = n_imts // 2
    best, least = 0, -1
    errors[0] = 0
    for order in range(len(weights)):
        for imt in range(max(0, last - 1), last + 1):
            _expect_row(logs[imt], weights[order, rows[imt]], expected)
            _miss_row(bits[imt], logs[imt], expected, errors[imt - last + 1])
        cost = 0
        for level in range(n_levels):
            cost += _bit_length(abs(errors[1, level] - errors[0, level]))
        if least < 0 or cost < least:
            best, least = order, cost
    return best


@_compiled
def _residual_row(
    bits: Words,
    logs: Ints,
    expected: Ints,
    errors: Ints,
    log_before: Int,
    bits_before: Int,
    exp_table: Ints,
    residuals: Ints,
) -> None:
    """Fill in what the guesses of a row miss by, modulo 2**32, as the decoder adds it."""
    for level in range(len(residuals)):
        guess = _guess(expected[level] + errors[level], log_before, bits_before, exp_table)
        bits_before, log_before = np.int64(bits[level]), logs[MAX_ORDER + level]
        residuals[level] = ((bits_before - guess + (1 << 31)) & 0xFFFF_FFFF) - (1 << 31)


@_compiled
def _context_row(above: Ints, symbols: Bytes, contexts: Bytes) -> None:
    """Fill in the contexts of a row, and put its classes in the place of those above it."""
    length = len(contexts)
    left = max(above[0], 0)
    for level in range(length):
        contexts[level] = _context(left, above[level], above[level + 1])
        left = np.int64(symbols[level])
        if left != END:
            above[level] = left


@_compiled
def _symbols(
    bits: Words,
    logs: Ints,
    weights: Ints,
    rows: Ints,
    exp_table: Ints,
    contexts: Bytes,
    symbols: Bytes,
    residuals: Ints,
) -> Int:
    """Find what is written of one curve; gives how many symbols there are.

    Row by row, and each step for a whole row: most of them the processor takes for several levels at a time.

    Parameters
    ----------
    bits : ndarray, shape (n_imts, n_levels)
    logs : ndarray, shape (n_imts, MAX_ORDER + n_levels)
    weights : ndarray, shape (n_rows, MAX_ORDER - 1, n_levels)
    rows : ndarray, shape (n_imts,)
        Which row of weights each IMT has.
    contexts, symbols, residuals : ndarray, shape (n_imts * (n_levels + 1),)
        Filled in; an END has no residual.
    """
    n_imts, n_levels = bits.shape
    expected, errors = np.empty(n_levels, np.int64), np.zeros(n_levels, np.int64)
    above = np.full(n_levels + 1, _NO_CLASS, np.int64)
    first = 0
    for imt in range(n_imts):
        length = n_levels
        while length and bits[imt, length - 1] == 0:
            length -= 1
        log_before = logs[imt - 1, MAX_ORDER] if imt else 0
        bits_before = np.int64(bits[imt - 1, 0]) if imt else 0
        _expect_row(logs[imt], weights[rows[imt]], expected)
        missed = residuals[first : first + length]
        _residual_row(bits[imt], logs[imt], expected, errors, log_before, bits_before, exp_table, missed)
        _miss_row(bits[imt], logs[imt], expected, errors)
        for level in range(length):
            symbols[first + level] = _bit_length(abs(missed[level]))
        last = first + length
        if length < n_levels:
            symbols[last] = END
            last += 1
        _context_row(above, symbols[first:last], contexts[first:last])
        above[length:] = _NO_CLASS
        first = last
    return first


@_compiled
def _push(words: Words, place: Int, pending: Int, n_pending: Int, word: Int, n_bits: Int) -> tuple[Int, Int, Int]:
    """Put up to 32 bits behind those that wait for their word to be full, 31 at most.

    The word is written in any case, for whether it is full the processor cannot foresee; the next one overwrites it.
    """
    pending = pending << n_bits | word
    n_pending += n_bits
    words[place] = np.uint32(pending >> (n_pending & 31))
    return place + (n_pending >> 5), pending, n_pending & 31


@_compiled
def _write(
    contexts: Bytes,
    symbols: Bytes,
    residuals: Ints,
    codes: Ints,
    lengths: Ints,
    words: Words,
    out: Bytes,
    first: Int,
) -> Int:
    """Write symbols and residuals as bits, the highest of each byte first, from a byte on; gives where they end."""
    place, pending, n_pending = 0, 0, 0
    for n in range(len(symbols)):
        context, symbol = np.int64(contexts[n]), np.int64(symbols[n])
        code, length = codes[context, symbol], lengths[context, symbol]
        n_bits = 0 if symbol == END else symbol
        # Negative residuals lose one, so that their bits are those below half of the class.
        tail = (residuals[n] - (residuals[n] < 0)) & ((1 << n_bits) - 1)
        if length + n_bits <= 32:
            code, length = code << n_bits | tail, length + n_bits
            place, pending, n_pending = _push(words, place, pending, n_pending, code, length)
        else:
            place, pending, n_pending = _push(words, place, pending, n_pending, code, length)
            place, pending, n_pending = _push(words, place, pending, n_pending, tail, n_bits)
    words[place] = np.uint32(pending << (32 - n_pending))
    n_bytes = 4 * place + ((n_pending + 7) >> 3)
    for k in range(n_bytes):
        out[first + k] = (words[k >> 2] >> np.uint32(24 - 8 * (k & 3))) & np.uint32(0xFF)
    return first + n_bytes


@_compiled
def _logs_of(bits: Words, log_table: Ints, logs: Ints) -> Int:
    """Fill in the logarithms of a curve, and give the sum of its bit patterns."""
    total: Int = 0
    for imt in range(bits.shape[0]):
        for level in range(bits.shape[1]):
            word: Int = np.int64(bits[imt, level])
            total += word
            logs[imt, MAX_ORDER + level] = _mapped(word, log_table)
    return total


@_compiled
def encode_curves(
    bits: Words,
    heads: Ints,
    weights: Ints,
    rows: Ints,
    check_modulus: Int,
    tables: tuple[Ints, Ints],
    codes: tuple[Ints, Ints],
    out: Bytes,
) -> Ints:
    """Write the payloads of some curves one after another, and give where each ends, shape (n_curves,).

    Parameters
    ----------
    bits : ndarray, shape (n_curves, n_imts, n_levels)
    heads : ndarray, shape (n_orders,)
        The first byte of payloads of each order.
    weights : ndarray, shape (n_orders, n_rows, MAX_ORDER - 1, n_levels)
    rows : ndarray, shape (n_imts,)
        Which row of weights each IMT has: most have the same levels, and few weights stay in the processor's cache.
    tables : tuple
        For logarithms, and back.
    codes : tuple of ndarray, shape (n_contexts, n_symbols)
        Codes, and their lengths.
    out : ndarray
        Has room for the longest.
    """
    n_curves, n_imts, n_levels = bits.shape
    log_table, exp_table = tables
    logs = np.zeros((n_imts, MAX_ORDER + n_levels), np.int64)
    contexts = np.empty(n_imts * (n_levels + 1), np.uint8)
    symbols, residuals = np.empty_like(contexts), np.empty(contexts.shape, np.int64)
    expected, errors = np.empty(n_levels, np.int64), np.empty((2, n_levels), np.int64)
    # A symbol fills two at most, and what is left at the end one.
    words = np.empty(2 * len(contexts) + 1, np.uint32)
    ends = np.empty(n_curves, np.int64)
    place = 0
    for curve in range(n_curves):
        total = _logs_of(bits[curve], log_table, logs)
        order = _order_of(bits[curve], logs, weights, rows, expected, errors)
        n = _symbols(bits[curve], logs, weights[order], rows, exp_table, contexts, symbols, residuals)
        out[place] = heads[order]
        out[place + 1] = total % check_modulus
        place = _write(contexts[:n], symbols[:n], residuals[:n], codes[0], codes[1], words, out, place + 2)
        ends[curve] = place
    return ends


@_compiled
def count_symbols(bits: Words, weights: Ints, rows: Ints, tables: tuple[Ints, Ints], counts: Ints) -> None:
    """Count the symbols of some curves by context, for fitting code lengths; as ``encode_curves``."""
    _, n_imts, n_levels = bits.shape
    logs = np.zeros((n_imts, MAX_ORDER + n_levels), np.int64)
    contexts = np.empty(n_imts * (n_levels + 1), np.uint8)
    symbols, residuals = np.empty_like(contexts), np.empty(contexts.shape, np.int64)
    expected, errors = np.empty(n_levels, np.int64), np.empty((2, n_levels), np.int64)
    for curve in range(len(bits)):
        _logs_of(bits[curve], tables[0], logs)
        order = _order_of(bits[curve], logs, weights, rows, expected, errors)
        n = _symbols(bits[curve], logs, weights[order], rows, tables[1], contexts, symbols, residuals)
        for k in range(n):
            counts[contexts[k], symbols[k]] += 1


@_compiled
def _peek(data: Bytes, position: Int, n_bits: Int) -> Int:
    """Give the next bits, 44 at most."""
    first = position >> 3
    window = 0
    for byte in data[first : first + 7]:
        window = window << 8 | byte
    return (window >> (56 - (position & 7) - n_bits)) & ((1 << n_bits) - 1)


@_compiled
def _decode_curve(
    data: Bytes,
    position: Int,
    end: Int,
    weights: Ints,
    rows: Ints,
    tables: tuple[Ints, Ints],
    decoder: Ints,
    bits: Words,
) -> Int:
    """Read one curve from a bit position on, and give the position behind it; larger than `end` if it is damaged."""
    n_imts, n_levels = bits.shape
    log_table, exp_table = tables
    errors = np.zeros(n_levels, np.int64)
    above = np.full(n_levels + 1, _NO_CLASS, np.int64)
    logs = np.zeros(MAX_ORDER + n_levels, np.int64)
    first_log, first_bits = 0, 0
    for imt in range(n_imts):
        left = max(above[0], 0)
        log_before, bits_before = first_log, first_bits
        first_log, first_bits = 0, 0
        level = 0
        while level < n_levels:
            if position > end:
                return position
            context = _context(left, above[level], above[level + 1])
            found = np.int64(decoder[context, _peek(data, position, MAX_CODE_BITS)])
            position += found & 15
            symbol = found >> 4
            if symbol == END:
                break
            tail = _peek(data, position, symbol)
            position += symbol
            # A class's upper half is its positive residuals as they are; the lower half stands for the negative ones.
            residual = tail if 2 * tail >= 1 << symbol else tail - (1 << symbol) + 1
            expected = _expect(logs, level, weights[rows[imt]])
            guess = _guess(expected + errors[level], log_before, bits_before, exp_table)
            bits_before = (guess + residual) & 0xFFFF_FFFF
            log_before = _mapped(bits_before, log_table)
            if level == 0:
                first_log, first_bits = log_before, bits_before
            bits[imt, level] = bits_before
            logs[MAX_ORDER + level] = log_before
            errors[level] = log_before - expected if bits_before else 0
            above[level] = left = symbol
            level += 1
        bits[imt, level:] = 0
        errors[level:] = 0
        above[level:] = _NO_CLASS
    return position


@_compiled
def decode_curves(
    data: Bytes,
    ends: Ints,
    weights: Ints,
    rows: Ints,
    check_modulus: Int,
    tables: tuple[Ints, Ints],
    decoder: Ints,
    bits: Words,
) -> Ints:
    """Read payloads that stand one after another, into `bits`; gives what is wrong with each, shape (n_curves,).

    Parameters
    ----------
    data : ndarray
        With eight bytes more than the payloads have.
    ends : ndarray, shape (n_curves,)
        Where each payload ends.
    weights : ndarray, shape (MAX_ORDER, n_rows, MAX_ORDER - 1, n_levels)
        By order less one; those of orders that no payload has are not looked at.
    rows : ndarray, shape (n_imts,)
        Which row of weights each IMT has.
    decoder : ndarray, shape (n_contexts, 2**MAX_CODE_BITS)
        Symbol << 4 | length of its code, by the bits that it starts with.
    bits : ndarray, shape (n_curves, n_imts, n_levels)
        Filled in.
    """
    faults = np.zeros(len(ends), np.int64)
    start = 0
    for curve in range(len(ends)):
        order = data[start] & 15
        end = 8 * ends[curve]
        position = _decode_curve(data, 8 * (start + 2), end, weights[order - 1], rows, tables, decoder, bits[curve])
        if not 0 <= end - position < 8:
            faults[curve] = ENDS_ELSEWHERE
        else:
            total: Int = 0
            for word in bits[curve].flat:
                total += np.int64(word)
            if total % check_modulus != data[start + 1]:
                faults[curve] = WRONG_CHECK
        start = ends[curve]
    return faults
