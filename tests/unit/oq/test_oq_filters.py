"""Chunks that unpack to less than they should are refused, whatever filters stand around."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.oq.filters import _stored_chunks, require_whole_chunks

VALUES = np.arange(40.0).reshape(8, 5)


def written(path: Path, **filters: Any) -> h5py.File:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(4, 5), **filters)
    return h5py.File(path, "r+")


@pytest.mark.parametrize(
    "filters",
    [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}],
)
def test_whole_chunks_pass(tmp_path: Path, filters: dict[str, Any]) -> None:
    with written(tmp_path / "a.hdf5", **filters) as file:
        require_whole_chunks(file["x"])


def test_whole_chunks_of_texts_pass(tmp_path: Path) -> None:
    row = np.dtype([("name", h5py.string_dtype()), ("weight", "<f8")])
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset(
            "x", data=np.array([("a", 0.5), ("bc", 0.5)], row), chunks=(4,), maxshape=(None,), compression=9
        )
        require_whole_chunks(file["x"])


def test_a_chunk_that_was_stored_without_its_filter_passes(tmp_path: Path) -> None:
    with written(tmp_path / "a.hdf5", compression="gzip") as file:
        file["x"].id.write_direct_chunk((0, 0), VALUES[:4].tobytes(), filter_mask=1)
        require_whole_chunks(file["x"])
        np.testing.assert_array_equal(file["x"][:], VALUES)


@pytest.mark.parametrize("content", [VALUES[:3].tobytes(), VALUES[:5].tobytes()])
def test_chunks_of_another_length_are_refused(tmp_path: Path, content: bytes) -> None:
    with written(tmp_path / "a.hdf5", compression="gzip") as file:
        file["x"].id.write_direct_chunk((4, 0), zlib.compress(content))
        with pytest.raises(OSError, match="a chunk of 160 bytes unpacks to"):
            require_whole_chunks(file["x"])


def test_a_chunk_that_is_no_deflate_stream_is_refused(tmp_path: Path) -> None:
    with written(tmp_path / "a.hdf5", compression="gzip") as file:
        file["x"].id.write_direct_chunk((0, 0), b"nonsense")
        with pytest.raises(OSError, match="cannot be unpacked"):
            require_whole_chunks(file["x"])


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True}])
def test_a_chunk_stored_without_its_filters_must_have_its_length(tmp_path: Path, filters: dict[str, Any]) -> None:
    with written(tmp_path / "a.hdf5", **filters) as file:
        file["x"].id.write_direct_chunk((4, 0), VALUES[:3].tobytes(), filter_mask=0xFFFF_FFFF)
        with pytest.raises(OSError, match="a chunk of 160 bytes has 120"):
            require_whole_chunks(file["x"])


class WithoutIteration:
    """The low-level dataset of an h5py that was built with an older HDF5."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._id = dataset.id

    def __getattr__(self, name: str) -> Any:
        if name == "chunk_iter":
            raise AttributeError(name)
        return getattr(self._id, name)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("iterated", [False, True])
def test_each_stored_chunk_is_listed_once(
    libver: str, growing: bool, iterated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w", libver=libver) as file:
        dataset = file.create_dataset(
            "x", (9, 4), "f8", chunks=(2, 3), compression="gzip", maxshape=(None, 4) if growing else None
        )
        dataset[0:5, 3:] = 1
        dataset[8, 0] = 1
        places = [(0, 3), (2, 3), (4, 3), (8, 0)]
        expected = [(place, 0, dataset.id.get_chunk_info_by_coord(place).size) for place in places]
        if not iterated:
            monkeypatch.setattr(h5py.Dataset, "id", WithoutIteration(dataset))
        assert sorted(_stored_chunks(dataset)) == expected


def test_chunks_are_not_asked_for_one_by_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        dataset = file.create_dataset("x", data=np.ones((20_000, 2)), chunks=(1, 2), compression="gzip")
        before = time.process_time()
        require_whole_chunks(dataset)
        # One by one it is 30 s, as it takes the square of their number.
        assert time.process_time() - before < 5
