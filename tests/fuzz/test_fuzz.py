"""A short run of the fuzzer, and proof that it sees what it is made to see."""

from __future__ import annotations

import itertools
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hazard_store.oq import open_calculation
from tests.fuzz import judging
from tests.fuzz.judging import OpensOf, Verdict, judge
from tests.fuzz.limits import Limits
from tests.fuzz.mutations import Mutation, kind_of, make_outside, mutate
from tests.fuzz.processes import run
from tests.fuzz.structures import OUTSIDE_POE, Outside

MUTATIONS = 100
SEED = 20_260_101


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    (tmp_path / "outside").mkdir()
    return make_outside(tmp_path / "outside")


@pytest.fixture
def sound(tmp_path: Path, data_dir: Path) -> Mutation:
    home = tmp_path / "mutation"
    home.mkdir()
    path = Path(shutil.copy(data_dir / "custom_ids.hdf5", home / "calc_1.hdf5"))
    return Mutation("sound", "custom_ids", path, path)


def test_mutations_are_read_right_or_refused(tmp_path: Path) -> None:
    told: dict[int, Verdict] = {}
    run(SEED, itertools.islice(itertools.count(), MUTATIONS), 2, told.__setitem__, tmp_path / "kept")
    defects = {f"{number} ({kind_of(SEED, number)})": v.text for number, v in told.items() if v.outcome == "defect"}
    assert defects == {}
    assert sorted(told) == list(range(MUTATIONS))
    # A reader that refused everything would pass the first line.
    assert sum(verdict.outcome == "read right" for verdict in told.values()) > MUTATIONS / 5


def test_a_mutation_is_made_anew_from_its_numbers(tmp_path: Path, outside: Outside) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        number = next(n for n in itertools.count() if kind_of(1, n) == "bytes: flip bits")
        made.append(mutate(1, number, tmp_path / name, outside).path.read_bytes())
    assert made[0] == made[1]


def test_a_sound_file_is_read_right(sound: Mutation, outside: Outside) -> None:
    assert judge(sound, outside, OpensOf(outside.file), Limits()).outcome == "read right"


def test_it_sees_a_file_that_is_opened_outside(
    sound: Mutation, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> object:
        outside.file.open("rb").close()
        return {}

    monkeypatch.setattr(judging, "_read", read)
    assert "outside" in judge(sound, outside, OpensOf(outside.file), Limits()).text


def test_it_sees_a_pickle_that_is_loaded(sound: Mutation, outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    pickle.loads(outside.pickled()).close()
    assert outside.mark.exists()
    monkeypatch.setattr(judging, "_read", lambda path: outside.mark.touch() or {})
    assert "pickle" in judge(sound, outside, OpensOf(outside.file), Limits()).text


def test_it_sees_a_wrong_value_and_wasted_memory(
    sound: Mutation, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = judging._read(sound.path)
    wrong = right | {"curves": right["curves"] | {"stats": right["curves"]["stats"] + np.float32(1e-6)}}
    monkeypatch.setattr(judging, "_read", lambda path: wrong)
    assert judge(sound, outside, OpensOf(outside.file), Limits()).text == "curves of stats differ"
    limits = Limits()
    monkeypatch.setattr(judging, "_read", lambda path: np.ones(300 << 20, np.uint8) is None or right)
    # Refused by the limit, where the process that runs the tests is large already.
    assert re.search("MB of memory|MemoryError", judge(sound, outside, OpensOf(outside.file), limits).text)


def test_the_file_outside_has_values_of_its_own(outside: Outside) -> None:
    with open_calculation(outside.file) as calculation:
        assert (calculation.read("stats", 0, 5) == OUTSIDE_POE).all()
