from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.errors import NotStorableError
from hazard_store.oq import open_calculation
from hazard_store.oq.axes import imt_to_period

Build = Callable[..., Path]
Job = Callable[..., dict[str, Any]]


def refused(source: Path, reason: str) -> None:
    with pytest.raises(NotStorableError, match=reason):
        open_calculation(source)


def test_order_of_imts_is_that_of_the_arrays(build: Build, job: Job) -> None:
    levels = {"SA(0.2)": [0.02, 0.2, 2.0], "PGA": [0.01, 0.1, 1.0]}
    with open_calculation(build(oqparam=job(hazard_imtls=levels))) as calculation:
        assert list(calculation.imtls) == ["PGA", "SA(0.2)"]
        assert calculation.imtls["SA(0.2)"].tolist() == [0.02, 0.2, 2.0]
        assert calculation.imtls["PGA"].dtype == np.float64
        assert calculation.imt_slots.tolist() == [0, 1]


def test_statistics_and_their_short_names(build: Build) -> None:
    names = ["mean", "std", "quantile-0.05", "max"]
    with open_calculation(build(stats=names)) as calculation:
        assert calculation.stats == tuple(names)
        assert calculation.aggs == ("mean", "std", "0.05", "max")
        assert calculation.curves == {"stats": (3, 4, 2, 3), "realisations": (3, 4, 2, 3)}
        assert calculation.number_of("stats") == 4


def test_files_without_the_description_are_read_with_a_warning(build: Build, job: Job) -> None:
    levels = {"SA(10.0)": [1.0, 2.0, 3.0], "SA(2.0)": [1.0, 2.0, 4.0], "PGA": [1.0, 2.0, 5.0]}
    given = job(hazard_imtls=levels, quantiles=[0.1, 0.9], mean=None)
    quirks = {"oqparam": given, "imts": list(levels), "stats": ["a", "b", "c"], "with_json": False}
    with open_calculation(build("old.hdf5", version="3.16.7", **quirks)) as calculation:
        assert list(calculation.imtls) == ["PGA", "SA(10.0)", "SA(2.0)"]
        assert calculation.stats == ("mean", "quantile-0.1", "quantile-0.9")
        assert any("do not name their IMTs" in text for text in calculation.warnings)
        assert any("does not name its statistics" in text for text in calculation.warnings)
    with open_calculation(build("new.hdf5", version="3.25.1", **quirks)) as calculation:
        assert list(calculation.imtls) == ["PGA", "SA(2.0)", "SA(10.0)"]


def test_statistics_that_cannot_be_told_apart(build: Build) -> None:
    refused(build("few.hdf5", with_json=False, stats=["a", "b", "c"]), "holds 3 statistics, but 2 are named")
    refused(build("twice.hdf5", stats=["mean", "mean"]), "none can be told from the others")


def test_attributes_of_the_oldest_files(build: Build) -> None:
    def one_attribute_an_axis(file: h5py.File) -> None:
        del file["hcurves-stats"].attrs["json"]
        file["hcurves-stats"].attrs["imt"] = np.array([b"PGA", b"SA(0.2)"], "S8")
        file["hcurves-stats"].attrs["stat"] = np.array([b"mean", b"max", b"std"], "S8")

    with open_calculation(build(edit=one_attribute_an_axis)) as calculation:
        assert calculation.stats == ("mean", "max", "std")
        assert calculation.warnings == ()


def test_levels_that_do_not_fit_the_curves(build: Build, job: Job) -> None:
    levels = {"PGA": [0.01, 0.1], "SA(0.2)": [0.02, 0.2]}
    refused(build(oqparam=job(hazard_imtls=levels)), "PGA has 2 levels in the job's parameters, but the curves hold 3")


def test_imts_that_do_not_fit_the_curves(build: Build, job: Job) -> None:
    refused(build("fewer.hdf5", imts=["PGA"], rlz_values=np.full((3, 4, 2, 3), 0.1, np.float32)), "names 1 IMTs")
    refused(build("twice.hdf5", imts=["PGA", "PGA"]), "an IMT twice")
    unknown = job(hazard_imtls={"PGV": [1.0, 2.0, 3.0]})
    refused(build("unknown.hdf5", oqparam=unknown), "no IMT of the curves has levels")


def test_curve_sets_that_disagree(build: Build) -> None:
    other = np.full((2, 4, 2, 3), 0.1, np.float32)
    refused(build("sites.hdf5", rlz_values=other), "differ in sites, IMTs or levels")


def test_levels_of_amplified_curves(build: Build, job: Job) -> None:
    given = job(soil_intensities=[0.1, 0.2, 0.3], inputs={"amplification": ["a.csv"]}, hazard_imtls={"PGA": [1.0] * 9})
    with open_calculation(build(oqparam=given, imts=["PGA"])) as calculation:
        assert calculation.imtls["PGA"].tolist() == [0.1, 0.2, 0.3]


def test_secondary_perils_are_left_out_with_their_slots(secondary_peril_hdf5: Path) -> None:
    with (
        open_calculation(secondary_peril_hdf5) as calculation,
        h5py.File(secondary_peril_hdf5, "r", locking=False) as file,
    ):
        assert list(calculation.imtls) == ["PGA", "SA(0.2)"]
        assert calculation.imt_slots.tolist() == [0, 2]
        assert any("LiqProb" in text for text in calculation.warnings)
        got = calculation.read("realisations", 1, 3, 2, 4)
        np.testing.assert_array_equal(got, file["hcurves-rlzs"][1:3, 2:4][:, :, [0, 2]])
        assert got.flags.c_contiguous
        assert calculation.curves["stats"] == (3, 3, 3, 3)


def test_mislabelled_imts_are_refused_unless_trusted(mislabelled_imts_hdf5: Path, build: Build) -> None:
    refused(mislabelled_imts_hdf5, "engine 3.18 .* --trust-imt-order")
    with open_calculation(mislabelled_imts_hdf5, trust_imt_order=True) as calculation:
        assert any("stored nevertheless" in text for text in calculation.warnings)
    with open_calculation(build("period.hdf5", version="3.17.1")) as calculation:
        assert calculation.warnings == ()


@pytest.mark.parametrize("version", ["3.16.7", "3.19.1"])
def test_other_engines_are_not_suspect(version: str, build: Build, job: Job) -> None:
    levels = {"SA(0.2)": [0.02, 0.2, 2.0], "PGA": [0.01, 0.1, 1.0]}
    with open_calculation(build(version=version, oqparam=job(hazard_imtls=levels))) as calculation:
        assert calculation.refusals == ()


def test_sort_by_period() -> None:
    imts = ["SA(10.0)", "SA(0.2)", "PGA", "SA(2.0)"]
    assert sorted(imts, key=imt_to_period) == ["PGA", "SA(0.2)", "SA(2.0)", "SA(10.0)"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((3, 4, 6), np.float32), "has shape"),
        (np.zeros((0, 4, 2, 3), np.float32), "has shape"),
        (np.full((3, 4, 2, 3), 0.5, np.float64), "dtype float64, expected float32"),
    ],
)
def test_datasets_of_another_form(values: np.ndarray, reason: str, build: Build) -> None:
    def replace(file: h5py.File) -> None:
        del file["hcurves-rlzs"]
        file["hcurves-rlzs"] = values

    refused(build(edit=replace), reason)


def test_a_dataset_that_was_never_filled(build: Build) -> None:
    def replace(file: h5py.File) -> None:
        del file["hcurves-rlzs"]
        file.create_dataset("hcurves-rlzs", (3, 4, 2, 3), np.float32)

    refused(build(edit=replace), "made but never filled")


def test_data_outside_the_file_is_refused(build: Build, tmp_path: Path) -> None:
    other = build("other.hdf5")

    def link(file: h5py.File) -> None:
        del file["hcurves-rlzs"]
        file["hcurves-rlzs"] = h5py.ExternalLink(str(other), "hcurves-rlzs")

    def soft_link(file: h5py.File) -> None:
        del file["hcurves-rlzs"]
        file["hcurves-rlzs"] = h5py.SoftLink("/hcurves-stats")

    def virtual(file: h5py.File) -> None:
        del file["hcurves-rlzs"]
        layout = h5py.VirtualLayout((3, 4, 2, 3), np.float32)
        layout[...] = h5py.VirtualSource(str(other), "hcurves-rlzs", (3, 4, 2, 3))
        file.create_virtual_dataset("hcurves-rlzs", layout)

    def external(file: h5py.File) -> None:
        del file["hcurves-rlzs"]
        file.create_dataset("hcurves-rlzs", (3, 4, 2, 3), np.float32, external=[(str(tmp_path / "raw"), 0, 288)])

    def outer_group(file: h5py.File) -> None:
        del file["sitecol"]
        file["sitecol"] = h5py.ExternalLink(str(other), "sitecol")

    for edit, reason in (
        (link, "hcurves-rlzs is a link"),
        (soft_link, "hcurves-rlzs is a link"),
        (virtual, "keeps its data in other files"),
        (external, "keeps its data in other files"),
        (outer_group, "is a link"),
    ):
        refused(build(f"{edit.__name__}.hdf5", edit=edit), reason)


def test_a_description_that_is_no_json(build: Build) -> None:
    def spoil(file: h5py.File) -> None:
        file["hcurves-stats"].attrs["json"] = '{"imt": ["PGA"'

    refused(build(edit=spoil), "attribute json of hcurves-stats is damaged")
