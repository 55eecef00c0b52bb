"""Small datastores, each a fixture named after its quirk. `build` writes a sound one, and takes what shall differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

TEXT = h5py.string_dtype()

IMTLS = {"PGA": [0.01, 0.1, 1.0], "SA(0.2)": [0.02, 0.2, 2.0]}
LON = [174.78, 175.66, 175.61]
LAT = [-41.29, -40.95, -40.35]
STATS = ["mean", "std", "quantile-0.1"]
SM_ROWS = [("['a.xml']", 0.4, "a~x", 1), ("['b.xml']", 0.6, "b~y", 1)]
GSIM_ROWS = [
    ("Active Shallow Crust", "gA1", "[ChiouYoungs2014]", 0.7),
    ("Active Shallow Crust", "gB1", "[BooreAtkinson2008]", 0.3),
    ("Subduction Interface", "gA0", "[ZhaoEtAl2006SInter]", 1.0),
]
PATHS = [
    (("a", "x"), ("gA1", "gA0"), 0.28),
    (("a", "x"), ("gB1", "gA0"), 0.12),
    (("b", "y"), ("gA1", "gA0"), 0.42),
    (("b", "y"), ("gB1", "gA0"), 0.18),
]

Build = Callable[..., Path]


def parameters(**changed: Any) -> dict[str, Any]:
    given = {
        "description": "a test",
        "calculation_mode": "classical",
        "investigation_time": 50.0,
        "hazard_imtls": IMTLS,
        "mean": 1,
        "quantiles": [0.1],
        "individual_rlzs": 1,
        "number_of_logic_tree_samples": 0,
        "inputs": {"job_ini": "job.ini"},
    } | changed
    return {name: value for name, value in given.items() if value is not None}


def curves(n_labels: int, n_sites: int = 3, n_imts: int = 2, n_levels: int = 3, seed: int = 7) -> np.ndarray:
    """Random curves that fall with the level, as curves do."""
    draws = np.random.default_rng(seed).uniform(0.01, 0.99, (n_sites, n_labels, n_imts, n_levels))
    return np.sort(draws, axis=-1)[..., ::-1].astype(np.float32)


def description(second: str, labels: object, imts: list[str], n_levels: int, n_sites: int) -> str:
    return json.dumps(
        {
            "shape_descr": ["site_id", second, "imt", "lvl"],
            "site_id": n_sites,
            second: labels,
            "imt": imts,
            "lvl": list(range(n_levels)) if second == "stat" else n_levels,
        }
    )


def write_logic_tree(
    file: h5py.File,
    sm_rows: list[tuple[str, float, str, int]] | None = None,
    gsim_rows: list[tuple[Any, ...]] | None = None,
    gsim_weights: tuple[str, ...] = ("weight",),
    full_attrs: dict[str, Any] | None = None,
    **sampling: Any,
) -> None:
    sm_rows = SM_ROWS if sm_rows is None else sm_rows
    gsim_rows = GSIM_ROWS if gsim_rows is None else gsim_rows
    sm_dtype = [("name", TEXT), ("weight", "<f4"), ("path", TEXT), ("samples", "<u4")]
    gsim_dtype = [("trt", TEXT), ("branch", TEXT), ("uncertainty", TEXT), *((name, "<f8") for name in gsim_weights)]
    slt_dtype = [("branchset", TEXT), ("branch", TEXT), ("utype", TEXT), ("uvalue", TEXT), ("weight", "<f8")]
    file["full_lt/sm_data"] = np.array(sm_rows, sm_dtype)
    file["full_lt/gsim_lt"] = np.array(gsim_rows, gsim_dtype)
    file["full_lt/source_model_lt"] = np.array([("bs", "a", "sourceModel", "'a.xml'", 0.4)], slt_dtype)
    given = {"num_samples": 0, "seed": 42, "sampling_method": "early_weights"} | sampling
    for name, value in given.items():
        file["full_lt/source_model_lt"].attrs[name] = value
    trts = sorted({row[0] for row in gsim_rows})
    for name, value in ({"trts": np.array(trts, dtype=object)} | (full_attrs or {})).items():
        file["full_lt"].attrs[name] = value


def write_datastore(
    path: Path,
    *,
    version: str | None = "3.26.2",
    oqparam: dict[str, Any] | None = None,
    lon: list[float] | None = None,
    lat: list[float] | None = None,
    vs30: list[float] | None = None,
    custom_ids: Any = None,
    imts: list[str] | None = None,
    stats: list[str] | None = None,
    stat_values: np.ndarray | None = None,
    rlz_values: np.ndarray | None = None,
    with_stats: bool = True,
    with_rlzs: bool = True,
    with_json: bool = True,
    weights: Any = "of the tree",
    tree: dict[str, Any] | None = None,
    edit: Callable[[h5py.File], object] | None = None,
) -> Path:
    lon, lat = LON if lon is None else lon, LAT if lat is None else lat
    imts = list(IMTLS) if imts is None else imts
    stats = STATS if stats is None else stats
    with h5py.File(path, "w") as file:
        if version is not None:
            file.attrs["engine_version"] = version
        file.attrs["date"] = "2026-01-01T00:00:00"
        file.attrs["checksum32"] = 1234
        file["oqparam"] = json.dumps(parameters() if oqparam is None else oqparam).encode()
        file["sitecol/sids"] = np.arange(len(lon), dtype=np.uint32)
        file["sitecol/lon"] = np.array(lon, np.float64)
        file["sitecol/lat"] = np.array(lat, np.float64)
        if vs30 is None or vs30:
            file["sitecol/vs30"] = np.array([400.0] * len(lon) if vs30 is None else vs30, np.float64)
        if custom_ids is not None:
            file["sitecol/custom_site_id"] = custom_ids
        if with_rlzs:
            values = curves(4, len(lon), len(imts)) if rlz_values is None else rlz_values
            file["hcurves-rlzs"] = values
            if with_json:
                told = description("rlz_id", values.shape[1], imts, values.shape[3], values.shape[0])
                file["hcurves-rlzs"].attrs["json"] = told
        if with_stats:
            values = curves(len(stats), len(lon), len(imts), seed=8) if stat_values is None else stat_values
            file["hcurves-stats"] = values
            if with_json:
                told = description("stat", stats, imts, values.shape[3], values.shape[0])
                file["hcurves-stats"].attrs["json"] = told
        if tree is not None or weights is not None:
            if tree is None or tree:
                write_logic_tree(file, **(tree or {}))
            if isinstance(weights, str):
                weights = [weight for _, _, weight in PATHS]
            if weights is not None:
                file["weights"] = np.array(weights, np.float32)
        if edit is not None:
            edit(file)
    return path


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(name: str = "calc_1.hdf5", **quirks: Any) -> Path:
        return write_datastore(tmp_path / name, **quirks)

    return make


@pytest.fixture
def sound_hdf5(build: Build) -> Path:
    return build()


@pytest.fixture
def nan_curve_hdf5(build: Build) -> Path:
    values = curves(4)
    values[1, 2, 0, 1] = np.nan
    return build(rlz_values=values)


@pytest.fixture
def unfilled_rlzs_hdf5(build: Build) -> Path:
    return build(rlz_values=np.zeros((3, 4, 2, 3), np.float32))


@pytest.fixture
def half_filled_rlzs_hdf5(build: Build) -> Path:
    values = curves(4)
    values[2] = 0
    return build(rlz_values=values)


@pytest.fixture
def colliding_sites_hdf5(build: Build) -> Path:
    return build(lon=[175.2501, 175.2504, 175.3], lat=[-41.5, -41.5, -41.5])


@pytest.fixture
def repeated_custom_id_hdf5(build: Build) -> Path:
    return build(custom_ids=np.array([b"WLG", b"MRO", b"WLG"], "S8"))


@pytest.fixture
def secondary_peril_hdf5(build: Build) -> Path:
    levels = {"PGA": [0.01, 0.1, 1.0], "LiqProb": [], "SA(0.2)": [0.02, 0.2, 2.0]}
    given = parameters(calculation_mode="event_based", hazard_curves_from_gmfs=1, hazard_imtls=levels)
    values = curves(4, n_imts=3), curves(3, n_imts=3)
    return build(oqparam=given, imts=list(levels), rlz_values=values[0], stat_values=values[1])


@pytest.fixture
def mislabelled_imts_hdf5(build: Build) -> Path:
    levels = {"SA(0.2)": IMTLS["SA(0.2)"], "PGA": IMTLS["PGA"]}
    return build(version="3.18.0-git00cb8596ff", oqparam=parameters(hazard_imtls=levels))


@pytest.fixture
def job() -> Callable[..., dict[str, Any]]:
    """Return the parameters of a sound job, with what is given in their place; `None` leaves one out."""
    return parameters
