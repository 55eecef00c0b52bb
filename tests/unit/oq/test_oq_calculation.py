from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.errors import NotStorableError, UsageError
from hazard_store.oq import boxes, examination, open_calculation, plain

Build = Callable[..., Path]
Job = Callable[..., dict[str, Any]]


def test_blocks_are_what_the_file_holds(sound_hdf5: Path) -> None:
    with h5py.File(sound_hdf5, "r") as file:
        stats, rlzs = file["hcurves-stats"][()], file["hcurves-rlzs"][()]
    with open_calculation(sound_hdf5) as calculation:
        for part, stored in (("stats", stats), ("realisations", rlzs)):
            assert calculation.number_of(part) == stored.shape[1]
            got = calculation.read(part, 1, 3, 1, 3)
            np.testing.assert_array_equal(got, stored[1:3, 1:3])
            assert got.dtype == np.float32
            assert got.flags.c_contiguous
            np.testing.assert_array_equal(calculation.read(part, 0, 3), stored)
            assert calculation.read(part, 2, 2).shape == (0, *stored.shape[1:])


@pytest.mark.parametrize(
    "block",
    [("stats", -1, 2), ("stats", 0, 4), ("stats", 2, 1), ("stats", 0, 1, 0, 9), ("stats", 0, 1, 2, 1), ("meta", 0, 1)],
)
def test_blocks_outside_the_file(block: tuple[Any, ...], sound_hdf5: Path) -> None:
    with open_calculation(sound_hdf5) as calculation, pytest.raises(UsageError):
        calculation.read(*block)


def test_parts_that_are_missing_or_unknown(build: Build) -> None:
    with open_calculation(build(with_stats=False)) as calculation:
        assert calculation.number_of("stats") == 0
        assert calculation.curves == {"stats": None, "realisations": (3, 4, 2, 3)}
        with pytest.raises(UsageError, match="holds no stats"):
            calculation.read("stats", 0, 1)
        with pytest.raises(UsageError, match="unknown part"):
            calculation.number_of("meta")


def test_reading_from_a_closed_calculation(sound_hdf5: Path) -> None:
    calculation = open_calculation(sound_hdf5)
    calculation.close()
    calculation.close()
    with pytest.raises(UsageError, match="is closed"):
        calculation.read("stats", 0, 1)


@pytest.mark.parametrize(
    ("quirk", "warning"),
    [
        ({"with_stats": False}, "hcurves-stats is missing.* mean = true"),
        ({"with_rlzs": False}, "hcurves-rlzs is missing.* individual_rlzs = true makes it$"),
        ({"with_rlzs": False, "version": "3.16.7"}, "individual_rlzs = true makes it .engines up to 3.16"),
    ],
)
def test_a_missing_part_is_told_with_its_setting(quirk: dict[str, Any], warning: str, build: Build) -> None:
    with open_calculation(build(**quirk)) as calculation:
        assert len(calculation.warnings) == 1
        assert re.search(warning, calculation.warnings[0])


def test_description_has_the_keys_of_the_contract(sound_hdf5: Path) -> None:
    with open_calculation(sound_hdf5) as calculation:
        told = calculation.describe()
    assert list(told) == [
        "engine_version",
        "calculation_mode",
        "investigation_time",
        "sites",
        "imtls",
        "stats",
        "realisations",
        "curves",
        "storable",
        "warnings",
    ]
    assert told["sites"][0] == {"code": "[-41.290~174.780]", "lon": 174.78, "lat": -41.29, "vs30": 400.0}
    assert told["realisations"][3]["gsim_path"] == ["gB1", "gA0"]
    assert told["curves"] == {"stats": [3, 3, 2, 3], "realisations": [3, 4, 2, 3]}
    assert told["storable"] is True
    assert told["warnings"] == []


def test_refusals_come_before_warnings(colliding_sites_hdf5: Path, build: Build) -> None:
    source = build("both.hdf5", lon=[175.0, 175.0, 176.0], lat=[-41.0] * 3, with_stats=False)
    with open_calculation(source, strict=False) as calculation:
        told = calculation.describe()
    assert told["storable"] is False
    assert "two sites" in told["warnings"][0]
    assert "hcurves-stats is missing" in told["warnings"][1]


def refused_values(source: Path) -> str:
    with open_calculation(source) as calculation:
        with pytest.raises(NotStorableError) as caught:
            calculation.check_curves()
        told = calculation.describe()
        assert told["storable"] is False
        assert told["warnings"][0] == caught.value.reason
        assert calculation.examine() == calculation.refusals
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_sound_curves_pass(sound_hdf5: Path) -> None:
    with open_calculation(sound_hdf5) as calculation:
        for block_bytes in (1, 50, 1 << 20):
            calculation._examined = False
            calculation.check_curves(block_bytes)


def test_nan_is_found_with_its_place(nan_curve_hdf5: Path) -> None:
    reason = refused_values(nan_curve_hdf5)
    assert "hcurves-rlzs" in reason
    assert "[-40.950~175.660]" in reason
    assert "realisation 00002" in reason
    with open_calculation(nan_curve_hdf5) as calculation:
        assert calculation.refusals == ()
        calculation.read("realisations", 0, 1)
        with pytest.raises(NotStorableError, match=r"NaN or infinity at site \[-40.950~175.660\], curve 2"):
            calculation.read("realisations", 0, 3, 1)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite(value: float, build: Build) -> None:
    values = np.full((3, 3, 2, 3), 0.5, np.float32)
    values[2, 1, 1, 2] = value
    reason = refused_values(build(stat_values=values))
    assert "hcurves-stats" in reason
    assert "statistic std" in reason


@pytest.mark.parametrize("value", [1.01, -0.01, 25.0])
def test_values_that_are_no_probabilities(value: float, build: Build) -> None:
    values = np.full((3, 3, 2, 3), 0.5, np.float32)
    values[0, 2, 1, 2] = value
    reason = refused_values(build(stat_values=values))
    assert "statistic quantile-0.1" in reason
    assert "expected probabilities from 0 to 1" in reason


def test_rounding_beyond_one_and_coefficients_of_variation_pass(build: Build) -> None:
    values = np.full((3, 3, 2, 3), 0.5, np.float32)
    values[0, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    values[:, 1] = 7.0
    with open_calculation(build(stat_values=values, stats=["mean", "cv", "max"])) as calculation:
        for block_bytes in (1, 1 << 20):
            calculation._examined = False
            calculation.check_curves(block_bytes)


def test_zeros_everywhere_are_refused(unfilled_rlzs_hdf5: Path, build: Build) -> None:
    assert "hcurves-rlzs holds zeros only" in refused_values(unfilled_rlzs_hdf5)
    empty = np.zeros((3, 3, 2, 3), np.float32)
    assert "hcurves-stats holds zeros only" in refused_values(build("a.hdf5", stat_values=empty))
    assert "hcurves-stats holds zeros only" in refused_values(build("b.hdf5", stat_values=empty, with_rlzs=False))
    some = empty.copy()
    some[:, 1] = 0.5
    assert "hcurves-stats (mean) holds zeros only" in refused_values(build("c.hdf5", stat_values=some))


def test_zeros_of_single_sites_and_of_low_quantiles_are_real(build: Build) -> None:
    rlzs, stats = np.full((3, 4, 2, 3), 0.5, np.float32), np.full((3, 3, 2, 3), 0.5, np.float32)
    rlzs[1], stats[1] = 0, 0
    stats[:, 1:] = 0
    with open_calculation(build("site.hdf5", rlz_values=rlzs, stat_values=stats)) as calculation:
        calculation.check_curves()
    quantiles = np.zeros((3, 1, 2, 3), np.float32)
    with open_calculation(
        build("q.hdf5", rlz_values=rlzs, stat_values=quantiles, stats=["quantile-0.05"])
    ) as calculation:
        calculation.check_curves()


def test_half_filled_curves_are_refused(half_filled_rlzs_hdf5: Path, build: Build) -> None:
    assert "hcurves-rlzs holds zeros only at site [-40.350~175.610]" in refused_values(half_filled_rlzs_hdf5)
    stats = np.full((3, 3, 2, 3), 0.5, np.float32)
    stats[1] = 0
    assert "hcurves-stats holds zeros only at site [-40.950~175.660]" in refused_values(
        build("s.hdf5", stat_values=stats)
    )


def test_curves_that_cannot_be_read(build: Build) -> None:
    def compress(file: h5py.File) -> None:
        values = file["hcurves-rlzs"][()]
        told = file["hcurves-rlzs"].attrs["json"]
        del file["hcurves-rlzs"]
        file.create_dataset("hcurves-rlzs", data=values, chunks=(3, 4, 2, 3), compression="gzip", fletcher32=True)
        file["hcurves-rlzs"].attrs["json"] = told

    source = build(edit=compress)
    with h5py.File(source, "r") as file:
        chunk = file["hcurves-rlzs"].id.get_chunk_info(0)
        offset, size = chunk.byte_offset, chunk.size
    content = bytearray(source.read_bytes())
    content[offset + size // 2] ^= 0xFF
    source.write_bytes(content)
    assert "cannot be read to their end" in refused_values(source)
    with open_calculation(source) as calculation, pytest.raises(NotStorableError, match="hcurves-rlzs cannot be read"):
        calculation.read("realisations", 0, 1)


def falling(n_labels: int, n_sites: int = 3) -> np.ndarray:
    draws = np.random.default_rng(1).uniform(0.01, 0.99, (n_sites, n_labels, 2, 3))
    return np.sort(draws, axis=-1)[..., ::-1].astype(np.float32)


def chunked(chunks: tuple[int, ...]) -> Callable[[h5py.File], None]:
    def store_in_chunks(file: h5py.File) -> None:
        for name in ("hcurves-stats", "hcurves-rlzs"):
            values, told = file[name][()], file[name].attrs["json"]
            del file[name]
            fitting = tuple(map(min, chunks, values.shape))
            file.create_dataset(name, data=values, chunks=fitting, compression="gzip").attrs["json"] = told

    return store_in_chunks


@pytest.mark.parametrize("chunks", [(3, 4, 2, 3), (3, 1, 1, 1), (1, 1, 1, 1), (2, 3, 1, 2)])
def test_curves_in_chunks_are_those_in_one_piece(
    chunks: tuple[int, ...], build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "MAX_CHUNKS", 3)
    with open_calculation(build()) as whole, open_calculation(build("c.hdf5", edit=chunked(chunks))) as calculation:
        assert calculation.has_chunked_curves
        for start, stop, first, last in ((0, 3, 0, 4), (1, 3, 1, 4), (0, 2, 3, 4), (2, 2, 0, 4), (0, 3, 2, 2)):
            expected = whole.read("realisations", start, stop, first, last)
            np.testing.assert_array_equal(calculation.read("realisations", start, stop, first, last), expected)
        assert calculation.examine(block_bytes=24) == ()
    values = falling(4)
    values[2, 3, 1, 1] = np.inf
    reason = refused_values(build("d.hdf5", rlz_values=values, edit=chunked(chunks)))
    assert "at site [-40.350~175.610], realisation 00003" in reason
    values[:] = 0
    assert "hcurves-rlzs holds zeros only" in refused_values(build("e.hdf5", rlz_values=values, edit=chunked(chunks)))


@pytest.fixture
def wide(build: Build) -> tuple[Path, list[int]]:
    """Curves whose chunks lie across all sites, more than HDF5 remembers, and where each of the chunks begins."""
    n_sites = 20_000
    places = {"lon": [170 + site / 1_000 for site in range(n_sites)], "lat": [-41.0] * n_sites}
    values = {"rlz_values": falling(4, n_sites), "stat_values": falling(3, n_sites)}
    path = build("wide.hdf5", **places, **values, edit=chunked((n_sites, 1, 1, 3)))
    with h5py.File(path) as file:
        dataset = file["hcurves-rlzs"].id
        return path, sorted(dataset.get_chunk_info(number).byte_offset for number in range(dataset.get_num_chunks()))


@pytest.fixture
def read_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where HDF5 has read; a chunk is read whole, from its first byte, each time that it is unpacked."""
    places: list[int] = []

    class Watched(plain._PlainFile):
        def readinto(self, buffer: Any, /) -> int:
            places.append(self.tell())
            return super().readinto(buffer)

    monkeypatch.setattr(plain, "_PlainFile", Watched)
    return places


def test_blocks_of_sites_unpack_each_chunk_once(wide: tuple[Path, list[int]], read_at: list[int]) -> None:
    path, chunks = wide
    with open_calculation(path) as calculation:
        for start in range(0, 20_000, 1_000):
            calculation.read("realisations", start, start + 1_000)
    assert sorted(place for place in read_at if place in chunks) == chunks


def test_looking_at_all_curves_unpacks_each_chunk_once_whatever_is_remembered(
    wide: tuple[Path, list[int]], read_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, chunks = wide
    monkeypatch.setattr(boxes, "MAX_CACHE_BYTES", 0)
    monkeypatch.setattr(examination, "require_whole_chunks", lambda dataset: None)
    with open_calculation(path) as calculation:
        assert calculation.examine(block_bytes=100_000) == ()
    assert sorted(place for place in read_at if place in chunks) == chunks
