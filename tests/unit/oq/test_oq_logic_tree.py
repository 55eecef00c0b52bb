from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hazard_store.errors import NotADatastoreError, NotStorableError
from hazard_store.oq import Realisation, logic_tree, open_calculation, realisations
from hazard_store.oq.logic_tree import GsimBranch, LogicTree, SourceModelPath

Build = Callable[..., Path]
Job = Callable[..., dict[str, Any]]

METHODS = ["early_weights", "late_weights", "early_latin", "late_latin"]


def tree_of(
    sources: list[tuple[float, int]], gsims: list[list[float]], *, method: str = "early_weights", **given: Any
) -> LogicTree:
    paths = [SourceModelPath((f"s{index}",), weight, samples) for index, (weight, samples) in enumerate(sources)]
    branches = [
        tuple(GsimBranch(f"g{branch}{trt}", weight) for branch, weight in enumerate(weights))
        for trt, weights in enumerate(gsims)
    ]
    defaults: dict[str, Any] = {"num_samples": 0, "seed": 42, "merged": False, "version": (3, 26, 2), "nightly": False}
    return LogicTree(
        paths=tuple(paths),
        gsims=tuple(branches),
        sampling_method=method,
        source_table={},
        gsim_table={},
        **(defaults | given),
    )


weights = st.lists(st.floats(0.01, 1), min_size=1, max_size=4)


@given(weights, st.lists(weights, min_size=0, max_size=3))
def test_full_enumeration_against_brute_force(sources: list[float], gsims: list[list[float]]) -> None:
    tree = tree_of([(weight, 1) for weight in sources], gsims)
    # Odometer: the last tectonic region type turns fastest, the source models slowest.
    wheels = [range(len(sources)), *(range(len(branches)) for branches in gsims)]
    expected, total = [], 0.0
    for positions in itertools.product(*wheels):
        weight = sources[positions[0]]
        for trt, branch in enumerate(positions[1:]):
            weight *= gsims[trt][branch]
        path = tuple(f"g{branch}{trt}" for trt, branch in enumerate(positions[1:]))
        expected.append(((f"s{positions[0]}",), path, weight))
        total += weight
    got = tree.realisations()
    assert [path[:2] for path in got] == [path[:2] for path in expected]
    np.testing.assert_allclose([path[2] for path in got], [path[2] / total for path in expected], rtol=1e-12)
    assert tree.count() == len(got)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", [(3, 25, 1), (3, 26, 0)])
def test_sampling_one_by_one(method: str, version: tuple[int, ...]) -> None:
    sources, gsims = [(0.5, 5), (0.3, 3), (0.2, 2)], [[0.6, 0.3, 0.1], [0.5, 0.5], [1.0]]
    tree = tree_of(sources, gsims, method=method, num_samples=10, seed=113, version=version)
    if version < (3, 26):
        state = np.random.RandomState(114)
        draws = [[state.uniform() for _ in gsims] for _ in range(10)]
    else:
        generator = np.random.default_rng(114)
        draws = [[generator.uniform() for _ in gsims] for _ in range(10)]
    rows = [index for index, (_, samples) in enumerate(sources) for _ in range(samples)]
    expected, raw = [], []
    for position, row in enumerate(rows):
        weight, path = sources[row][0], []
        for trt, branches in enumerate(gsims):
            x = draws[position][trt]
            if method.endswith("latin"):
                column = [draw[trt] for draw in draws]
                x = (sorted(range(10), key=column.__getitem__)[position] + x) / 10
            if method.startswith("early"):
                pick = next(i for i in range(len(branches)) if x <= sum(branches[: i + 1]) or i == len(branches) - 1)
            else:
                pick = int(x * len(branches))
            weight *= branches[pick]
            path.append(f"g{pick}{trt}")
        expected.append(((f"s{row}",), tuple(path)))
        raw.append(0.1 if method.startswith("early") else weight)
    got = tree.realisations()
    assert [path[:2] for path in got] == expected
    np.testing.assert_allclose([path[2] for path in got], np.array(raw) / sum(raw), rtol=1e-12)


def test_sampling_leaves_the_process_s_own_generators_alone() -> None:
    np.random.seed(1)
    random.seed(1)
    before = np.random.get_state()[1].tolist()
    tree_of([(1.0, 9)], [[0.5, 0.5]], num_samples=9, version=(3, 18, 0)).realisations()
    assert np.random.get_state()[1].tolist() == before


def test_merged_samples_weigh_as_often_as_they_were_drawn() -> None:
    tree = tree_of(
        [(0.5, 30), (0.5, 10)], [[0.9, 0.1]], num_samples=40, merged=True, version=(3, 18, 0), method="late_weights"
    )
    got = tree.realisations()
    paths = [path[:2] for path in got]
    assert paths == sorted(set(paths))
    assert len(got) == 4
    assert sum(path[2] for path in got) == pytest.approx(1)
    assert sum(path[2] for path in got[:2]) == pytest.approx(0.75)


def expected_realisations() -> tuple[Realisation, ...]:
    told = [
        (("a", "x"), ("gA1", "gA0"), 0.28),
        (("a", "x"), ("gB1", "gA0"), 0.12),
        (("b", "y"), ("gA1", "gA0"), 0.42),
        (("b", "y"), ("gB1", "gA0"), 0.18),
    ]
    return tuple(Realisation(rlz, source, gsim, float(np.float32(w))) for rlz, (source, gsim, w) in enumerate(told))


def test_realisations_of_a_file(sound_hdf5: Path) -> None:
    with open_calculation(sound_hdf5) as calculation:
        assert calculation.realisations == expected_realisations()
        assert calculation.warnings == ()
        tables = calculation.logic_tree
    assert tables is not None
    assert tables.sources == {
        "branchset": ["bs"],
        "branch": ["a"],
        "utype": ["sourceModel"],
        "uvalue": ["'a.xml'"],
        "weight": [0.4],
    }
    assert tables.gsims["branch"] == ["gA1", "gB1", "gA0"]
    assert tables.gsims["trt"][2] == "Subduction Interface"
    assert list(tables.gsims) == ["trt", "branch", "uncertainty", "weight"]
    assert tables.realisations["branch_path"][1] == "a~x~gB1~gA0"
    assert tables.realisations["source_path"][1] == "a~x"
    assert tables.realisations["gsim_path"][1] == "gB1~gA0"


def test_only_the_occurring_tectonic_regions_count(build: Build) -> None:
    rows = [("Stable", "z1", "[A]", 0.5), ("Active", "a1", "[A]", 0.25), ("Active", "a2", "[B]", 0.75)]
    rows.append(("Stable", "z2", "[B]", 0.5))
    tree = {"gsim_rows": rows, "full_attrs": {"trts": np.array(["Active"], dtype=object)}}
    with open_calculation(build(tree=tree, weights=[0.1, 0.3, 0.15, 0.45])) as calculation:
        assert [realisation.gsim_path for realisation in calculation.realisations] == [("a1",), ("a2",)] * 2


def test_weights_that_depend_on_the_imt(build: Build) -> None:
    rows = [("Active", "a1", "[A]", 0.9, 0.25), ("Active", "a2", "[B]", 0.1, 0.75)]
    tree = {"gsim_rows": rows, "gsim_weights": ("PGA", "weight")}
    with open_calculation(build(tree=tree, weights=[0.1, 0.3, 0.15, 0.45])) as calculation:
        assert calculation.realisations[1].weight == pytest.approx(0.3)
        assert calculation.logic_tree is not None
        assert calculation.logic_tree.gsims["weight"] == [0.25, 0.75]
    by_imt = [[0.5, 0.1], [0.2, 0.3], [0.2, 0.15], [0.1, 0.45]]
    with open_calculation(build("two.hdf5", tree=tree, weights=by_imt)) as calculation:
        assert calculation.realisations[3].weight == pytest.approx(0.45)
        assert calculation.realisations[3].source_path == ("b", "y")


def test_without_stored_weights_they_are_computed(build: Build) -> None:
    with open_calculation(build(weights=None, tree={"seed": 1})) as calculation:
        assert [r.weight for r in calculation.realisations] == pytest.approx([0.28, 0.12, 0.42, 0.18])


@pytest.mark.parametrize(
    ("quirk", "reason"),
    [
        ({"weights": [0.25, 0.25, 0.25, 0.25]}, "disagree with the file"),
        ({"weights": [0.5, 0.5]}, "2 weights for 4 realisations"),
        ({"tree": {"sm_rows": [("x", 1.0, "a", 1)]}}, "the logic tree has 2 paths, the file 4 realisations"),
    ],
)
def test_a_tree_that_the_file_does_not_bear_out_gives_ordinals_only(
    quirk: dict[str, Any], reason: str, build: Build
) -> None:
    with open_calculation(build(**quirk)) as calculation:
        assert [realisation.rlz for realisation in calculation.realisations] == [0, 1, 2, 3]
        assert {r.source_path for r in calculation.realisations} == {()}
        assert any(reason in text for text in calculation.warnings)
        told = [realisation.weight for realisation in calculation.realisations]
        assert told == ([None] * 4 if len(quirk.get("weights", "1234")) == 2 else told)
        assert calculation.logic_tree is not None
        assert calculation.logic_tree.realisations["branch_path"][3] == "00003"


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (np.full((4, 1, 1), 0.25), r"weights has shape (4, 1, 1), expected one a realisation"),
        (np.empty((4, 0)), r"weights has shape (4, 0)"),
        (np.float64(1), r"weights has shape ()"),
        (None, "weights is a group"),
    ],
)
def test_weights_of_another_form_do_not_pass_for_checked(stored: np.ndarray | None, reason: str, build: Build) -> None:
    def edit(file: h5py.File) -> None:
        del file["weights"]
        if stored is None:
            file.create_group("weights")
        else:
            file["weights"] = stored

    with open_calculation(build(edit=edit)) as calculation:
        assert [r.rlz for r in calculation.realisations] == [0, 1, 2, 3]
        assert {(r.source_path, r.gsim_path, r.weight) for r in calculation.realisations} == {((), (), None)}
        assert any("paths are not told" in text and reason in text for text in calculation.warnings)
    child = build("child.hdf5", weights=None, tree={"seed": 1}, edit=without_tree)
    with open_calculation(child, parent=build("parent.hdf5", edit=edit)) as calculation:
        assert {r.source_path for r in calculation.realisations} == {()}
        assert any(reason in text for text in calculation.warnings)
    with open_calculation(build("stats.hdf5", edit=edit, with_rlzs=False)) as calculation:
        assert calculation.realisations == ()
        assert any("realisations are unknown" in text and reason in text for text in calculation.warnings)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_weights_in_a_column_are_those_in_a_row(shape: tuple[int, ...], build: Build) -> None:
    told = np.reshape([realisation.weight for realisation in expected_realisations()], shape)
    with open_calculation(build(weights=told)) as calculation:
        assert calculation.realisations == expected_realisations()


def test_more_realisations_than_can_be_listed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realisations, "MAX_REALISATIONS", 4)
    open_calculation(build()).close()
    monkeypatch.setattr(realisations, "MAX_REALISATIONS", 3)
    with pytest.raises(NotStorableError, match="hcurves-rlzs holds 4 realisations, and 3 is what can be read at most"):
        open_calculation(build())
    for weights in ("of the tree", None):
        with open_calculation(build("stats.hdf5", with_rlzs=False, weights=weights, tree={"seed": 42})) as calculation:
            assert calculation.realisations == ()
            assert any("the logic tree has 4 paths, and 3 is what is listed" in text for text in calculation.warnings)
    monkeypatch.setattr(logic_tree, "MAX_SOURCE_PATHS", 1)
    with pytest.raises(NotStorableError, match="sm_data holds 2 paths through the source models, and 1 is"):
        open_calculation(build())


def test_realisations_share_what_they_have_in_common(build: Build) -> None:
    with open_calculation(build()) as calculation:
        first, _, third, _ = calculation.realisations
        tables = calculation.logic_tree
    assert first.gsim_path is third.gsim_path
    assert tables is not None
    assert tables.realisations["gsim_path"][0] is tables.realisations["gsim_path"][2]


def test_a_tree_of_a_billion_paths_is_not_listed(build: Build) -> None:
    rows = [(f"trt{trt:02d}", f"g{branch}", "[A]", 0.1) for trt in range(9) for branch in range(10)]
    with open_calculation(build(tree={"gsim_rows": rows})) as calculation:
        assert any("2000000000 paths" in text for text in calculation.warnings)


SAMPLED = {"sm_rows": [("x", 1.0, "a", 40)], "num_samples": 40}


def sampled_quirks(method: str, legacy: bool) -> dict[str, Any]:
    gsims = [[0.6, 0.4], [0.7, 0.3]]
    tree = tree_of([(1.0, 40)], gsims, num_samples=40, method=method)
    rows = [(f"trt{trt}", f"g{b}{trt}", "[A]", w) for trt, branches in enumerate(gsims) for b, w in enumerate(branches)]
    told = [weight for _, _, weight in tree.realisations(legacy=legacy)]
    values = np.full((3, 40, 2, 3), 0.5, np.float32)
    given = SAMPLED | {"gsim_rows": rows, "sampling_method": method}
    return {"tree": given, "weights": told, "rlz_values": values}


@pytest.mark.parametrize("legacy", [True, False])
def test_a_nightly_of_the_release_that_changed_the_generator(legacy: bool, build: Build) -> None:
    version = "3.26.0-gitabcdef0123"
    with open_calculation(build("late.hdf5", version=version, **sampled_quirks("late_weights", legacy))) as calculation:
        expected = tree_of([(1.0, 40)], [[0.6, 0.4], [0.7, 0.3]], num_samples=40, method="late_weights")
        told = [realisation.gsim_path for realisation in calculation.realisations]
        assert told == [gsim for _, gsim, _ in expected.realisations(legacy=legacy)]
    with open_calculation(
        build("early.hdf5", version=version, **sampled_quirks("early_weights", legacy))
    ) as calculation:
        assert {realisation.gsim_path for realisation in calculation.realisations} == {()}
        assert any("nightly" in text for text in calculation.warnings)


def test_samples_that_come_again_have_distinct_branch_paths(build: Build) -> None:
    with open_calculation(build(**sampled_quirks("early_weights", legacy=False))) as calculation:
        assert calculation.logic_tree is not None
        paths = calculation.logic_tree.realisations["branch_path"]
    assert len(set(paths)) == 40
    assert any(path.endswith("#2") for path in paths)


def test_a_damaged_logic_tree_is_refused(build: Build) -> None:
    def spoil(file: h5py.File) -> None:
        del file["full_lt/sm_data"]
        file["full_lt/sm_data"] = np.arange(3)

    with pytest.raises(NotStorableError, match="full_lt is damaged"):
        open_calculation(build(edit=spoil))


def without_tree(file: h5py.File) -> None:
    del file["full_lt"]


def test_child_takes_its_tree_from_the_parent_that_is_named(sound_hdf5: Path, build: Build, job: Job) -> None:
    child = build(
        "child.hdf5", oqparam=job(hazard_calculation_id=11), weights=None, tree={"seed": 1}, edit=without_tree
    )
    with open_calculation(child) as calculation:
        assert [realisation.rlz for realisation in calculation.realisations] == [0, 1, 2, 3]
        assert {realisation.source_path for realisation in calculation.realisations} == {()}
        assert {realisation.weight for realisation in calculation.realisations} == {None}
        assert any("hazard_calculation_id 11" in text for text in calculation.warnings)
        assert calculation.logic_tree is None
    with open_calculation(child, parent=sound_hdf5) as calculation:
        assert calculation.realisations == expected_realisations()
        assert calculation.warnings == ()


@pytest.mark.parametrize(
    ("quirk", "reason"),
    [
        ({"lon": [174.0], "lat": [-41.0]}, "it has 1 sites, this calculation 3"),
        ({"lon": [174.78, 175.66, 175.71]}, "its sites lie elsewhere"),
        ({"tree": {"sm_rows": [("x", 1.0, "a", 1)]}, "weights": None}, "it has 2 realisations, this calculation 4"),
        ({"edit": without_tree}, "it holds no logic tree either"),
    ],
)
def test_a_parent_that_is_none(quirk: dict[str, Any], reason: str, build: Build) -> None:
    child = build("child.hdf5", weights=None, tree={"seed": 1}, edit=without_tree)
    parent = build("parent.hdf5", **quirk)
    with pytest.raises(NotStorableError, match=reason):
        open_calculation(child, parent=parent)


def test_a_parent_that_cannot_be_read_or_is_not_needed(sound_hdf5: Path, build: Build, tmp_path: Path) -> None:
    child = build("child.hdf5", weights=None, tree={"seed": 1}, edit=without_tree)
    with pytest.raises(NotADatastoreError, match="no such file"):
        open_calculation(child, parent=tmp_path / "missing.hdf5")
    with open_calculation(sound_hdf5, parent=tmp_path / "missing.hdf5") as calculation:
        assert any("was not needed" in text for text in calculation.warnings)


def test_statistics_alone_without_tree_or_weights(build: Build) -> None:
    source = build(with_rlzs=False, weights=None, tree={"seed": 1}, edit=without_tree)
    with open_calculation(source) as calculation:
        assert calculation.realisations == ()
        assert any("realisations are unknown" in text for text in calculation.warnings)
