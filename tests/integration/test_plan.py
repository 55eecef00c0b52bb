"""``hazard-store plan`` against what a store then consumes, in every layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.synthetic import write_calculation
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.settings import Settings
from hazard_store.storing import store_in_process
from tests.unit.cli.running import RunCli, run_cli_with
from tests.unit.cli.test_inspecting import KEYS

HAZ_SOL_ID = "T3BlbnF1YWtlOjEwMA=="


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    return run_cli_with(capsys)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 sites x 16 curves of 27 IMTs x 44 levels."""
    path = tmp_path_factory.mktemp("synthetic") / "calc_1.hdf5"
    write_calculation(path, 25)
    return path


@pytest.mark.parametrize("name", ["custom_ids", "bare_coordinates", "statistics_only", "synthetic"])
def test_a_store_consumes_what_was_planned(
    name: str, tables: Settings, data_dir: Path, synthetic: Path, run_cli: RunCli
) -> None:
    path = synthetic if name == "synthetic" else data_dir / f"{name}.hdf5"
    outcome = run_cli("plan", path, "--id", HAZ_SOL_ID, "--json")
    assert outcome.code == 0, outcome.err
    assert list(outcome.json) == [*KEYS, "plan"]
    planned = outcome.json["plan"]
    for layout in LAYOUTS.values():
        request = StoreRequest(str(path), HAZ_SOL_ID, encoding=layout.encoding.name, partition=layout.partition.name)
        report = store_in_process(request, tables)
        assert report.complete
        assert planned["items"]["all"] == report.totals().items
        assert sum(planned["chunks"].values()) == report.chunks
        for part, wcu in planned["layouts"][layout.name]["wcu"].items():
            stored = report.totals() if part == "all" else report.totals(part)  # type: ignore[arg-type]
            assert wcu == pytest.approx(stored.wcu, rel=0.05), (layout.name, part)


def test_no_database_is_touched(data_dir: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAZARD_STORE_ENDPOINT", "http://127.0.0.1:9")
    outcome = run_cli("plan", data_dir / "custom_ids.hdf5", "--workers", 3, "--max-wcu", 5)
    assert (outcome.code, outcome.err) == (0, "")
    for words in (
        "85 items in 2 chunks with 3 workers",
        "list+location",
        "--max-wcu",
        "DynamoDB Local on this machine",
    ):
        assert words in outcome.out


def test_the_target_may_be_named(data_dir: Path, run_cli: RunCli) -> None:
    outcome = run_cli("plan", data_dir / "custom_ids.hdf5", "--target", "aws")
    assert "1,000 WCU/s for one hash key" in outcome.out


@pytest.mark.parametrize("deadline", [None, "15m", "1s"])
def test_a_cluster_on_fargate_is_recommended_for_aws(deadline: str | None, data_dir: Path, run_cli: RunCli) -> None:
    words = ["plan", data_dir / "custom_ids.hdf5", "--target", "aws", *(["--deadline", deadline] if deadline else [])]
    outcome = run_cli(*words, "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json["plan"]["fargate"]
    assert found["deadline_seconds"] == {None: None, "15m": 900.0, "1s": 1.0}[deadline]
    assert list(found["layouts"]) == list(LAYOUTS)
    for name, cluster in found["layouts"].items():
        # Five sites are nothing to share out, unless there is no time for anything.
        assert cluster["workers"] in ((1, 2) if deadline == "1s" else (1,))
        assert cluster["meets_deadline"] is {None: None, "15m": True, "1s": False}[deadline]
        assert cluster["usd_wcu"] == outcome.json["plan"]["layouts"][name]["usd"]
        assert 0 < cluster["usd_fargate_spot"] < cluster["usd_fargate_on_demand"] < 0.01
    told = run_cli(*words)
    assert found["rule"] in told.out
    assert ("The deadline is too short for packed+solution" in told.out) is (deadline == "1s")


def test_a_deadline_is_for_a_cluster_on_aws(data_dir: Path, run_cli: RunCli) -> None:
    words = ["plan", data_dir / "custom_ids.hdf5", "--target", "local"]
    assert run_cli(*words, "--json").json["plan"]["fargate"] is None
    assert "add --target aws" in run_cli(*words, "--deadline", "10m").error


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_cannot_be_stored_has_no_plan(flags: list[str], data_dir: Path, run_cli: RunCli) -> None:
    outcome = run_cli("plan", data_dir / "preclassical.hdf5", *flags)
    assert "makes no hazard curves" in outcome.error
    if flags:
        assert outcome.json["plan"] is None


def test_what_cannot_be_read_gets_the_line_alone(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "text.hdf5").write_text("no datastore")
    outcome = run_cli("plan", tmp_path / "text.hdf5")
    assert "is neither an HDF5 file nor a zip archive" in outcome.error
    assert outcome.out == ""
