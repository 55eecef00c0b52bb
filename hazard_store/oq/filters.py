"""Chunks as long as they must be: for the rest of a short one HDF5 gives what memory held before."""

from __future__ import annotations

import math
import zlib

import h5py
from h5py import h5z

_FLETCHER32_BYTES = 4

# These neither pack nor unpack.
_OF_THE_SAME_LENGTH = frozenset({h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})


def require_whole_chunks(dataset: h5py.Dataset) -> None:
    """Check that each chunk of numbers, deflated or stored as it is, has its full length; other filters check it.

    Raises
    ------
    OSError
        If one has not.
    """
    # Texts of any length stand elsewhere; what is in the chunk points to them, and HDF5 checks where.
    if dataset.chunks is None or dataset.dtype.hasobject:
        return
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if not filters:
        # Then no length is stored with a chunk.
        return
    n_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for number in range(dataset.id.get_num_chunks()):
        stored = dataset.id.get_chunk_info(number)
        used = [one for place, one in enumerate(filters) if not stored.filter_mask >> place & 1]
        if h5z.FILTER_DEFLATE in used:
            packed = dataset.id.read_direct_chunk(stored.chunk_offset)[1]
            _require_whole(packed, used, n_bytes)
        elif _OF_THE_SAME_LENGTH.issuperset(used):
            expected = n_bytes + _FLETCHER32_BYTES * used.count(h5z.FILTER_FLETCHER32)
            if stored.size != expected:
                raise OSError(f"a chunk of {expected} bytes has {stored.size}")


def _require_whole(packed: bytes, filters: list[int], n_bytes: int) -> None:
    deflate = filters.index(h5z.FILTER_DEFLATE)
    n_bytes += _FLETCHER32_BYTES * filters[:deflate].count(h5z.FILTER_FLETCHER32)
    if h5z.FILTER_FLETCHER32 in filters[deflate:]:
        packed = packed[:-_FLETCHER32_BYTES]
    try:
        unpacked_bytes = len(zlib.decompressobj().decompress(packed, n_bytes + 1))
    except zlib.error as exc:
        raise OSError(f"a chunk cannot be unpacked: {exc}") from exc
    if unpacked_bytes != n_bytes:
        raise OSError(f"a chunk of {n_bytes} bytes unpacks to {unpacked_bytes}")
