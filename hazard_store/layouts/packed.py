"""Encoding `packed`: all of a curve's float32 poes in one binary attribute, lossless.

The form, bit by bit, stands in ``docs/packed-format.md``; a test decodes an item from that page alone. Each poe is
predicted from those before it (`prediction`), and what the prediction misses by is written in as few bits as it needs
(`bitcode`); `kernels` has the loops. Differences of bit patterns modulo 2**32 lose nothing, whatever the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pybase64

from hazard_store.errors import CorruptItemError
from hazard_store.layouts.bitcode import DECODER, ENCODER, END, MAX_CODE_BITS, N_CONTEXTS
from hazard_store.layouts.items import CurveBlock, EncodedItem
from hazard_store.layouts.partition import Partition, block_keys
from hazard_store.layouts.prediction import EXP_TABLE, LOG_TABLE, MAX_ORDER, ORDERS, weights_of_levels
from hazard_store.names import CurvePart

PAYLOAD_ATTRIBUTE = "poes"

# Names count as bytes of every item, and a started kilobyte costs a write unit: 16 to 23 bytes less than names that
# say what a key is made of.
KEY_NAMES = ("pk", "sk")

# The high four bits of the first byte; the low four are the order of the prediction.
FORMAT = 2

# What the second byte is the remainder by.
CHECK_MODULUS = 251

# A symbol takes 12 bits at most, and its residual 32.
_MAX_BITS = MAX_CODE_BITS + 32

# Curves that one call of a kernel takes: some hundred KB that are written again and again stay in the cache.
_CURVES_AT_ONCE = 64

_TABLES = (LOG_TABLE, EXP_TABLE)
_HEADS = np.array([FORMAT << 4 | order for order in ORDERS])


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
    from hazard_store.layouts import kernels

    bits = poes.view(np.uint32)
    weights, rows = _weights_of_orders(levels, ORDERS)
    n_imts, n_levels = levels.shape
    out = np.empty(_CURVES_AT_ONCE * (2 + (n_imts * (n_levels + 1) * _MAX_BITS + 7) // 8), np.uint8)
    for first in range(0, len(bits), _CURVES_AT_ONCE):
        some = bits[first : first + _CURVES_AT_ONCE]
        ends = kernels.encode_curves(some, _HEADS, weights, rows, CHECK_MODULUS, _TABLES, ENCODER, out)
        written = out[: ends[-1]].tobytes()
        for start, end in pairwise([0, *ends.tolist()]):
            yield written[start:end]


def payloads_to_poes(
    payloads: Sequence[bytes], levels: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float32] | CorruptItemError]:
    """Unpack curves: the inverse of ``poes_to_payloads``.

    Parameters
    ----------
    levels : ndarray, shape (n_imts, n_levels)

    Returns
    -------
    list of ndarray or CorruptItemError
        For each payload its poes, shape (n_imts, n_levels), float32; or why there are none: it has another format
        number or order, ends too early or too late for so many IMTs and levels, or its check does not fit.
    """
    from hazard_store.layouts import kernels

    results: list[npt.NDArray[np.float32] | CorruptItemError] = [CorruptItemError("payload not read")] * len(payloads)
    readable = []
    for number, payload in enumerate(payloads):
        if len(payload) < 3 or payload[0] >> 4 != FORMAT or not 1 <= payload[0] & 15 <= MAX_ORDER:
            found = f"starts with {payload[:3].hex()}" if payload else "is empty"
            results[number] = CorruptItemError(f"payload {found}, this version reads format {FORMAT}")
        else:
            readable.append(number)
    if not readable:
        return results
    some = [payloads[number] for number in readable]
    # A damaged payload is read some bytes beyond its end before that shows.
    data = np.frombuffer(b"".join(some) + bytes(8), np.uint8)
    ends = np.cumsum([len(payload) for payload in some])
    weights, rows = _weights_of_orders(levels, range(1, MAX_ORDER + 1), needed={payload[0] & 15 for payload in some})
    bits = np.empty((len(some), *levels.shape), np.uint32)
    faults = kernels.decode_curves(data, ends, weights, rows, CHECK_MODULUS, _TABLES, DECODER, bits)
    for number, payload, curve, fault in zip(readable, some, bits, faults.tolist(), strict=True):
        if fault == kernels.FINE:
            results[number] = curve.view(np.float32)
        else:
            why = "it ends at another place" if fault == kernels.ENDS_ELSEWHERE else "its check does not fit"
            n_imts, n_levels = levels.shape
            what = f"payload of {len(payload)} bytes is no {n_imts} IMTs x {n_levels} levels: {why}"
            results[number] = CorruptItemError(what)
    return results


def symbol_counts(poes: npt.NDArray[np.float32], levels: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Count the symbols of some curves by context, to which code lengths are fitted, shape (n_contexts, n_symbols)."""
    from hazard_store.layouts import kernels

    counts = np.zeros((N_CONTEXTS, END + 1), np.int64)
    kernels.count_symbols(poes.view(np.uint32), *_weights_of_orders(levels, ORDERS), _TABLES, counts)
    return counts


def compile_codec() -> None:
    """Compile what packs and unpacks, which takes some seconds and is kept: an installation does it once."""
    levels = np.ones((1, 1))
    payloads_to_poes(list(poes_to_payloads(np.ones((1, 1, 1), np.float32), levels)), levels)


def _weights_of_orders(
    levels: npt.NDArray[np.float64], orders: Iterable[int], needed: Iterable[int] = ORDERS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Put the weights of some orders into one array.

    Returns
    -------
    weights : ndarray, shape (n_orders, n_rows, MAX_ORDER - 1, n_levels)
        Those that an order has not are 0.
    rows : ndarray, shape (n_imts,)
        Which row each IMT has: one stands for all with the same levels.
    """
    words = np.ascontiguousarray(levels, "<f8").tobytes()
    return _weights_of_words(words, len(levels), tuple(orders), frozenset(needed))


@lru_cache(maxsize=64)  # a worker has the same levels block after block
def _weights_of_words(
    levels: bytes, n_imts: int, orders: tuple[int, ...], needed: frozenset[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    different, rows = np.unique(np.frombuffer(levels, "<f8").reshape(n_imts, -1), axis=0, return_inverse=True)
    n_rows, n_levels = different.shape
    weights = np.zeros((len(orders), n_rows, MAX_ORDER - 1, n_levels), np.int64)
    for place, order in enumerate(orders):
        if order in needed:
            weights[place, :, : order - 1] = weights_of_levels(different, order).swapaxes(1, 2)
    rows = rows.ravel()
    weights.flags.writeable = rows.flags.writeable = False
    return weights, rows


@dataclass(frozen=True)
class PackedEncoding:
    """One binary attribute an item; IMTs, levels and coordinates are held once, with the meta."""

    name: str = "packed"

    def key_names(self, partition: Partition, part: CurvePart) -> tuple[str, str]:
        """``pk`` and ``sk``, whatever they are made of."""
        return KEY_NAMES

    def encode(self, block: CurveBlock, partition: Partition) -> Iterator[EncodedItem]:
        """Encode a block's items, site by site."""
        n_sites, n_kinds, n_imts, n_levels = block.poes.shape
        payloads = poes_to_payloads(block.poes.reshape(n_sites * n_kinds, n_imts, n_levels), block.levels)
        for hash_key, range_key, head in block_keys(block, partition, KEY_NAMES):
            payload = pybase64.b64encode(next(payloads))
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
