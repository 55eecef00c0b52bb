"""Strict access to what is inside an HDF5 file: only data that the file itself holds, nothing pickled, text decoded."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

import h5py
import numpy as np

from hazard_store.errors import NotADatastoreError, NotStorableError
from hazard_store.oq.filters import require_whole_chunks
from hazard_store.oq.text_lengths import blocks_within, text_bytes_of_rows

READ_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    AssertionError,
)
"""What h5py and numpy raise for damaged files, depending on where the damage is."""

MAX_VALUES = 20_000_000
MAX_VALUES_BYTES = 128 << 20
"""Of what is read whole: site columns, weights, tables, parameters. A million sites take 8 MB a column."""

MAX_INFLATION = 1032
"""What deflate, the only compression of engines, makes of a byte at most (zlib's technical details)."""

UNFILLED_BYTES = 1 << 20
"""What may be read whole without having been written: little enough to cost nothing."""

MAX_CHUNK_BYTES = 64 << 20
"""HDF5 brings whole chunks into memory; h5py itself makes them at most 1 MB."""

MAX_ATTRIBUTE_BYTES = 4 << 20
MAX_ATTRIBUTE_TEXTS = 1_000
"""Attributes are names and counts. A text may stand elsewhere in the file, of any length, so their number counts."""

TEXT_BLOCK_BYTES = 16 << 20
TEXT_BLOCK_ROWS = 4096
"""How much the texts of one read may come to; where they do not tell their length, each counts as long as the file."""


class Reader:
    """Objects of one open HDF5 file by path, refusing every kind of data that lies outside that file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    stream : binary file
        What it is read from.
    source : str
        How error messages name it.
    """

    def __init__(self, file: h5py.File, stream: io.RawIOBase | IO[bytes], source: str) -> None:
        self.file = file
        self.stream = stream
        self.source = source

    def find(self, path: str) -> h5py.Dataset | h5py.Group | None:
        """Return the object at `path`, or `None` if there is none.

        Raises
        ------
        NotStorableError
            If the way there is a link, or the data lies in another file.
        """
        item: Any = self.file
        try:
            for name in path.split("/"):
                if not isinstance(item, h5py.Group) or item.get(name, getlink=True) is None:
                    return None
                if not isinstance(item.get(name, getlink=True), h5py.HardLink):
                    raise NotStorableError(
                        f"{path} is a link, not data of this file; store the original", source=self.source
                    )
                item = item[name]
        except READ_ERRORS as exc:
            raise self.damaged(path, exc) from exc
        if isinstance(item, h5py.Dataset):
            self._check_storage(path, item)
        return item if isinstance(item, (h5py.Dataset, h5py.Group)) else None

    def _check_storage(self, path: str, dataset: h5py.Dataset) -> None:
        try:
            elsewhere = bool(dataset.external or dataset.is_virtual)
            chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
        except READ_ERRORS as exc:
            raise self.damaged(path, exc) from exc
        if elsewhere:
            raise NotStorableError(f"{path} keeps its data in other files; store the original", source=self.source)
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise NotStorableError(
                f"{path} has chunks of {chunk_bytes / 1e6:,.0f} MB, more than {MAX_CHUNK_BYTES >> 20} MB, "
                "which no engine writes; store the original",
                source=self.source,
            )

    def dataset(self, path: str) -> h5py.Dataset | None:
        """Return the dataset at `path`, or `None` if there is none."""
        item = self.find(path)
        return item if isinstance(item, h5py.Dataset) else None

    def values(self, path: str) -> Any:
        """Return everything that the dataset at `path` holds, or `None` if there is none."""
        dataset = self.dataset(path)
        if dataset is None:
            return None
        try:
            shape, item_bytes = dataset.shape, dataset.dtype.itemsize
            if shape is None:
                raise NotStorableError(f"{path} holds nothing; copy the datastore again", source=self.source)
            number = math.prod(shape)
            if number > MAX_VALUES or number * item_bytes > MAX_VALUES_BYTES:
                raise NotStorableError(
                    f"{path} has shape {shape}, {number * item_bytes / 1e6:,.0f} MB, more than any engine writes "
                    "there; copy the datastore again",
                    source=self.source,
                )
            if number * item_bytes > max(UNFILLED_BYTES, MAX_INFLATION * dataset.id.get_storage_size()):
                raise NotStorableError(
                    f"{path} has shape {shape}, but was never filled; copy the datastore again", source=self.source
                )
            require_whole_chunks(dataset)
            return self._texts(dataset, path) if dataset.dtype.hasobject and shape else dataset[()]
        except READ_ERRORS as exc:
            raise self.damaged(path, exc) from exc

    def _texts(self, dataset: h5py.Dataset, path: str) -> Any:
        """Read values that hold texts a block at a time: all rows may show one text as long as the file."""
        values = np.empty(dataset.shape, dataset.dtype)
        left_bytes = MAX_VALUES_BYTES
        for rows in self._text_blocks(dataset, path):
            block = dataset[rows]
            left_bytes -= sum(len(text) for text in _texts_of(block))
            if left_bytes < 0:
                raise self._too_much_text(path)
            values[rows] = block
        return values

    def _text_blocks(self, dataset: h5py.Dataset, path: str) -> Iterator[slice]:
        """Yield slices of rows whose texts have `TEXT_BLOCK_BYTES` together, where a row has not more than that."""
        lengths = text_bytes_of_rows(dataset, self.stream)
        if lengths is not None:
            if lengths.sum() > MAX_VALUES_BYTES:
                raise self._too_much_text(path)
            yield from blocks_within(lengths, TEXT_BLOCK_BYTES, TEXT_BLOCK_ROWS)
            return
        step = max(1, min(TEXT_BLOCK_ROWS, TEXT_BLOCK_BYTES // max(1, self.file.id.get_filesize())))
        for start in range(0, dataset.shape[0], step):
            yield slice(start, start + step)

    def _too_much_text(self, path: str) -> NotStorableError:
        return NotStorableError(
            f"{path} holds more than {MAX_VALUES_BYTES >> 20} MB of text; copy the datastore again",
            source=self.source,
        )

    def attributes(self, path: str, names: tuple[str, ...]) -> dict[str, Any]:
        """Return those of the named attributes that the object at `path` (the root if empty) has, texts decoded."""
        item = self.find(path) if path else self.file
        if item is None:
            return {}
        try:
            return attributes_of(item, names)
        except READ_ERRORS as exc:
            raise self.damaged(path or "/", exc) from exc

    def damaged(self, path: str, exc: BaseException) -> NotStorableError:
        """Return the error that says that `path` is there but cannot be read."""
        reason = (str(exc) or type(exc).__name__).strip().partition("\n")[0]
        return NotStorableError(f"{path} is damaged ({reason}); copy the datastore again", source=self.source)


def root_attributes(reader: Reader) -> dict[str, Any]:
    """Return the attributes of the root, which tell a datastore of OpenQuake.

    Raises
    ------
    NotADatastoreError
        If OpenQuake did not write this file.
    """
    try:
        attributes = reader.attributes("", ("engine_version", "checksum32", "date"))
        names = list(islice(reader.file, 5)) if "engine_version" not in attributes else []
    except (NotStorableError, *READ_ERRORS) as exc:
        raise NotADatastoreError(f"is damaged HDF5 ({exc}); copy the datastore again", source=reader.source) from exc
    if "engine_version" not in attributes:
        held = ", ".join(sorted(names)) or "nothing"
        raise NotADatastoreError(
            f"is HDF5 but not a datastore of OpenQuake: no root attribute engine_version (it holds {held}); "
            "give OpenQuake's calc_N.hdf5",
            source=reader.source,
        )
    return attributes


def attributes_of(item: h5py.Dataset | h5py.Group, names: tuple[str, ...]) -> dict[str, Any]:
    """Return those of the named attributes that an object has, texts decoded.

    Raises
    ------
    ValueError
        If one is larger than any engine writes.
    """
    found = {}
    for name in names:
        if name in item.attrs:
            stored = item.attrs.get_id(name)
            number = math.prod(stored.shape or ())
            if stored.get_storage_size() > MAX_ATTRIBUTE_BYTES or (
                stored.dtype.hasobject and number > MAX_ATTRIBUTE_TEXTS
            ):
                raise ValueError(f"attribute {name} is larger than any engine writes")
            found[name] = decoded(item.attrs[name])
    return found


def _texts_of(block: Any) -> Iterator[bytes]:
    columns = [block[name] for name in block.dtype.names] if block.dtype.names else [block]
    for column in columns:
        if column.dtype.hasobject:
            yield from (value for value in column.reshape(-1).tolist() if isinstance(value, bytes))


def decoded(value: Any) -> Any:
    """Return HDF5 text as `str`, arrays as lists and numbers as Python's own; trailing NULs fall away."""
    if isinstance(value, np.void) and value.dtype.names is None:
        value = value.tobytes()
    if isinstance(value, str):
        # h5py gives bytes that are not UTF-8 as lone surrogates, which no encoding takes back.
        return value.encode(errors="replace").decode()
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return [decoded(item) for item in value.tolist()] if value.shape else decoded(value.item())
    if isinstance(value, np.generic):
        return decoded(value.item())
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return value


def described_axes(dataset: h5py.Dataset) -> dict[str, Any]:
    """Return what the engine says about the axes of a curve dataset: names, or a count, for each axis.

    The description is the JSON text of the attribute `json`; the oldest files hold one attribute an axis instead.
    """
    attributes = attributes_of(dataset, ("json", "imt", "stat"))
    text = attributes.get("json")
    if isinstance(text, str):
        described = json.loads(text)
        return described if isinstance(described, dict) else {}
    return attributes


def version_numbers(engine_version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `3.18.0-git00cb8596ff` gives `(3, 18, 0)`."""
    found = re.match(r"\d+(?:\.\d+)*", engine_version.strip())
    return tuple(int(number) for number in found.group().split(".")) if found else ()
