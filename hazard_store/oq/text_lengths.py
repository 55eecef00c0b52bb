"""How long the texts of a table are, told before one of them is read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

import h5py
import numpy as np
from numpy.typing import NDArray

# Of the rows themselves, which are read to be looked at.
_READ_BYTES = 1 << 20

# HDF5 File Format Specification, "Variable-length": four bytes of length, then address and index of the text.
_LENGTH = np.dtype("<u4")
_INDEX_BYTES = 4


def text_bytes_of_rows(dataset: h5py.Dataset, stream: io.RawIOBase | IO[bytes]) -> NDArray[np.int64] | None:
    """Return how many bytes the texts of each row have together, shape (n_rows,).

    A row holds of each text how long it is and where it stands. All rows of a file may show one text that is as long as
    the file, so that nobody knows what reading some will take who has not looked at these lengths.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (n_rows,)
        Texts, or a table with columns of texts.
    stream : binary file
        The file that it is in.

    Returns
    -------
    ndarray or None
        None where they do not stand in one piece, or the rows hold anything else of no certain length.

    Raises
    ------
    OSError
        If the file ends before the rows do.
    """
    start = dataset.id.get_offset()
    if dataset.chunks is not None or start is None or len(dataset.shape) != 1 or not dataset.shape[0]:
        return None
    reference_bytes = _LENGTH.itemsize + dataset.file.id.get_create_plist().get_sizes()[0] + _INDEX_BYTES
    places = _places_of_texts(dataset.id.get_type(), reference_bytes)
    n_rows = dataset.shape[0]
    stored_bytes = dataset.id.get_storage_size()
    row_bytes = dataset.dtype.itemsize + len(places or ()) * (reference_bytes - np.dtype(object).itemsize)
    if not places or stored_bytes != n_rows * row_bytes:
        return None
    names = [f"at {place}" for place in places]
    formats = [_LENGTH] * len(places)
    row = np.dtype({"names": names, "formats": formats, "offsets": places, "itemsize": row_bytes})
    found = [np.zeros(0, np.int64)]
    step = max(1, _READ_BYTES // row_bytes)
    stream.seek(start)
    for first in range(0, n_rows, step):
        expected_bytes = min(step, n_rows - first) * row_bytes
        rows = stream.read(expected_bytes) or b""
        if len(rows) != expected_bytes:
            raise OSError(f"the file ends in its row {first + len(rows) // row_bytes:,}")
        lengths = np.frombuffer(rows, row)
        found.append(np.sum([lengths[name] for name in names], axis=0, dtype=np.int64))
    return np.concatenate(found)


def _places_of_texts(type_id: h5py.h5t.TypeID, reference_bytes: int) -> list[int] | None:
    """Return where in a row the texts stand; None if it holds anything else that stands elsewhere.

    h5py tells places as in memory, where a text is a pointer. In the file all that stands behind a text stands the
    further back the longer a reference is than that.
    """
    if _is_text(type_id):
        return [0]
    if not isinstance(type_id, h5py.h5t.TypeCompoundID):
        return None
    members = [(type_id.get_member_offset(i), type_id.get_member_type(i)) for i in range(type_id.get_nmembers())]
    members.sort(key=lambda member: member[0])
    places: list[int] = []
    for offset, member in members:
        if _is_text(member):
            places.append(offset + len(places) * (reference_bytes - np.dtype(object).itemsize))
        elif member.dtype.hasobject:
            return None
    return places


def _is_text(type_id: h5py.h5t.TypeID) -> bool:
    return isinstance(type_id, h5py.h5t.TypeStringID) and type_id.is_variable_str()


def blocks_within(row_bytes: NDArray[np.int64], block_bytes: int, block_rows: int) -> Iterator[slice]:
    """Yield slices of rows, in order, each of at most so many bytes where it can be, and so many rows.

    >>> list(blocks_within(np.array([5, 5, 1, 99, 1, 1]), block_bytes=10, block_rows=2))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 6, None)]
    """
    ends = np.cumsum(row_bytes)
    start, before = 0, 0
    while start < len(ends):
        fitting = int(np.searchsorted(ends, before + block_bytes, side="right"))
        stop = max(start + 1, min(fitting, start + block_rows))
        yield slice(start, stop)
        start, before = stop, int(ends[stop - 1])
