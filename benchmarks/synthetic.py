"""Writes a calculation of any size in the form of engine 3.26, with curves as smooth and as noisy as real ones.

``python -m benchmarks.synthetic OUT.hdf5 --sites 11500`` writes 12 realisations, 27 IMTs and 44 levels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import numpy as np

SOURCE_BRANCHES = (("b1", 0.3), ("b2", 0.3), ("b3", 0.4))
GSIMS = {"Active Shallow Crust": (("a1", 0.6), ("a2", 0.4)), "Subduction Interface": (("s1", 0.5), ("s2", 0.5))}
N_RLZS = 12
STATS = ("mean", "quantile-0.1", "quantile-0.5", "quantile-0.9")
TEXT = h5py.string_dtype()


def imt_names(count: int) -> list[str]:
    periods = np.round(np.geomspace(0.05, 10, count - 1), 3)
    return ["PGA", *(f"SA({period})" for period in periods)]


def curves(rng: np.random.Generator, sites: int, kinds: int, imts: int, levels: np.ndarray) -> np.ndarray:
    """Poes that fall with the level like hazard curves do, float32, shape (sites, kinds, imts, levels)."""
    rate = 10 ** rng.uniform(-2.5, -0.5, (sites, kinds, imts, 1))
    knee = 10 ** rng.uniform(-1.2, -0.2, (sites, kinds, imts, 1))
    exceedance = rate / (1 + (levels / knee) ** rng.uniform(2.0, 3.0, (sites, kinds, imts, 1)))
    # Beyond a site's largest ground motion nothing exceeds: real curves end in zeros.
    exceedance[levels > 12 * knee] = 0.0
    return (1 - np.exp(-50 * exceedance)).astype(np.float32)


def write_calculation(path: Path, n_sites: int, n_imts: int = 27, n_levels: int = 44, with_stats: bool = True) -> None:
    """Write the file block by block, so that any size fits into memory."""
    rng = np.random.default_rng(1)
    imts = imt_names(n_imts)
    levels = np.round(np.geomspace(1e-4, 5, n_levels), 7)
    side = int(np.ceil(np.sqrt(n_sites)))
    lon, lat = (axis.ravel()[:n_sites] for axis in np.meshgrid(*(2 * [np.arange(side) * 0.05])))
    with h5py.File(path, "w") as out:
        out.attrs.update(engine_version="3.26.2", date="2026-11-01T00:00:00", checksum32=n_sites)
        parameters = {
            "calculation_mode": "classical",
            "description": "synthetic",
            "investigation_time": 50.0,
            "number_of_logic_tree_samples": 0,
            "individual_rlzs": 1,
            "mean": 1,
            "quantiles": [0.1, 0.5, 0.9],
            "reference_vs30_value": 400.0,
            "hazard_imtls": {imt: levels.tolist() for imt in imts},
        }
        out["oqparam"] = json.dumps(parameters).encode()
        site_columns = {"sids": np.arange(n_sites, dtype=np.uint32), "lon": lon + 166.0, "lat": lat - 47.0}
        for name, column in (site_columns | {"vs30": np.full(n_sites, 400.0)}).items():
            out[f"sitecol/{name}"] = column
        out["sitecol"].attrs["__pdcolumns__"] = "sids lon lat vs30"
        write_logic_tree(out)
        parts = {"hcurves-rlzs": ("rlz_id", N_RLZS)} | ({"hcurves-stats": ("stat", len(STATS))} if with_stats else {})
        for name, (axis, kinds) in parts.items():
            dataset = out.create_dataset(name, (n_sites, kinds, n_imts, n_levels), np.float32)
            shape = {"shape_descr": ["site_id", axis, "imt", "lvl"], "site_id": n_sites, "imt": imts, "lvl": n_levels}
            dataset.attrs["json"] = json.dumps(shape | {axis: list(STATS) if axis == "stat" else kinds})
            for start in range(0, n_sites, 250):
                stop = min(start + 250, n_sites)
                dataset[start:stop] = curves(rng, stop - start, kinds, n_imts, levels)


def write_logic_tree(out: h5py.File) -> None:
    gsim_rows = [(trt, b, f"[{b}]", w) for trt, branches in GSIMS.items() for b, w in branches]
    out["full_lt/gsim_lt"] = np.array(
        gsim_rows, [("trt", TEXT), ("branch", TEXT), ("uncertainty", TEXT), ("weight", "<f8")]
    )
    out["full_lt/sm_data"] = np.array(
        [(f"model-{b}", w, b, 1) for b, w in SOURCE_BRANCHES],
        [("name", TEXT), ("weight", "<f4"), ("path", TEXT), ("samples", "<u4")],
    )
    out["full_lt/source_model_lt"] = np.array(
        [("bs1", b, "sourceModel", f"'{b}.xml'", w) for b, w in SOURCE_BRANCHES],
        [("branchset", TEXT), ("branch", TEXT), ("utype", TEXT), ("uvalue", TEXT), ("weight", "<f8")],
    )
    out["full_lt/source_model_lt"].attrs.update(num_samples=0, seed=42, sampling_method="early_weights")
    out["full_lt"].attrs["trts"] = np.array(list(GSIMS), dtype=TEXT)
    out["full_lt"].attrs.update(num_samples=0, seed=42)
    first, second = GSIMS.values()
    weights = [s * a * b for _, s in SOURCE_BRANCHES for _, a in first for _, b in second]
    out["weights"] = np.array(weights, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sites", type=int, default=11_500)
    parser.add_argument("--without-stats", action="store_true")
    arguments = parser.parse_args()
    write_calculation(arguments.out, arguments.sites, with_stats=not arguments.without_stats)


if __name__ == "__main__":
    main()
