"""Strict access to what is inside an HDF5 file: only data that the file itself holds, nothing pickled, text decoded."""

from __future__ import annotations

import json
import re
from typing import Any

import h5py
import numpy as np

from hazard_store.errors import NotADatastoreError, NotStorableError

READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises for damaged files, depending on where the damage is."""


class Reader:
    """Objects of one open HDF5 file by path, refusing every kind of data that lies outside that file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    source : str
        How error messages name it.
    """

    def __init__(self, file: h5py.File, source: str) -> None:
        self.file = file
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
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise NotStorableError(f"{path} keeps its data in other files; store the original", source=self.source)
        return item if isinstance(item, (h5py.Dataset, h5py.Group)) else None

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
            return dataset[()]
        except READ_ERRORS as exc:
            raise self.damaged(path, exc) from exc

    def attributes(self, path: str = "") -> dict[str, Any]:
        """Return the attributes of the object at `path` (default: of the root), texts decoded."""
        item = self.find(path) if path else self.file
        if item is None:
            return {}
        try:
            return {str(name): decoded(value) for name, value in item.attrs.items()}
        except READ_ERRORS as exc:
            raise self.damaged(path or "/", exc) from exc

    def damaged(self, path: str, exc: BaseException) -> NotStorableError:
        """Return the error that says that `path` is there but cannot be read."""
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        return NotStorableError(f"{path} is damaged ({reason}); copy the datastore again", source=self.source)


def root_attributes(reader: Reader) -> dict[str, Any]:
    """Return the attributes of the root, which tell a datastore of OpenQuake.

    Raises
    ------
    NotADatastoreError
        If OpenQuake did not write this file.
    """
    try:
        attributes = reader.attributes()
        names = set(reader.file)
    except (NotStorableError, *READ_ERRORS) as exc:
        raise NotADatastoreError(f"is damaged HDF5 ({exc}); copy the datastore again", source=reader.source) from exc
    if "engine_version" not in attributes:
        held = ", ".join(sorted(names)[:5]) or "nothing"
        raise NotADatastoreError(
            f"is HDF5 but not a datastore of OpenQuake: no root attribute engine_version (it holds {held}); "
            "give OpenQuake's calc_N.hdf5",
            source=reader.source,
        )
    return attributes


def decoded(value: Any) -> Any:
    """Return HDF5 text as `str`, arrays as lists and numbers as Python's own; trailing NULs fall away."""
    if isinstance(value, np.void) and value.dtype.names is None:
        value = value.tobytes()
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
    attributes = {str(name): decoded(value) for name, value in dataset.attrs.items()}
    text = attributes.get("json")
    if isinstance(text, str):
        described = json.loads(text)
        return described if isinstance(described, dict) else {}
    return attributes


def version_numbers(engine_version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `3.18.0-git00cb8596ff` gives `(3, 18, 0)`."""
    found = re.match(r"\d+(?:\.\d+)*", engine_version.strip())
    return tuple(int(number) for number in found.group().split(".")) if found else ()
