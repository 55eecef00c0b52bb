from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.errors import NotStorableError
from hazard_store.oq import open_calculation
from hazard_store.oq.hdf5 import version_numbers

Build = Callable[..., Path]
Job = Callable[..., dict[str, Any]]


def stored_as(write: Callable[[h5py.File], object]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file["oqparam"]
        write(file)

    return edit


def table_of_3_11(given: dict[str, Any]) -> np.ndarray:
    rows = [(name.encode(), repr(value).encode()) for name, value in given.items()]
    return np.array(rows, [("par_name", "S50"), ("par_value", h5py.string_dtype())])


def test_every_stored_form_reads_alike(build: Build, job: Job) -> None:
    given = job()
    text = json.dumps(given)
    forms = {
        "bytes": lambda file: file.create_dataset("oqparam", data=text.encode()),
        "text": lambda file: file.create_dataset("oqparam", data=text, dtype=h5py.string_dtype()),
        "void": lambda file: file.create_dataset("oqparam", data=np.void(text.encode())),
        "array": lambda file: file.create_dataset("oqparam", data=np.frombuffer(text.encode(), np.uint8)),
        "table": lambda file: file.create_dataset("oqparam", data=table_of_3_11(given)),
        "group": lambda file: [
            file.create_dataset("oqparam/a", data=text.encode()),
            file.create_dataset("oqparam/b", data=b'{"calculation_mode": "scenario"}'),
        ],
    }
    for name, write in forms.items():
        with open_calculation(build(f"{name}.hdf5", edit=stored_as(write))) as calculation:
            assert calculation.parameters == given, name
            assert calculation.calculation_mode == "classical"
            assert calculation.investigation_time == 50.0
            assert calculation.description == "a test"
            assert calculation.date == "2026-01-01T00:00:00"


def test_a_table_value_that_is_no_literal_stays_text(build: Build, job: Job) -> None:
    table = table_of_3_11(job())
    table["par_value"][0] = b"<a description>"
    source = build(edit=stored_as(lambda file: file.create_dataset("oqparam", data=table)))
    with open_calculation(source) as calculation:
        assert calculation.description == "<a description>"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda file: None, "oqparam is missing"),
        (lambda file: file.create_dataset("oqparam", data=b"{'not': json"), "oqparam is damaged"),
        (lambda file: file.create_dataset("oqparam", data=b"[1, 2]"), "holds no parameters"),
        (lambda file: file.create_dataset("oqparam", data=b"{}"), "holds no parameters"),
    ],
)
def test_parameters_that_cannot_be_read(write: Callable[[h5py.File], object], reason: str, build: Build) -> None:
    source = build(edit=stored_as(write))
    with pytest.raises(NotStorableError, match=reason):
        open_calculation(source)
    with open_calculation(source, strict=False) as calculation:
        assert reason in calculation.refusals[0]
        assert len(calculation.sites) == 3


@pytest.mark.parametrize(
    ("mode", "extra", "reason"),
    [
        ("preclassical", {}, "calculation_mode is preclassical"),
        ("scenario", {}, "calculation_mode is scenario"),
        ("classical_risk", {}, "calculation_mode is classical_risk"),
        ("event_based", {}, "hazard_curves_from_gmfs = true"),
        ("classical", {}, "aborted or told to make none"),
        ("event_based", {"hazard_curves_from_gmfs": 1}, "aborted or told to make none"),
    ],
)
def test_files_without_curves(mode: str, extra: dict[str, Any], reason: str, build: Build, job: Job) -> None:
    source = build(oqparam=job(calculation_mode=mode, **extra), with_stats=False, with_rlzs=False)
    with pytest.raises(NotStorableError, match=reason):
        open_calculation(source)
    with open_calculation(source, strict=False) as calculation:
        assert list(calculation.imtls) == ["PGA", "SA(0.2)"]
        assert calculation.describe()["curves"] == {"stats": None, "realisations": None}


@pytest.mark.parametrize("rates", ["_rates", "_poes"])
def test_rates_without_curves_say_how_to_make_them(rates: str, build: Build) -> None:
    source = build(with_stats=False, with_rlzs=False, edit=lambda file: file.create_group(rates))
    with pytest.raises(NotStorableError, match=rf"holds {rates} .* --hc CALC_ID"):
        open_calculation(source)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("3.18.0-git00cb8596ff", (3, 18, 0)), ("3.26.2", (3, 26, 2)), (" 3.11", (3, 11)), ("unknown", ())],
)
def test_version_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers
