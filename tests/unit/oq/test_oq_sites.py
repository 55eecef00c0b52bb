from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.errors import NotStorableError, UsageError
from hazard_store.oq import open_calculation
from hazard_store.oq.sites import CoordinateCodes, Sites, coordinates_to_code, refusals_of_sites

Build = Callable[..., Path]
Job = Callable[..., dict[str, object]]


def refusal(source: Path, **options: object) -> str:
    with pytest.raises(NotStorableError) as caught:
        open_calculation(source, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    with open_calculation(source, strict=False, **options) as calculation:  # type: ignore[arg-type]
        assert calculation.refusals[0] == caught.value.reason
        assert calculation.describe()["storable"] is False
        assert calculation.describe()["warnings"][0] == caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [
        (175.25, -41.5, "[-41.500~175.250]"),
        (-0.0001, -0.0004, "[0.000~0.000]"),
        (-0.0, 0.0, "[0.000~0.000]"),
        (-179.9999, 89.9996, "[90.000~-180.000]"),
    ],
)
def test_code_of_coordinates(lon: float, lat: float, code: str) -> None:
    assert coordinates_to_code(lon, lat) == code


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_code_gives_the_place_back_to_half_a_thousandth(lon: float, lat: float) -> None:
    code = coordinates_to_code(lon, lat)
    told_lat, told_lon = (float(text) for text in code[1:-1].split("~"))
    assert abs(told_lat - lat) <= 0.0005000001
    assert abs(told_lon - lon) <= 0.0005000001
    assert "-0.000" not in code


def test_codes_made_when_asked_for_are_those_of_the_coordinates() -> None:
    # More than are made at once.
    lon, lat = np.random.default_rng(5).uniform(-90, 90, (2, 10_000))
    codes, expected = CoordinateCodes(lon, lat), tuple(map(coordinates_to_code, lon.tolist(), lat.tolist()))
    assert len(codes) == 10_000
    assert tuple(codes) == expected
    assert codes == expected
    assert codes != expected[1:]
    assert (codes[-1], codes[4_095:4_097], codes[::-1][:2]) == (expected[-1], expected[4_095:4_097], expected[:-3:-1])
    assert codes.index(expected[7_000]) == 7_000
    with pytest.raises(IndexError):
        codes[10_000]


class SameHash(str):
    """A text whose hash says nothing."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


@pytest.mark.parametrize("kind", [str, SameHash])
def test_each_code_that_an_earlier_site_has_is_found(kind: type[str]) -> None:
    codes = tuple(kind(text) for text in "abcacda")
    places = np.arange(7.0)
    (refusal,) = refusals_of_sites(Sites(codes, True, places, places, places))
    pairs = [(0, 3), (2, 4), (0, 6)]
    for first, index in pairs:
        assert (
            f"site {first} (lon {first}.0, lat {first}.0, code {codes[first]}) and "
            f"site {index} (lon {index}.0, lat {index}.0, code {codes[first]})"
        ) in refusal
    assert list(refusals_of_sites(Sites(tuple(map(kind, "abcdefg")), True, places, places, places))) == []


def test_sites_by_coordinates(sound_hdf5: Path) -> None:
    with open_calculation(sound_hdf5) as calculation:
        sites = calculation.sites
    assert sites.codes == ("[-41.290~174.780]", "[-40.950~175.660]", "[-40.350~175.610]")
    assert sites.custom is False
    assert sites.lon.dtype == sites.lat.dtype == sites.vs30.dtype == np.float64
    assert sites.vs30.tolist() == [400.0] * 3


@pytest.mark.parametrize(
    ("ids", "codes"),
    [
        (np.array([b"WLG", b"MRO\0", b"rock_1"], "S8"), ("WLG", "MRO", "rock_1")),
        (np.array([3, 20, 100], np.uint32), ("3", "20", "100")),
        (np.array(["Pōneke", "b", "c"], h5py.string_dtype()), ("Pōneke", "b", "c")),
    ],
)
def test_custom_ids(ids: np.ndarray, codes: tuple[str, ...], build: Build) -> None:
    source = build(custom_ids=ids)
    with open_calculation(source) as calculation:
        assert calculation.sites.codes == codes
        assert calculation.sites.custom is True
    with open_calculation(source, sites="normalised") as calculation:
        assert calculation.sites.codes[0] == "[-41.290~174.780]"
        assert calculation.sites.custom is False


def test_colliding_sites_are_both_named(colliding_sites_hdf5: Path) -> None:
    reason = refusal(colliding_sites_hdf5)
    assert "site 0 (lon 175.2501, lat -41.5, code [-41.500~175.250])" in reason
    assert "site 1 (lon 175.2504, lat -41.5, code [-41.500~175.250])" in reason
    assert "custom_site_id" in reason


def test_many_collisions_stay_one_readable_line(build: Build) -> None:
    n = 100
    values = np.full((n, 4, 2, 3), 0.5, np.float32)
    source = build(lon=[175.0] * n, lat=[-41.0] * n, rlz_values=values, with_stats=False)
    assert "(and 96 more)" in refusal(source)


def test_a_custom_id_given_twice(repeated_custom_id_hdf5: Path) -> None:
    reason = refusal(repeated_custom_id_hdf5)
    assert "site 0" in reason
    assert "site 2" in reason
    assert "--sites normalised" in reason
    with open_calculation(repeated_custom_id_hdf5, sites="normalised") as calculation:
        assert len(set(calculation.sites.codes)) == 3


@pytest.mark.parametrize(
    ("site_id", "fault"),
    [
        (b"0:CD", "holds ':' or '#'"),
        (b"a#1", "holds ':' or '#'"),
        (b"", "is empty"),
        (b"a b", "holds a space"),
        (b"tab\t", "holds a space"),
        (b"\x07bell", "cannot be printed"),
        (b"\xff\xfe", "cannot be printed"),
    ],
)
def test_custom_ids_that_no_key_can_hold(site_id: bytes, fault: str, build: Build) -> None:
    reason = refusal(build(custom_ids=np.array([b"x", site_id, b"z"], "S8")))
    assert "site 1" in reason
    assert fault in reason
    assert "--sites normalised" in reason


def test_structured_site_collection_of_engine_3_11(build: Build) -> None:
    def restructure(file: h5py.File) -> None:
        del file["sitecol"]
        rows = [(0, 174.78, -41.29, 250.0), (1, 175.66, -40.95, 400.0), (2, 175.61, -40.35, 300.0)]
        file["sitecol"] = np.array(rows, [("sids", "<u4"), ("lon", "<f8"), ("lat", "<f8"), ("vs30", "<f8")])

    with open_calculation(build(version="3.11.3", edit=restructure)) as calculation:
        assert calculation.sites.codes[1] == "[-40.950~175.660]"
        assert calculation.sites.vs30.tolist() == [250.0, 400.0, 300.0]


def test_vs30_comes_from_the_job_where_the_sites_have_none(build: Build, job: Job) -> None:

    with open_calculation(build(vs30=[], oqparam=job(reference_vs30_value=760.0))) as calculation:
        assert calculation.sites.vs30.tolist() == [760.0] * 3
    with open_calculation(build("none.hdf5", vs30=[])) as calculation:
        assert np.isnan(calculation.sites.vs30).all()
        assert calculation.describe()["sites"][0]["vs30"] is None


def test_number_of_sites_must_be_that_of_the_curves(build: Build) -> None:
    source = build(
        lon=[174.0, 175.0], lat=[-41.0, -41.0], rlz_values=np.full((3, 4, 2, 3), 0.1, np.float32), with_stats=False
    )
    assert "sitecol holds 2 sites, but hcurves-rlzs the curves of 3" in refusal(source)


def test_damaged_site_collections(build: Build) -> None:
    assert "sitecol (lon, lat) is missing" in refusal(build("a.hdf5", edit=lambda file: file.pop("sitecol")))
    assert "not numbers" in refusal(build("b.hdf5", lon=[174.0, np.nan, 175.0]))
    assert "sitecol/lat" in refusal(build("c.hdf5", lat=[-41.0, -42.0]))
    assert "custom_site_id has shape (2,)" in refusal(build("d.hdf5", custom_ids=np.array([b"a", b"b"], "S8")))
    grouped = build("e.hdf5", edit=lambda file: file["sitecol"].create_group("custom_site_id"))
    assert "custom_site_id is a group" in refusal(grouped)


def test_unknown_choice_of_site_codes(sound_hdf5: Path) -> None:
    with pytest.raises(UsageError, match="expected auto or normalised"):
        open_calculation(sound_hdf5, sites="other")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (np.array([100.0, 200.0]), r"sitecol/vs30 has shape \(2,\) and dtype float64, expected \(3,\) and numbers"),
        (np.full((3, 1), 100.0), r"sitecol/vs30 has shape \(3, 1\)"),
        (np.array([b"300", b"400", b"500"]), r"sitecol/vs30 has shape \(3,\) and dtype \|S3"),
        (None, "sitecol/vs30 is a group"),
    ],
)
def test_vs30_that_is_wrong_is_not_replaced_by_that_of_the_job(
    stored: np.ndarray | None, reason: str, build: Build, job: Job
) -> None:
    def edit(file: h5py.File) -> None:
        del file["sitecol/vs30"]
        if stored is None:
            file.create_group("sitecol/vs30")
        else:
            file["sitecol/vs30"] = stored

    with pytest.raises(NotStorableError, match=reason):
        open_calculation(build(edit=edit, oqparam=job(reference_vs30_value=760.0)))
