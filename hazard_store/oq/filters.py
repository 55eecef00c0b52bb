"""Compressed chunks, as long as they must be: for the rest of a short one HDF5 gives what memory held before."""

from __future__ import annotations

import math
import zlib

import h5py
from h5py import h5z

_FLETCHER32_BYTES = 4


def require_whole_chunks(dataset: h5py.Dataset) -> None:
    """Check that each deflated chunk of numbers unpacks to its full length; other filters check that themselves.

    Raises
    ------
    OSError
        If one does not.
    """
    # Texts of any length stand elsewhere; what is in the chunk points to them, and HDF5 checks where.
    if dataset.chunks is None or dataset.compression != "gzip" or dataset.dtype.hasobject:
        return
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    deflate = filters.index(h5z.FILTER_DEFLATE)
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if h5z.FILTER_FLETCHER32 in filters[:deflate]:
        chunk_bytes += _FLETCHER32_BYTES
    for number in range(dataset.id.get_num_chunks()):
        stored = dataset.id.get_chunk_info(number)
        if stored.filter_mask & 1 << deflate:
            continue
        packed = dataset.id.read_direct_chunk(stored.chunk_offset)[1]
        if h5z.FILTER_FLETCHER32 in filters[deflate:]:
            packed = packed[:-_FLETCHER32_BYTES]
        unpacker = zlib.decompressobj()
        try:
            unpacked_bytes = len(unpacker.decompress(packed, chunk_bytes + 1))
        except zlib.error as exc:
            raise OSError(f"a chunk cannot be unpacked: {exc}") from exc
        if unpacked_bytes != chunk_bytes:
            raise OSError(f"a chunk of {chunk_bytes} bytes unpacks to {unpacked_bytes}")
