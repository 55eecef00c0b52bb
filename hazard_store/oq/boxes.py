"""Which pieces of an array are read at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import h5py
from h5py import h5d, h5p

POE_BYTES = 4  # float32

MAX_CHUNKS = 4096
"""HDF5 chunks of one read: for each HDF5 keeps 7 KB until the read is done, however short it is (measured on 2.0)."""

MAX_CACHE_BYTES = 64 << 20
"""Of unpacked chunks, for the next block of sites. HDF5's own megabyte holds a few of them.

Chunks as h5py chooses them have 700 to 1,400 of 11,500 sites, and all chunks of these together 40 to 60 MB: with
40 realisations, 8 IMTs and 30 levels, or with 12, 27 and 44."""

# A prime, as HDF5 asks for.
_CACHE_SLOTS = 12_421


def remembering_chunks(dataset: h5py.Dataset) -> h5py.Dataset:
    """Return a dataset that keeps unpacked chunks where that spares any, in place of the one given, which is closed.

    It spares none where no chunk has more than one site, or those of the same sites are too many to be kept.
    """
    if dataset.chunks is None or dataset.chunks[0] == 1:
        return dataset
    of_same_sites = math.prod(-(-n // chunk) for n, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True))
    cache_bytes = of_same_sites * math.prod(dataset.chunks) * dataset.dtype.itemsize
    if cache_bytes > MAX_CACHE_BYTES:
        return dataset
    file, name = dataset.file, dataset.name
    # While it is open, HDF5 opens it again as it is.
    dataset.id.close()
    access = h5p.create(h5p.DATASET_ACCESS)
    # No more than these: a worker reads statistics and realisations, and has 350 MB for all that it does.
    access.set_chunk_cache(_CACHE_SLOTS, cache_bytes, 0.75)
    return h5py.Dataset(h5d.open(file.id, name.encode(), access))


def boxes_in(
    dataset: h5py.Dataset, region: Sequence[slice], box_bytes: float = math.inf
) -> Iterator[tuple[slice, ...]]:
    """Yield boxes of whole chunks, or of whole curves, that cover a region of curves; see `boxes_of`."""
    if dataset.chunks is not None:
        return boxes_of(region, dataset.chunks, box_bytes, MAX_CHUNKS)
    return boxes_of(region, (1, 1, *dataset.shape[2:]), box_bytes)


def boxes_of(
    region: Sequence[slice], unit: Sequence[int], box_bytes: float, max_units: float = math.inf
) -> Iterator[tuple[slice, ...]]:
    """Yield boxes that cover a region of an array, the last axis fastest, each of at most `box_bytes`.

    No box parts a unit, such as a chunk of HDF5, which is unpacked whole for the least part of it; one unit is the
    least. Boxes extend along the last axes first, as numbers lie in a file.

    Parameters
    ----------
    region : sequence of slice
        Start and stop on each axis.
    unit : sequence of int
        Lengths of a unit on each axis; units begin at multiples of it.

    >>> list(boxes_of((slice(1, 4), slice(0, 10)), (2, 5), box_bytes=80))
    [(slice(1, 2, None), slice(0, 10, None)), (slice(2, 4, None), slice(0, 10, None))]
    """
    units = [-(-along.stop // length) - along.start // length for along, length in zip(region, unit, strict=True)]
    fitting = max(1, int(min(math.prod(units), max_units, box_bytes / (POE_BYTES * math.prod(unit)))))
    slices: list[list[slice]] = []
    for along, length, n_units in reversed(list(zip(region, unit, units, strict=True))):
        count = max(1, min(n_units, fitting))
        fitting //= count
        step = count * length
        # A box that begins within a unit ends with it, or with one of the next.
        inner = range(along.start // length * length + step, along.stop, step)
        cuts = [along.start, *inner, along.stop]
        slices.insert(0, [slice(*pair) for pair in itertools.pairwise(cuts)] if along.stop > along.start else [])
    return itertools.product(*slices)
