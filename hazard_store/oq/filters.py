"""Chunks as long as they must be: for the rest of a short one HDF5 gives what memory held before."""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterator

import h5py
from h5py import h5d, h5z

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
    for offset, filter_mask, stored_bytes in _stored_chunks(dataset):
        used = [one for place, one in enumerate(filters) if not filter_mask >> place & 1]
        if h5z.FILTER_DEFLATE in used:
            packed = dataset.id.read_direct_chunk(offset)[1]
            _require_whole(packed, used, n_bytes)
        elif _OF_THE_SAME_LENGTH.issuperset(used):
            expected = n_bytes + _FLETCHER32_BYTES * used.count(h5z.FILTER_FLETCHER32)
            if stored_bytes != expected:
                raise OSError(f"a chunk of {expected} bytes has {stored_bytes}")


def _stored_chunks(dataset: h5py.Dataset) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield offset, filter mask and length of each chunk that is stored."""
    # Bare numbers, for there may be millions.
    offsets, masks, lengths = array("Q"), array("I"), array("Q")

    def note(stored: h5d.StoreInfo) -> None:
        offsets.extend(stored.chunk_offset)
        masks.append(stored.filter_mask)
        lengths.append(stored.size)

    if hasattr(dataset.id, "chunk_iter"):
        dataset.id.chunk_iter(note)
    else:
        # Built with an HDF5 before 1.12.3, which goes through all chunks before the one whose number it is asked for.
        for number in range(dataset.id.get_num_chunks()):
            note(dataset.id.get_chunk_info(number))
    n_axes = len(dataset.chunks)
    for number, (mask, length) in enumerate(zip(masks, lengths, strict=True)):
        yield tuple(offsets[number * n_axes : (number + 1) * n_axes]), mask, length


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
