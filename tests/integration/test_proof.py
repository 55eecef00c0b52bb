"""Which mode of verify finds which damage: the table in docs/reliability.md, proven line by line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hazard_store.errors import NotStoredError, UsageError
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.ledger import Ledger
from hazard_store.meta import Meta, delete_meta, read_meta, write_meta
from hazard_store.settings import Settings
from hazard_store.storing import store_in_process
from hazard_store.verification import MODES, Mode, verify
from tests.integration.tampering import CORRUPTIONS, HAZ_SOL_ID, ONE, OTHER, SITE, Tampering

CURVES = 5 * 17  # of custom_ids.hdf5
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
in_all_modes = pytest.mark.parametrize("mode", MODES)

# What each mode finds for sure. A sample finds what it draws, so here it draws all; it never looks for extra items. The
# weighted mean is blind to what stays within float32, to what it does not read, and to labels wrong throughout.
FOUND: dict[str, set[Mode]] = {
    "missing item": {"full", "digest", "sample", "scientific"},
    "extra item": {"full", "digest", "scientific"},
    "changed bit": {"full", "digest", "sample"},
    "changed stored bit": {"full", "digest", "sample", "scientific"},
    "swapped IMTs": {"full", "digest", "sample", "scientific"},
    "swapped IMTs of all": {"full", "digest", "sample"},
    "swapped realisations": {"full", "digest", "sample", "scientific"},
    "an older store's sites": {"full", "digest"},
}


def store(source: Path, layout: Layout, settings: Settings, **changes: Any) -> None:
    request = StoreRequest(str(source), HAZ_SOL_ID, encoding=layout.encoding.name, partition=layout.partition.name)
    assert store_in_process(replace(request, **changes), settings).complete


@by_layout
@in_all_modes
def test_every_mode_passes_what_is_whole(layout: Layout, mode: Mode, tables: Settings, data_dir: Path) -> None:
    source = data_dir / "custom_ids.hdf5"
    store(source, layout, tables)
    progress: list[tuple[int, int]] = []
    report = verify(
        str(source), HAZ_SOL_ID, mode=mode, curves=20, on_progress=lambda done, total: progress.append((done, total))
    )
    assert report.ok, report.summary
    assert (report.mode, report.layout, report.complete, report.notes) == (mode, layout.name, True, ())
    assert report.checked_items == {"full": CURVES, "digest": CURVES, "sample": 20, "scientific": 5 * 13}[mode]
    assert progress[-1] == (report.checked_items, report.checked_items)


@by_layout
@pytest.mark.parametrize("damage", CORRUPTIONS)
def test_each_damage_is_found_by_the_modes_that_promise_it(
    layout: Layout, damage: str, tables: Settings, data_dir: Path
) -> None:
    source = data_dir / "custom_ids.hdf5"
    store(source, layout, tables)
    CORRUPTIONS[damage](Tampering(layout, tables))
    reports = {mode: verify(str(source), HAZ_SOL_ID, mode=mode, curves=CURVES, seed=1) for mode in MODES}
    found = {mode for mode, report in reports.items() if not report.ok}
    expected = FOUND[damage]
    if damage == "swapped IMTs of all" and layout.encoding.name == "list":
        # A `list` item says itself which levels it has, so that no reader takes it for another IMT's.
        expected = set(MODES)
    assert found == expected, {mode: report.summary for mode, report in reports.items()}
    if damage == "swapped IMTs of all":
        return
    codes = read_meta(HAZ_SOL_ID, tables).codes
    chunk = (f"{codes[0]} to {codes[-1]}", "realisations:00000-00005")
    # The first difference leads to the place: a curve, or in a digest the chunk that holds it.
    for mode in found:
        first = reports[mode].differences[0]
        places = [(SITE, kind) for kind in (ONE, OTHER, "00012", *(["mean"] if mode == "scientific" else []))]
        assert (first.site, first.kind) in ([chunk] if first.what == "digest" else places), first


@by_layout
def test_what_an_older_larger_store_left_is_found(
    layout: Layout, tables: Settings, data_dir: Path, tmp_path: Path
) -> None:
    store(fewer_sites(data_dir / "custom_ids.hdf5", tmp_path / "all.hdf5", 5), layout, tables)
    source = fewer_sites(data_dir / "custom_ids.hdf5", tmp_path / "fewer.hdf5", 3)
    store(source, layout, tables)
    reports = {mode: verify(str(source), HAZ_SOL_ID, mode=mode) for mode in MODES}
    assert {mode for mode, report in reports.items() if not report.ok} == FOUND["an older store's sites"]
    for mode in FOUND["an older store's sites"]:
        report = reports[mode]
        assert (report.extra, report.missing, report.different, report.meta_differences) == (2 * 17, 0, 0, 0)
        assert {difference.what for difference in report.differences} == {"extra item"}


def fewer_sites(source: Path, path: Path, n_sites: int) -> Path:
    """The same calculation at its first sites alone, far apart, so that each has a bin of its own."""
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        n_all = len(file["sitecol/lat"])
        file["sitecol/lat"][:] = -35.0 - 2.0 * np.arange(n_all)
        for name in (*(f"sitecol/{column}" for column in file["sitecol"]), "hcurves-stats", "hcurves-rlzs"):
            values, attributes = file[name][:n_sites], dict(file[name].attrs)
            del file[name]
            file[name] = values
            file[name].attrs.update(attributes)
    return path


@by_layout
def test_a_difference_in_a_mean_is_named_by_site_imt_and_level(
    layout: Layout, tables: Settings, data_dir: Path
) -> None:
    store(data_dir / "custom_ids.hdf5", layout, tables)
    tampering = Tampering(layout, tables)
    poes = tampering.poes("stats", SITE, "mean").copy()
    # Three float32 further than any order of summing twelve terms could bring it.
    poes[2, 3] *= np.float32(1 + 16 * 2.0**-24 + 4 * 2.0**-23)
    tampering.overwrite("stats", SITE, "mean", poes)
    report = verify(None, HAZ_SOL_ID, mode="scientific")
    assert (report.different, report.missing, report.extra) == (1, 0, 0)
    (found,) = report.differences
    imt, levels = list(read_meta(HAZ_SOL_ID, tables).imtls.items())[2]
    assert (found.what, found.site, found.kind, found.imt, found.level) == ("mean", SITE, "mean", imt, levels[3])
    assert found.got == poes[2, 3]
    low, high = (float(bound) for bound in str(found.expected).split(" to "))
    assert low < high < poes[2, 3]


def test_a_mean_of_rates_is_known_as_one(tables: Settings, data_dir: Path, tmp_path: Path) -> None:
    """What `use_rates = true` makes the engine store: the mean of the rates, which is none of the poes."""
    path = Path(shutil.copy(data_dir / "custom_ids.hdf5", tmp_path))
    with h5py.File(path, "r+") as file:
        parameters = json.loads(file["oqparam"][()])
        del file["oqparam"]
        file["oqparam"] = json.dumps(parameters | {"use_rates": 1})
        rates = -np.log1p(-file["hcurves-rlzs"][:].astype(np.float64))
        file["hcurves-stats"][:, 0] = 1 - np.exp(-np.einsum("srml,r->sml", rates, file["weights"][:]))
    layout = LAYOUTS["packed+solution"]
    store(path, layout, tables)
    report = verify(None, HAZ_SOL_ID, mode="scientific")
    assert report.ok, report.differences
    meta = read_meta(HAZ_SOL_ID, tables)
    document = meta.document | {"mean": {"of": "poes", "imts_with_own_weights": []}}
    write_meta(Meta(meta.haz_sol_id, layout, True, meta.parts, document), tables)
    assert verify(None, HAZ_SOL_ID, mode="scientific").different > 0


@pytest.mark.parametrize("unknown", ["weights", "weights of an IMT"])
def test_without_weights_a_mean_must_lie_between_its_realisations(
    unknown: str, tables: Settings, data_dir: Path
) -> None:
    if unknown == "weights":
        store(data_dir / "child.hdf5", LAYOUTS["packed+solution"], tables)
    else:
        store(data_dir / "custom_ids.hdf5", LAYOUTS["packed+solution"], tables)
        meta = read_meta(HAZ_SOL_ID, tables)
        told = {"of": "poes", "imts_with_own_weights": ["PGA"]}
        write_meta(Meta(meta.haz_sol_id, meta.layout, True, meta.parts, meta.document | {"mean": told}), tables)
    report = verify(None, HAZ_SOL_ID, mode="scientific")
    assert report.ok, report.summary
    (note,) = report.notes
    assert "lies between the realisations" in note
    tampering = Tampering(LAYOUTS["packed+solution"], tables)
    row = list(read_meta(HAZ_SOL_ID, tables).imtls).index("PGA")
    poes = tampering.poes("stats", SITE, "mean").copy()
    poes[row, 0] *= np.float32(0.5)
    tampering.overwrite("stats", SITE, "mean", poes)
    assert verify(None, HAZ_SOL_ID, mode="scientific").different == 1


def test_a_sample_is_drawn_anew_unless_it_is_seeded(tables: Settings, data_dir: Path) -> None:
    source = str(data_dir / "custom_ids.hdf5")
    store(Path(source), LAYOUTS["packed+solution"], tables)
    CORRUPTIONS["changed bit"](Tampering(LAYOUTS["packed+solution"], tables))
    drawn = {seed: verify(source, HAZ_SOL_ID, mode="sample", curves=40, seed=seed) for seed in range(12)}
    assert {report.checked_items for report in drawn.values()} == {40}
    assert {report.ok for report in drawn.values()} == {True, False}, "twelve halves of 85 curves all alike"
    for seed, report in drawn.items():
        assert verify(source, HAZ_SOL_ID, mode="sample", curves=40, seed=seed) == report
    unseeded = verify(source, HAZ_SOL_ID, mode="sample", curves=40)
    assert unseeded.seed is not None
    assert verify(source, HAZ_SOL_ID, mode="sample", curves=40, seed=unseeded.seed) == unseeded
    assert verify(source, HAZ_SOL_ID, mode="sample", curves=10_000).checked_items == CURVES


@by_layout
def test_a_digest_needs_the_ledger_and_says_what_is_not_stored(
    layout: Layout, tables: Settings, data_dir: Path
) -> None:
    store(data_dir / "custom_ids.hdf5", layout, tables)
    ledger = Ledger(tables)
    chunk = ledger.chunks(HAZ_SOL_ID, layout)["stats:00000-00005"]  # type: ignore[index]
    ledger.save_chunk(HAZ_SOL_ID, layout, replace(chunk, status="failed", digest=None))
    report = verify(None, HAZ_SOL_ID, mode="digest")
    assert [(one.what, one.kind, one.expected) for one in report.differences] == [
        ("no digest", "stats:00000-00005", "failed")
    ]
    delete_meta(HAZ_SOL_ID, layout, tables)
    report = verify(None, HAZ_SOL_ID, mode="digest")
    assert (report.ok, report.complete, report.meta_differences, report.checked_items) == (False, False, 1, 0)
    store(data_dir / "custom_ids.hdf5", layout, tables)
    ledger.delete(HAZ_SOL_ID, layout)
    with pytest.raises(NotStoredError, match="mode full"):
        verify(None, HAZ_SOL_ID, mode="digest")


def test_a_mode_that_cannot_be_had_says_why(tables: Settings, data_dir: Path) -> None:
    source = data_dir / "custom_ids.hdf5"
    store(source, LAYOUTS["packed+solution"], tables, parts=("meta", "stats"))
    with pytest.raises(UsageError, match="not stored with both a mean and its realisations"):
        verify(None, HAZ_SOL_ID, mode="scientific")
    for mode in ("full", "sample"):
        with pytest.raises(UsageError, match="compares with the file"):
            verify(None, HAZ_SOL_ID, mode=mode)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 1 curve"):
        verify(str(source), HAZ_SOL_ID, mode="sample", curves=0)
    with pytest.raises(UsageError, match="choose full, digest"):
        verify(str(source), HAZ_SOL_ID, mode="half")  # type: ignore[arg-type]
