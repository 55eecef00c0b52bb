"""``inspect`` on real files and on what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.running import RunCli

KEYS = [
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


def test_the_json_is_that_of_the_contract(run_cli: RunCli, data_dir: Path) -> None:
    outcome = run_cli("inspect", data_dir / "custom_ids.hdf5", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    expected = json.loads((data_dir / "expected" / "custom_ids.json").read_text())
    assert list(outcome.json) == KEYS
    assert list(outcome.json["imtls"]) == list(expected["imtls"])
    assert outcome.json["stats"] == expected["stats"]
    assert set(outcome.json["sites"][0]) == {"code", "lon", "lat", "vs30"}
    assert set(outcome.json["realisations"][0]) == {"rlz", "source_path", "gsim_path", "weight"}
    assert outcome.json["storable"] is True


def test_the_report_names_what_matters(run_cli: RunCli, data_dir: Path) -> None:
    outcome = run_cli("inspect", data_dir / "bare_coordinates.hdf5")
    assert outcome.code == 0
    for words in ("3.26.2", "classical", "16 (curves of shape (12, 16,", "storable            yes", "2 more sites"):
        assert words in outcome.out
    assert "[-41.400~174.700]" in outcome.out


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    ("name", "reason"), [("preclassical", "makes no hazard curves"), ("colliding_sites", "custom_site_id")]
)
def test_what_cannot_be_stored_is_described_and_refused(
    name: str, reason: str, flags: list[str], run_cli: RunCli, data_dir: Path
) -> None:
    outcome = run_cli("inspect", data_dir / f"{name}.hdf5", *flags)
    assert reason in outcome.error
    if flags:
        assert outcome.json["storable"] is False
        assert outcome.json["engine_version"] == "3.26.2"
    else:
        assert "storable            no: " in outcome.out


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_cannot_be_read_gets_the_line_alone(flags: list[str], run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "text.hdf5").write_text("no datastore")
    outcome = run_cli("inspect", tmp_path / "text.hdf5", *flags)
    assert "text.hdf5: is neither an HDF5 file nor a zip archive" in outcome.error
    assert outcome.out == ""


def test_a_child_needs_its_parent_for_the_logic_tree(run_cli: RunCli, data_dir: Path) -> None:
    alone = run_cli("inspect", data_dir / "child.hdf5", "--json")
    assert any("parent" in text for text in alone.json["warnings"])
    both = run_cli("inspect", data_dir / "child.hdf5", "--parent", data_dir / "custom_ids.hdf5", "--json")
    assert both.json["realisations"][0]["source_path"]


def test_site_codes_can_be_normalised(run_cli: RunCli, data_dir: Path) -> None:
    outcome = run_cli("inspect", data_dir / "custom_ids.hdf5", "--sites", "normalised", "--json")
    assert outcome.json["sites"][0]["code"] == "[-41.290~174.780]"
