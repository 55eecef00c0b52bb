"""Encoding `packed`: all of a curve's float32 poes in one binary attribute, lossless.

The form, bit by bit, stands in ``docs/packed-format.md``; a test decodes an item from that page alone. Each poe is
predicted from those before it (`prediction`), and what the prediction misses by is written in as few bits as it needs
(`bitcode`). Differences of bit patterns modulo 2**32 lose nothing, whatever the values.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError
from hazard_store.layouts.bitcode import END, BitReader, classes_of, keys_of, pack
from hazard_store.layouts.items import CurveBlock, EncodedItem
from hazard_store.layouts.partition import Partition, block_keys
from hazard_store.layouts.prediction import (
    MAX_ORDER,
    ORDERS,
    Words,
    extrapolate,
    log2_of_bits,
    predict,
    restore,
    weights_of_levels,
)

PAYLOAD_ATTRIBUTE = "poes"

# The high four bits of the first byte; the low four are the order of the prediction.
FORMAT = 2

# What the second byte is the remainder by.
CHECK_MODULUS = 251

# Curves encoded at once: few enough for the cache, enough to make numpy's cost per call small.
_ENCODE_CURVES = 64
_CHOOSE_CURVES = 256
_DECODE_CURVES = 512

_NO_CLASS = np.uint8(255)


def poes_to_payloads(poes: npt.NDArray[np.float32], levels: npt.NDArray[np.float64]) -> Iterator[bytes]:
    """Pack curves, one payload each.

    Parameters
    ----------
    poes : ndarray, shape (n_curves, n_imts, n_levels), float32, C-contiguous
    levels : ndarray, shape (n_imts, n_levels)
        Intensity levels, which the reader must have too.

    Yields
    ------
    bytes
        The value of the attribute ``poes``. ``payloads_to_poes`` gives the same 32 bits back for every value, NaN and
        negative zero included.
    """
    bits = poes.view(np.uint32)
    for first in range(0, len(bits), _CHOOSE_CURVES):
        block = bits[first : first + _CHOOSE_CURVES]
        orders = _choose_orders(block, levels)
        payloads: list[bytes] = [b""] * len(block)
        for order in ORDERS:
            chosen = np.flatnonzero(orders == order)
            for start in range(0, len(chosen), _ENCODE_CURVES):
                curves = chosen[start : start + _ENCODE_CURVES]
                for curve, payload in zip(curves.tolist(), _encode(block[curves], levels, order), strict=True):
                    payloads[curve] = payload
        yield from payloads


def _choose_orders(bits: Words, levels: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Find the order that predicts each curve best, judged by the two IMTs in the middle, shape (n_curves,)."""
    n_imts = bits.shape[1]
    rows = slice(max(0, n_imts // 2 - 1), n_imts // 2 + 1)
    sample = bits[:, rows]
    logs = log2_of_bits(sample).astype(np.float64)
    zeros = sample == 0
    costs = []
    for order in ORDERS:
        _, errors = extrapolate(logs, zeros, weights_of_levels(levels, order)[:, rows].copy())
        misses = errors[:, -1] if n_imts == 1 else errors[:, 1] - errors[:, 0]
        misses *= misses
        misses += 1.0
        # The exponents of the squares: twice the bits that the misses take.
        costs.append((misses.view(np.int64) >> 52).sum(axis=1))
    orders: npt.NDArray[np.intp] = np.array(ORDERS)[np.argmin(costs, axis=0)]
    return orders


def coded_symbols(
    poes: npt.NDArray[np.float32], levels: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Give the contexts and symbols of all that is written of some curves; code lengths are fitted to these."""
    bits = poes.view(np.uint32)
    orders = _choose_orders(bits, levels)
    keys = np.concatenate([_symbols(bits[orders == order], levels, order)[1] for order in ORDERS])
    return (keys >> np.uint16(6)).astype(np.uint8), (keys & np.uint16(63)).astype(np.uint8)


def _encode(bits: Words, levels: npt.NDArray[np.float64], order: int) -> Iterator[bytes]:
    """Encode a few curves with one order of prediction."""
    bodies = pack(*_symbols(bits, levels, order))
    for check, body in zip(_checks(bits).tolist(), bodies, strict=True):
        yield bytes((FORMAT << 4 | order, check)) + body


def _symbols(
    bits: Words, levels: npt.NDArray[np.float64], order: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """Give what `pack` writes of some curves: residuals, keys, and how many of them each curve has."""
    n_levels = bits.shape[2]
    residuals = (bits - predict(bits, weights_of_levels(levels, order))).view(np.int32)
    lengths = _row_lengths(bits)
    column = np.arange(n_levels)
    classes = classes_of(residuals)
    np.copyto(classes, _NO_CLASS, where=column >= lengths[:, :, None])
    contexts = _contexts(classes)
    np.minimum(classes, np.uint8(END), out=classes)
    coded = np.flatnonzero(column <= lengths[:, :, None])
    # The end of a row is coded too, where it does not end with the last level.
    counts = np.minimum(lengths + 1, n_levels).sum(axis=1)
    return residuals.ravel().take(coded), keys_of(contexts, classes).ravel().take(coded), counts


def _row_lengths(bits: Words) -> npt.NDArray[np.int64]:
    """Say how many values of each row stand before its closing zeros, shape (n_curves, n_imts)."""
    present = (bits != 0)[:, :, ::-1]
    closing = np.argmax(present, axis=2)
    # Without any value, argmax gives 0.
    return np.where(present[:, :, 0] | (closing > 0), bits.shape[2] - closing, 0)


def _contexts(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give what to expect of each class: the mean of its neighbours', that at the left counting twice.

    Where there is no neighbour above, or above and a level on, the left one stands in.
    """
    left = np.zeros_like(classes)
    left[:, :, 1:] = classes[:, :, :-1]
    left[:, 1:, 0] = np.where(classes[:, :-1, 0] == _NO_CLASS, 0, classes[:, :-1, 0])
    # Four classes are up to 128; what stands after the end of a row is not used.
    total = left + left
    above = np.full_like(classes, _NO_CLASS)
    above[:, 1:] = classes[:, :-1]
    right = np.full_like(classes, _NO_CLASS)
    right[:, 1:, :-1] = classes[:, :-1, 1:]
    for neighbour in (above, right):
        np.copyto(neighbour, left, where=neighbour == _NO_CLASS)
        total += neighbour
    total += np.uint8(2)
    total >>= np.uint8(2)
    return total


def payloads_to_poes(
    payloads: Sequence[bytes], levels: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float32] | CorruptItemError]:
    """Unpack curves: the inverse of ``poes_to_payloads``. Many at once take less time each than few.

    Parameters
    ----------
    levels : ndarray, shape (n_imts, n_levels)

    Returns
    -------
    list of ndarray or CorruptItemError
        For each payload its poes, shape (n_imts, n_levels), float32; or why there are none: it has another format
        number or order, ends too early or too late for so many IMTs and levels, or its check does not fit.
    """
    results: list[npt.NDArray[np.float32] | CorruptItemError] = [CorruptItemError("payload not read")] * len(payloads)
    readable = []
    for number, payload in enumerate(payloads):
        if len(payload) < 3 or payload[0] >> 4 != FORMAT or not 1 <= payload[0] & 15 <= MAX_ORDER:
            found = f"starts with {payload[:3].hex()}" if payload else "is empty"
            results[number] = CorruptItemError(f"payload {found}, this version reads format {FORMAT}")
        else:
            readable.append(number)
    for first in range(0, len(readable), _DECODE_CURVES):
        numbers = readable[first : first + _DECODE_CURVES]
        for number, result in zip(numbers, _decode([payloads[n] for n in numbers], levels), strict=True):
            results[number] = result
    return results


def _decode(
    payloads: Sequence[bytes], levels: npt.NDArray[np.float64]
) -> Iterator[npt.NDArray[np.float32] | CorruptItemError]:
    reader = BitReader([payload[2:] for payload in payloads])
    residuals, lengths = _read_residuals(reader, len(payloads), *levels.shape)
    orders = np.array([payload[0] & 15 for payload in payloads])
    bits = np.empty((len(payloads), *levels.shape), np.uint32)
    for order in set(orders.tolist()):
        of = np.flatnonzero(orders == order)
        restored = restore(residuals[:, :, of], lengths[:, of], weights_of_levels(levels, order))
        bits[of] = restored.transpose(2, 0, 1)
    checks = _checks(bits)
    for payload, curve, ended, check in zip(payloads, bits, reader.at_end().tolist(), checks.tolist(), strict=True):
        if ended and check == payload[1]:
            yield curve.view(np.float32)
        else:
            what = "its check does not fit" if ended else "it ends at another place"
            n_imts, n_levels = levels.shape
            yield CorruptItemError(f"payload of {len(payload)} bytes is no {n_imts} IMTs x {n_levels} levels: {what}")


def _checks(bits: Words) -> npt.NDArray[np.uint64]:
    """Give the second byte of each payload."""
    sums: npt.NDArray[np.uint64] = bits.reshape(len(bits), -1).sum(axis=1, dtype=np.uint64)
    sums %= np.uint64(CHECK_MODULUS)
    return sums


def _read_residuals(
    reader: BitReader, n_curves: int, n_imts: int, n_levels: int
) -> tuple[Words, npt.NDArray[np.int64]]:
    """Read all residuals, shape (n_imts, n_levels, n_curves), and the lengths of the rows, shape (n_imts, n_curves)."""
    residuals = np.zeros((n_imts, n_levels, n_curves), np.uint32)
    lengths = np.full((n_imts, n_curves), n_levels, np.int64)
    none = int(_NO_CLASS)
    above = np.full((n_levels + 1, n_curves), none, np.int64)
    for imt in range(n_imts):
        classes = np.full_like(above, none)
        curves = np.arange(n_curves)
        left = np.where(above[0] == none, 0, above[0])
        for level in range(n_levels):
            contexts = left + left
            for neighbour in above[level : level + 2].take(curves, axis=1):
                contexts += np.where(neighbour == none, left, neighbour)
            contexts += 2
            contexts >>= 2
            symbols, missed = reader.read(contexts, curves)
            goes_on = symbols != END
            if not goes_on.all():
                lengths[imt, curves[~goes_on]] = level
                curves, symbols, missed = curves[goes_on], symbols[goes_on], missed[goes_on]
                if not len(curves):
                    break
            left = symbols.astype(np.int64)
            classes[level, curves] = left
            residuals[imt, level, curves] = missed.astype(np.uint32)
        above = classes
    return residuals, lengths


@dataclass(frozen=True)
class PackedEncoding:
    """One binary attribute an item; IMTs, levels and coordinates are held once, with the meta."""

    name: str = "packed"

    def encode(self, block: CurveBlock, partition: Partition) -> Iterator[EncodedItem]:
        """Encode a block's items, site by site."""
        n_sites, n_kinds, n_imts, n_levels = block.poes.shape
        payloads = poes_to_payloads(block.poes.reshape(n_sites * n_kinds, n_imts, n_levels), block.levels)
        for hash_key, range_key, head in block_keys(block, partition):
            payload = binascii.b2a_base64(next(payloads), newline=False)
            yield EncodedItem(hash_key, range_key, b'%b,"poes":{"B":"%b"}}}}' % (head, payload))

    def decode(
        self, items: Sequence[Mapping[str, Any]], imtls: Mapping[str, npt.NDArray[np.float64]]
    ) -> list[npt.NDArray[np.float32] | CorruptItemError]:
        """Give the poes of items in the order of `imtls`, or what is wrong with an item.

        Parameters
        ----------
        items : sequence of mapping
            Attributes in DynamoDB's typed form, ``{"poes": {"B": b"..."}, ...}``.
        """
        payloads = [item.get(PAYLOAD_ATTRIBUTE, {}).get("B") for item in items]
        decoded = iter(payloads_to_poes([p for p in payloads if p is not None], np.array(list(imtls.values()))))
        missing = CorruptItemError(f"an item without the binary attribute {PAYLOAD_ATTRIBUTE!r}")
        return [missing if payload is None else next(decoded) for payload in payloads]
