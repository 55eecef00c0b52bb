"""Files that engines wrote, against what those engines themselves say about them (tests/data/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.oq import open_calculation

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(DATA.glob("*.hdf5"))
ONLY_WITH_PARENT = {"child": "custom_ids"}
NOT_STORABLE = {"colliding_sites": "two sites would be stored under one code", "preclassical": "calculation_mode"}


def engine_says(path: Path) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((DATA / "expected" / f"{path.stem}.json").read_text())
    return answers


def test_there_are_real_files() -> None:
    assert len(FILES) >= 13


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_description_is_what_the_engine_says(path: Path) -> None:
    expected = engine_says(path)
    parent = DATA / f"{ONLY_WITH_PARENT[path.stem]}.hdf5" if path.stem in ONLY_WITH_PARENT else None
    with open_calculation(path, parent=parent, strict=False) as calculation:
        told = calculation.describe()
    for key in ("engine_version", "calculation_mode", "investigation_time", "imtls", "stats", "curves"):
        assert told[key] == expected[key], key
    assert list(told["imtls"]) == list(expected["imtls"])
    assert len(told["sites"]) == len(expected["sites"])
    for ours, theirs in zip(told["sites"], expected["sites"], strict=True):
        assert ours == ours | theirs
    assert [(r["rlz"], r["source_path"], r["gsim_path"]) for r in told["realisations"]] == [
        (r["rlz"], r["source_path"], r["gsim_path"]) for r in expected["realisations"]
    ]
    ours, theirs = ([r["weight"] for r in answer["realisations"]] for answer in (told, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    refused = NOT_STORABLE.get(path.stem)
    assert told["storable"] is (refused is None)
    if refused:
        assert refused in told["warnings"][0]


@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in NOT_STORABLE], ids=lambda path: path.stem)
def test_blocks_are_the_stored_values(path: Path) -> None:
    # HDF5 lets a process open a file once with locks and once without only if nobody has it open still.
    with h5py.File(path, "r", locking=False) as file:
        stored = {
            part: file[name][()]
            for part, name in (("stats", "hcurves-stats"), ("realisations", "hcurves-rlzs"))
            if name in file
        }
    with open_calculation(path) as calculation:
        calculation.check_curves()
        assert {part for part, shape in calculation.curves.items() if shape} == set(stored)
        for part, values in stored.items():
            for site in range(values.shape[0]):
                np.testing.assert_array_equal(calculation.read(part, site, site + 1), values[site : site + 1])


def test_child_without_its_parent_has_ordinals_only() -> None:
    with open_calculation(DATA / "child.hdf5") as calculation:
        assert len(calculation.realisations) == 12
        assert {(r.source_path, r.gsim_path, r.weight) for r in calculation.realisations} == {((), (), None)}
