"""Tables of texts: read in few blocks, and within their bytes, however often their rows show one long text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.errors import NotStorableError
from hazard_store.oq import hdf5
from hazard_store.oq.hdf5 import Reader
from hazard_store.oq.text_lengths import text_bytes_of_rows

TEXT = h5py.string_dtype()
ROW = np.dtype([("name", TEXT), ("weight", "<f4"), ("path", TEXT), ("samples", "<u2"), ("place", "<f8", (2,))])
NAMES = ["", "a", "b" * 300, "ā"]
TABLE = np.array([(name, 0.5, name * 2, 7, (1, 2)) for name in NAMES], ROW)


def written(path: Path, values: Any, libver: str = "latest", **options: Any) -> Path:
    with h5py.File(path, "w", libver=libver) as file:
        file["before"] = np.zeros(1_000)
        file.create_dataset("x", data=values, **options)
    return path


def lengths_in(path: Path) -> list[int] | None:
    with path.open("rb") as stream, h5py.File(path) as file:
        found = text_bytes_of_rows(file["x"], stream)
    return None if found is None else found.tolist()


@pytest.mark.parametrize("user_block", [0, 512])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_lengths_are_told_without_the_texts(libver: str, user_block: int, tmp_path: Path) -> None:
    table, texts = written(tmp_path / "a.hdf5", TABLE, libver), written(tmp_path / "b.hdf5", TABLE["name"], libver)
    for path in (table, texts):
        path.write_bytes(bytes(user_block) + path.read_bytes())
    assert lengths_in(texts) == [len(name.encode()) for name in NAMES]
    assert lengths_in(table) == [3 * len(name.encode()) for name in NAMES]


def test_lengths_of_more_rows_than_are_looked_at_together(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", np.tile(TABLE, 20_000))
    assert lengths_in(path) == [3 * len(name.encode()) for name in NAMES] * 20_000


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (TABLE, {"chunks": (2,)}),
        (np.empty(0, ROW), {}),
        (TABLE["name"].reshape(2, 2), {}),
        (np.array([1.5, 2.5]), {}),
        (np.array([(1, np.array([2, 3], np.int32))], [("a", "<i4"), ("b", h5py.vlen_dtype(np.int32))]), {}),
        (np.array([((name, 1),) for name in NAMES], [("inner", [("name", TEXT), ("n", "<i4")])]), {}),
    ],
)
def test_where_rows_do_not_tell_or_hold_more_than_texts(values: Any, options: dict[str, Any], tmp_path: Path) -> None:
    assert lengths_in(written(tmp_path / "a.hdf5", values, **options)) is None


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of each read of a dataset."""
    read: list[int] = []
    get = h5py.Dataset.__getitem__

    def counted(self: h5py.Dataset, rows: Any, **options: Any) -> Any:
        values = get(self, rows, **options)
        read.append(len(values))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    return read


def test_short_texts_of_a_long_file_are_read_at_once(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "TEXT_BLOCK_BYTES", 2_000)
    path = written(tmp_path / "a.hdf5", TABLE)
    assert path.stat().st_size > 2_000
    with path.open("rb") as stream, h5py.File(path) as file:
        np.testing.assert_array_equal(Reader(file, stream, "a").values("x")["path"], file["x"]["path"])
    assert reads[0] == len(TABLE)


def test_rows_that_all_show_one_long_text_are_read_a_few_at_a_time(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.hdf5", np.array(["x" * 1_000, *["y"] * 99], dtype=object), dtype=TEXT)
    with h5py.File(path) as file:
        start, stop = file["x"].id.get_offset(), file["x"].id.get_offset() + 16
    content = bytearray(path.read_bytes())
    content[start : start + 1_600] = content[start:stop] * 100
    path.write_bytes(content)
    monkeypatch.setattr(hdf5, "TEXT_BLOCK_BYTES", 10_000)
    with path.open("rb") as stream, h5py.File(path) as file:
        assert set(Reader(file, stream, "a").values("x")) == {b"x" * 1_000}
        assert reads == [10] * 10
        reads.clear()
        monkeypatch.setattr(hdf5, "MAX_VALUES_BYTES", 99_999)
        with pytest.raises(NotStorableError, match="holds more than 0 MB of text"):
            Reader(file, stream, "a").values("x")
        assert not reads


def test_texts_in_chunks_are_read_as_if_each_were_as_long_as_the_file(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.hdf5", TABLE, chunks=(2,))
    monkeypatch.setattr(hdf5, "TEXT_BLOCK_BYTES", 2 * path.stat().st_size)
    with path.open("rb") as stream, h5py.File(path) as file:
        Reader(file, stream, "a").values("x")
    assert reads == [2, 2]
