"""Encoding `packed`: all of a curve's float32 poes in one binary attribute, lossless.

The form, byte by byte, stands in ``docs/packed-format.md``; a test decodes an item from that page alone. Poes fall with
the level, so their float32 bit patterns, read as unsigned integers, fall too: the differences between neighbours are
small, their high bytes are nearly all zero once the bytes are shuffled into planes, and zstd stores runs of zeros in
next to nothing. Integer differences modulo 2**32 lose nothing, whatever the values.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from hazard_store.errors import CorruptItemError
from hazard_store.layouts.items import CurveBlock, EncodedItem
from hazard_store.layouts.partition import Partition, block_keys

PAYLOAD_ATTRIBUTE = "poes"
FORMAT = 1

# Chosen with `python -m benchmarks.codecs`; see docs/decisions/0002-packed-codec.md.
ZSTD_LEVEL = 3


def poes_to_payloads(poes: npt.NDArray[np.float32]) -> Iterator[bytes]:
    """Pack curves, one payload each.

    Parameters
    ----------
    poes : ndarray, shape (n_curves, n_imts, n_levels), float32, C-contiguous

    Yields
    ------
    bytes
        The value of the attribute ``poes``. ``payload_to_poes`` gives the same 32 bits back for every value, NaN and
        negative zero included.
    """
    bits = poes.view(np.uint32)
    falls = bits.copy()
    np.subtract(bits[:, :, :-1], bits[:, :, 1:], out=falls[:, :, 1:])
    n_curves, n_values = poes.shape[0], poes.shape[1] * poes.shape[2]
    little_endian = falls.astype("<u4", copy=False).view(np.uint8).reshape(n_curves, n_values, 4)
    planes = np.ascontiguousarray(little_endian.transpose(0, 2, 1)).reshape(n_curves, 4 * n_values)
    # Without checksum and dictionary id the frame is shorter by some bytes; the content size stays in it.
    compress = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False, write_dict_id=False).compress
    head = bytes([FORMAT])
    for plane in planes:
        yield head + compress(plane.data)


def payload_to_poes(payload: bytes, n_imts: int, n_levels: int) -> npt.NDArray[np.float32]:
    """Unpack one curve: the inverse of ``poes_to_payloads``.

    Returns
    -------
    ndarray, shape (n_imts, n_levels), float32

    Raises
    ------
    CorruptItemError
        If the payload has another format number, does not decompress, or holds another number of values.
    """
    if payload[:1] != bytes([FORMAT]):
        raise CorruptItemError(f"payload of format {payload[:1].hex() or 'none'}, this version reads {FORMAT:02x}")
    expected = 4 * n_imts * n_levels
    try:
        # The bound keeps a damaged or hostile frame from asking for more memory than a curve has.
        size = zstandard.frame_content_size(payload[1:])
        planes = zstandard.ZstdDecompressor().decompress(payload[1:]) if size == expected else b""
    except zstandard.ZstdError as exc:
        raise CorruptItemError(f"payload does not decompress: {exc}") from exc
    if len(planes) != expected:
        raise CorruptItemError(f"payload holds {size} bytes, expected {expected} for {n_imts} IMTs x {n_levels} levels")
    falls = np.frombuffer(planes, np.uint8).reshape(4, n_imts * n_levels).T.copy().view("<u4")
    bits = falls.reshape(n_imts, n_levels).astype(np.uint32)
    # first - fall1 - fall2 ...: the running sum of the negated differences, modulo 2**32.
    np.negative(bits[:, 1:], out=bits[:, 1:])
    return np.cumsum(bits, axis=1, dtype=np.uint32).view(np.float32)


@dataclass(frozen=True)
class PackedEncoding:
    """One binary attribute an item; IMTs, levels and coordinates are held once, with the meta."""

    name: str = "packed"

    def encode(self, block: CurveBlock, partition: Partition) -> Iterator[EncodedItem]:
        """Encode a block's items, site by site."""
        n_sites, n_kinds, n_imts, n_levels = block.poes.shape
        payloads = poes_to_payloads(block.poes.reshape(n_sites * n_kinds, n_imts, n_levels))
        for hash_key, range_key, head in block_keys(block, partition):
            payload = binascii.b2a_base64(next(payloads), newline=False)
            yield EncodedItem(hash_key, range_key, b'%b,"poes":{"B":"%b"}}}}' % (head, payload))

    def decode(self, item: Mapping[str, Any], imtls: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
        """Give an item's poes in the order of `imtls`, shape (n_imts, n_levels), float32.

        Parameters
        ----------
        item : mapping
            Attributes in DynamoDB's typed form, ``{"poes": {"B": b"..."}, ...}``.
        """
        n_levels = len(next(iter(imtls.values())))
        try:
            payload = item[PAYLOAD_ATTRIBUTE]["B"]
        except KeyError as exc:
            raise CorruptItemError(f"an item without the binary attribute {PAYLOAD_ATTRIBUTE!r}") from exc
        return payload_to_poes(payload, len(imtls), n_levels)
