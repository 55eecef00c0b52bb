"""The command line on a real database: the whole journey, and everything that can be wrong with the store."""

from __future__ import annotations

import csv
import io
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import orjson
import pytest

from hazard_store import storing
from hazard_store.cli import get_hazard, store_hazard
from hazard_store.errors import StorageError
from hazard_store.jobs import StoreJob
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import Ledger
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.oq import open_calculation
from hazard_store.settings import Settings
from tests.unit.cli.running import RunCli, run_cli_with

CURVE_KEYS = {"haz_sol_id", "site", "lat", "lon", "vs30", "imt", "levels", "poes"}
TOOK = re.compile(r"took \d+\.\d\d secs")


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    return run_cli_with(capsys)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "CHUNK_RETRY_DELAYS_SECS", (0.01,))


@pytest.fixture
def custom(data_dir: Path) -> Path:
    """Five sites with codes of their own, 5 statistics, 12 realisations, 4 IMTs of 8 levels."""
    return data_dir / "custom_ids.hdf5"


@pytest.fixture
def stored(tables: Settings, custom: Path, run_cli: RunCli) -> str:
    assert run_cli("store", custom, "--id", "NZ-1", "--cluster", "none").code == 0
    return "NZ-1"


def test_tables_are_made_listed_and_dropped(stage: str, run_cli: RunCli) -> None:
    made = run_cli("tables", "create")
    assert f"HazardStoreMeta-{stage}" in made.out.split()
    assert made.err == f"made 11 tables of stage {stage}\n"
    assert run_cli("tables", "create").out == ""
    listed = run_cli("tables", "list", "--json").json["tables"]
    assert {table["status"] for table in listed} == {"ACTIVE"}
    assert "ACTIVE" in run_cli("tables", "list").out
    assert len(run_cli("tables", "drop", "--yes").out.split()) == 11
    assert {table["status"] for table in run_cli("tables", "list", "--json").json["tables"]} == {"missing"}
    assert run_cli("tables", "drop").code == 0


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_nothing_is_dropped_or_deleted_unless_it_is_confirmed(
    answer: str, stored: str, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (("tables", "drop"), ("delete", stored)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert "not confirmed, nothing was removed" in run_cli(*command).error
    assert run_cli("get", stored, "--site", "WLG").code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run_cli("delete", stored).code == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_whole_journey(layout: str, tables: Settings, custom: Path, run_cli: RunCli, tmp_path: Path) -> None:
    encoding, partition = layout.split("+")
    flags = ["--encoding", encoding, "--partition", partition]
    document = run_cli("store", custom, "--id", "NZ-1", "--cluster", "none", *flags, "--json").json
    assert (document["haz_sol_id"], document["layout"], document["complete"]) == ("NZ-1", layout, True)
    assert (document["chunks"], document["skipped"], document["failed"]) == (2, 0, [])
    assert [document["parts"][part]["items"] for part in ("meta", "stats", "realisations")] == [1, 25, 60]

    again = run_cli("store", custom, "--id", "NZ-1", "--cluster", "none", *flags)
    assert (again.code, again.out) == (0, "")
    assert "is complete, 2 chunks stored before" in again.err

    (listed,) = run_cli("status", "--json").json["calculations"]
    assert (listed["haz_sol_id"], listed["layout"], listed["status"]) == ("NZ-1", layout, "complete")
    (standing,) = run_cli("status", "NZ-1", "--json").json["calculations"]
    assert standing["chunks"] == {"total": 3, "done": 3, "failed": 0, "running": 0, "missing": 0}
    assert standing["mend"] is None
    assert "nothing to do" in run_cli("rerun", "NZ-1").err

    with open_calculation(custom) as calculation:
        poes = calculation.read("stats", 0, 5)
        imts, aggs, codes = list(calculation.imtls), calculation.aggs, calculation.sites.codes
    lines = run_cli("get", "NZ-1", "--json", *flags).out.splitlines()
    assert len(lines) == 5 * (5 + 12) * 4
    for curve in map(orjson.loads, lines):
        assert set(curve) == CURVE_KEYS | ({"agg"} if "agg" in curve else {"rlz"})
        if "agg" in curve:
            expected = poes[codes.index(curve["site"]), aggs.index(curve["agg"]), imts.index(curve["imt"])]
            assert np.array(curve["poes"], np.float32).tobytes() == expected.tobytes()

    assert run_cli("meta", "NZ-1", "--json").json["complete"] is True
    assert run_cli("plot", "NZ-1", "--site", "WLG", "-o", tmp_path / "wlg.svg").code == 0
    assert (tmp_path / "wlg.svg").read_text().startswith("<?xml")
    verified = run_cli("verify", custom, "--id", "NZ-1", "--json")
    assert (verified.code, verified.json["ok"], verified.json["checked_items"]) == (0, True, 85)
    told = run_cli("verify", "--id", "NZ-1", "--json").json
    assert (told["mode"], told["ok"], told["checked_items"]) == ("digest", True, 85)
    assert run_cli("verify", "--id", "NZ-1", "--mode", "scientific").code == 0
    told = run_cli("verify", custom, "--id", "NZ-1", "--mode", "sample", "--curves", 7, "--seed", 3, "--json").json
    assert (told["ok"], told["checked_items"], told["seed"]) == (True, 7, 3)
    replaced = run_cli("store", custom, "--id", "NZ-1", "--cluster", "none", *flags, "--part", "stats", "--replace")
    assert (replaced.code, "is complete" in replaced.err) == (0, True)
    changed = run_cli(
        "store", custom, "--id", "NZ-1", "--cluster", "none", *flags, "--sites", "normalised", "--replace"
    )
    assert "85 items of an earlier content removed" in changed.err
    assert run_cli("verify", custom, "--id", "NZ-1").code == 0

    assert run_cli("delete", "NZ-1", "--yes").code == 0
    assert "nothing is stored under 'NZ-1'" in run_cli("get", "NZ-1").error
    assert run_cli("status", "--json").json == {"calculations": []}


def test_get_prints_csv_where_nobody_looks_and_tables_on_demand(stored: str, run_cli: RunCli) -> None:
    wanted = ["get", stored, "--near", "-41.3,174.8", "--imt", "PGA", "--imt", "SA(0.2)", "--agg", "mean", "--rlz", "3"]
    rows = list(csv.DictReader(io.StringIO(run_cli(*wanted).out)))
    assert list(rows[0]) == ["haz_sol_id", "site", "lat", "lon", "vs30", "agg", "rlz", "imt", "level", "poe"]
    assert len(rows) == 2 * 2 * 8
    assert {(row["site"], row["agg"], row["rlz"]) for row in rows} == {("WLG", "mean", ""), ("WLG", "", "3")}
    curves = [orjson.loads(line) for line in run_cli(*wanted, "--json").out.splitlines()]
    assert [float(row["poe"]) for row in rows] == [poe for curve in curves for poe in curve["poes"]]
    assert [float(row["level"]) for row in rows] == [level for curve in curves for level in curve["levels"]]
    table = run_cli(*wanted, "--table").out
    assert "NZ-1 WLG (lat -41.290, lon 174.780, vs30 250 m/s): PGA, poe in 50 years" in table
    assert re.search(r"level +mean +rlz 3", table)


def test_readable_forms(stored: str, custom: Path, run_cli: RunCli) -> None:
    assert f"{stored}  packed+solution  complete" in run_cli("status").out
    standing = run_cli("status", stored).out
    assert re.search(r"realisations +1 +1 +0 +0 +0 +60 ", standing)
    assert "mend" not in standing
    assert re.search(r"complete +yes", run_cli("meta", stored).out)
    assert "all the same" in run_cli("verify", custom, "--id", stored).out


def test_a_plot_is_of_one_site(stored: str, run_cli: RunCli, tmp_path: Path) -> None:
    target = tmp_path / "curves.png"
    assert "has 5 sites: choose one" in run_cli("plot", stored, "-o", target).error
    assert "give one --site" in run_cli("plot", stored, "--site", "WLG", "--site", "MRO", "-o", target).error
    assert "there is no folder" in run_cli("plot", stored, "--site", "WLG", "-o", tmp_path / "no" / "c.png").error
    assert not target.exists()
    assert run_cli("plot", stored, "--near", "-41.3,174.8", "--imt", "PGA", "-o", target).code == 0
    assert target.read_bytes().startswith(b"\x89PNG")


# Of one stored calculation, NZ-1: calls that mean nothing, and words of the line that says so.
BAD_INPUT = [
    ("get NZ-1 --imt pga", "no IMT 'pga': it has PGA"),
    ("get NZ-1 --agg median", "no statistic 'median'"),
    ("get NZ-1 --rlz 12", "it has 0 to 11"),
    ("get NZ-1 --site wlg", "no site 'wlg'"),
    ("get NZ-1 --site WLG --near 0,0", "not both"),
    ("get NZ-1 --encoding list", "nothing is stored under 'NZ-1' in list+solution"),
    ("get NZ-2", "nothing is stored under 'NZ-2'"),
    ("meta NZ-2", "nothing is stored under 'NZ-2'"),
    ("plot NZ-2 -o x.png", "nothing is stored under 'NZ-2'"),
    ("status NZ-2", "nothing is stored under 'NZ-2'"),
    ("rerun NZ-2", "nothing is stored under 'NZ-2'"),
    ("rerun NZ-1 --chunk stats:1", "unknown chunk 'stats:1'"),
    ("rerun NZ-1 --chunk stats:00000-99999 --chunk realisations:00007-00008", "no chunk"),
    ("rerun NZ-1 --partition location", "is not stored in that layout, but in packed+solution"),
    ("delete NZ-2 --yes", "nothing is stored under 'NZ-2'"),
    ("verify {custom} --id NZ-2", "nothing is stored under 'NZ-2'"),
    ("verify --id NZ-1 --mode full", "compares with the file"),
    ("verify {custom} --id NZ-1 --seed 1", "--curves and --seed are for --mode sample"),
    ("store {data}/statistics_only.hdf5 --id NZ-3 --cluster none --part realisations", "holds no realisations"),
    ("store {data}/preclassical.hdf5 --id NZ-3 --cluster none", "makes no hazard curves"),
    ("store {custom} {data}/preclassical.hdf5 --id NZ-{{stem}} --cluster none", "makes no hazard curves"),
]


def test_bad_input_gets_one_line_and_changes_nothing(
    stored: str, custom: Path, data_dir: Path, tables: Settings, run_cli: RunCli
) -> None:
    before = Ledger(tables).calculations()
    for arguments, message in BAD_INPUT:
        words = [word.format(custom=custom, data=data_dir) for word in arguments.split(" ")]
        assert message in run_cli(*words).error
    assert Ledger(tables).calculations() == before


@pytest.fixture
def one_broken_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second chunk of realisations cannot be written."""
    monkeypatch.setattr("hazard_store.planning.ITEMS_PER_CHUNK", 24)
    store_chunk = storing.store_chunk

    def broken(job: StoreJob, chunk: Any, *more: Any) -> Any:
        if chunk.id == "realisations:00002-00004":
            raise StorageError("the database refused it")
        return store_chunk(job, chunk, *more)

    monkeypatch.setattr(storing, "store_chunk", broken)


def test_a_failed_chunk_is_named_and_mended(
    one_broken_chunk: None, tables: Settings, custom: Path, run_cli: RunCli
) -> None:
    outcome = run_cli("store", custom, "--id", "NZ-1", "--cluster", "none", "--encoding", "list", "--json")
    assert outcome.code == 1
    failed = {"chunk": "realisations:00002-00004", "error": "the database refused it"}
    assert (outcome.json["complete"], outcome.json["failed"]) == (False, [failed])
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: 1 of 6 chunks of NZ-1 failed: realisations:00002-00004 ")
    command = re.search("`hazard-store (.*)`", last)
    assert command is not None

    (standing,) = run_cli("status", "NZ-1", "--json").json["calculations"]
    assert (standing["status"], standing["complete"]) == ("failed", False)
    assert standing["missing"] == ["realisations:00002-00004"]
    assert "mend it with: hazard-store rerun NZ-1" in run_cli("status", "NZ-1").out
    read = run_cli("get", "NZ-1", "--imt", "PGA", "--rlz", "0")
    assert (read.code, len(read.out.splitlines())) == (0, 1 + 3 * 8)
    assert read.err == "warning: NZ-1 is not complete: `hazard-store status NZ-1` tells what is missing\n"

    assert run_cli(*command[1].split()).code == 1


def test_rerun_stores_what_is_left_or_what_is_named(
    tables: Settings, custom: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hazard_store.planning.ITEMS_PER_CHUNK", 24)
    with monkeypatch.context() as patched:
        broken = storing.store_chunk

        def refuse(job: StoreJob, chunk: Any, *more: Any) -> Any:
            if chunk.part == "realisations" and chunk.start > 0:
                raise StorageError("the database refused it")
            return broken(job, chunk, *more)

        patched.setattr(storing, "store_chunk", refuse)
        assert run_cli("store", custom, "--id", "NZ-1", "--cluster", "none", "--sites", "normalised").code == 1
    mended = run_cli("rerun", "NZ-1", "--cluster", "none", "--json")
    assert (mended.code, mended.json["complete"]) == (0, True)
    assert mended.json["parts"]["realisations"]["items"] == 36
    assert run_cli("get", "NZ-1", "--site", "[-41.290~174.780]", "--rlz", "11", "--imt", "PGA").code == 0
    named = run_cli("rerun", "NZ-1", "--chunk", "stats", "--cluster", "none", "--json").json
    assert (named["parts"]["stats"]["items"], named["complete"]) == (25, True)
    assert "realisations" not in named["parts"]
    assert run_cli("verify", custom, "--id", "NZ-1").code == 0


def test_a_rerun_of_another_file_is_refused(tables: Settings, custom: Path, run_cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "calc_1.hdf5"
    shutil.copy(custom, path)
    assert run_cli("store", path, "--id", "NZ-1", "--cluster", "none", "--part", "stats").code == 0
    with h5py.File(path, "r+") as file:
        file["hcurves-stats"][0, 0, 0, 0] = 0.5
    error = run_cli("rerun", "NZ-1", "--chunk", "stats", "--cluster", "none").error
    assert "is not the one that NZ-1 was stored from" in error
    verified = run_cli("verify", path, "--id", "NZ-1")
    assert (verified.code, verified.err) == (1, "")
    assert "1 values differ" in verified.out


def test_an_id_in_two_layouts(stored: str, custom: Path, run_cli: RunCli) -> None:
    assert run_cli("store", custom, "--id", stored, "--cluster", "none", "--encoding", "list").code == 0
    both = run_cli("status", stored, "--json").json["calculations"]
    assert [one["layout"] for one in both] == ["list+solution", "packed+solution"]
    assert "choose with --encoding and --partition" in run_cli("rerun", stored, "--chunk", "stats").error
    assert run_cli("rerun", stored, "--chunk", "stats", "--encoding", "list", "--cluster", "none").code == 0
    assert run_cli("delete", stored, "--encoding", "list", "--yes").code == 0
    (left,) = run_cli("status", stored, "--json").json["calculations"]
    assert left["layout"] == "packed+solution"


def test_several_files_get_ids_from_their_names(tables: Settings, data_dir: Path, run_cli: RunCli) -> None:
    sources = [data_dir / "statistics_only.hdf5", data_dir / "realisations_only.hdf5"]
    documents = run_cli("store", *sources, "--id", "NZ-{stem}", "--cluster", "none", "--json").json
    assert [(one["haz_sol_id"], one["complete"]) for one in documents] == [
        ("NZ-statistics_only", True),
        ("NZ-realisations_only", True),
    ]


def test_missing_tables_are_named_with_the_command_that_makes_them(stage: str, custom: Path, run_cli: RunCli) -> None:
    for command in (
        ("store", custom, "--id", "A", "--cluster", "none"),
        ("store", custom, "--id", "A"),
        ("status",),
        ("status", "A"),
        ("rerun", "A"),
        ("meta", "A"),
        ("get", "A"),
        ("plot", "A", "-o", "a.png"),
        ("verify", custom, "--id", "A"),
    ):
        error = run_cli(*command).error
        assert f"-{stage} does not exist" in error
        assert "`hazard-store tables create`" in error
    assert "`hazard-store tables create`" in run_cli(custom, "A", entry=store_hazard.main).error
    assert "`hazard-store tables create`" in run_cli("A", entry=get_hazard.main).error


def test_missing_credentials_are_told(
    tables: Settings, custom: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # A region of its own, as clients of this process with credentials are kept by settings.
    monkeypatch.setenv("HAZARD_STORE_REGION", "eu-west-1")
    for command in (("status",), ("store", custom, "--id", "A", "--cluster", "none"), ("tables", "create")):
        assert "AWS credentials are missing" in run_cli(*command).error


def test_an_endpoint_where_nothing_listens_is_told_in_time(
    stage: str, custom: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HAZARD_STORE_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        started = time.monotonic()
        for command in (("get", "A"), ("store", custom, "--id", "A", "--cluster", "none")):
            assert "no answer from http://127.0.0.1:" in run_cli(*command).error
        assert time.monotonic() - started < 60


def test_a_wrong_endpoint_is_told(stage: str, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAZARD_STORE_ENDPOINT", "localhost:8000")
    assert "must be a URL" in run_cli("status").error


def took(out: str) -> list[str]:
    return TOOK.sub("took S secs", out).splitlines()


def test_store_hazard_says_what_the_old_script_said(stage: str, custom: Path, run_cli: RunCli) -> None:
    outcome = run_cli(custom, "V2-1", "-c", "-v", "-n", entry=store_hazard.main)
    assert (outcome.code, outcome.err) == (0, "")
    lines = took(outcome.out)
    assert sum(line.startswith("Created table ") for line in lines) == 11
    assert lines[11:] == [
        "Begin saving meta",
        "Done saving meta, took S secs",
        "Begin saving stats (V2)",
        "Done saving stats (V2), took S secs",
        "Begin saving realisations (V2)",
        "Done saving realisations (V2), took S secs",
    ]
    (standing,) = run_cli("status", "V2-1", "--json").json["calculations"]
    assert (standing["layout"], standing["complete"]) == ("list+solution", True)


def test_store_hazard_skips_what_is_not_wanted_or_not_there(
    tables: Settings, custom: Path, data_dir: Path, run_cli: RunCli
) -> None:
    without = run_cli(custom, "V2-1", "--skip-rlzs", "--verbose", "--force-normal-codes", entry=store_hazard.main)
    assert took(without.out)[-1] == "Skipping realisations (V2): --skip-rlzs"
    assert run_cli("get", "V2-1", "--site", "[-41.290~174.780]").code == 0
    lacking = run_cli(data_dir / "statistics_only.hdf5", "V2-2", "-v", entry=store_hazard.main)
    assert took(lacking.out)[-1] == "Skipping realisations (V2): the file holds none"
    silent = run_cli(data_dir / "realisations_only.hdf5", "V2-3", entry=store_hazard.main)
    assert (silent.code, silent.out) == (0, "")


def test_store_hazard_takes_the_number_of_a_calculation(
    tables: Settings, custom: Path, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OQ_DATADIR", str(tmp_path))
    shutil.copy(custom, tmp_path / "calc_12.hdf5")
    assert run_cli("12", "V2-1", "-k", entry=store_hazard.main).code == 0
    assert "calc_13.hdf5" in run_cli("13", "V2-1", entry=store_hazard.main).error


def test_store_hazard_names_failed_chunks(
    one_broken_chunk: None, tables: Settings, custom: Path, run_cli: RunCli
) -> None:
    outcome = run_cli(custom, "V2-1", "-v", entry=store_hazard.main)
    assert outcome.code == 1
    assert took(outcome.out)[-1] == "Failed saving realisations (V2), took S secs"
    assert "realisations:00002-00004" in outcome.err
    assert "`hazard-store rerun V2-1 --encoding list --partition solution --cluster none`" in outcome.err


@pytest.fixture
def two_solutions(tables: Settings, custom: Path, data_dir: Path, run_cli: RunCli) -> str:
    assert run_cli(custom, "V2-1", entry=store_hazard.main).code == 0
    assert run_cli(data_dir / "statistics_only.hdf5", "V2-2", entry=store_hazard.main).code == 0
    return "V2-1,V2-2"


def test_get_hazard_prints_a_line_a_curve(two_solutions: str, run_cli: RunCli) -> None:
    asked = ["--locs", "WLG,MRO", "--imts", "PGA,SA(0.2)", "--aggs", "mean,0.1", "--rlzs", "7"]
    lines = run_cli("V2-1", *asked, entry=get_hazard.main).out.splitlines()
    assert lines[:4] == ["loc agg-or-rlz imt", "WLG mean PGA", "WLG mean SA(0.2)", "WLG 0.1 PGA"]
    assert "MRO 00007 SA(0.2)" in lines
    assert lines[-2] == "12 curves"
    assert re.fullmatch(r"Took \d+\.\d\d secs", lines[-1])
    verbose = run_cli("V2-1", *asked, "-v", "-n", entry=get_hazard.main).out.splitlines()
    assert verbose[0] == "loc agg-or-rlz imt levels poes"
    assert [len(verbose[1].split()[i].split(",")) for i in (3, 4)] == [8, 8]
    several = run_cli(two_solutions, "--imts", "PGA", "--aggs", "mean", entry=get_hazard.main).out
    assert "V2-1 WLG mean PGA" in several
    assert "\nV2-2 " in several


def test_get_hazard_lists_solutions_by_vs30(two_solutions: str, run_cli: RunCli) -> None:
    both = run_cli(two_solutions, "--vs30s", "0,400", entry=get_hazard.main).out.splitlines()
    assert both[0] == "vs30 haz_sol_id locs"
    assert both[1] == "0 V2-1 WLG,MRO,PMR,BHE,rock_1"
    assert both[2].startswith("400 V2-2 [-41.290~174.780],")
    assert both[3] == "2 solutions"
    assert "1 solution\n" in run_cli(two_solutions, "--vs30s", "400", entry=get_hazard.main).out


def test_get_hazard_answers_bad_input_with_one_line(two_solutions: str, run_cli: RunCli) -> None:
    for arguments, message in (
        ("V2-9", "nothing is stored under 'V2-9'"),
        ("V2-9 --vs30s 400", "nothing is stored under 'V2-9'"),
        ("V2-1 --imts PGV", "no IMT 'PGV'"),
        ("V2-1 --rlzs mean", "--rlzs takes ordinals"),
        (",", "holds no id"),
    ):
        assert message in run_cli(*arguments.split(" "), entry=get_hazard.main).error


@pytest.fixture
def slow_store(tables: Settings, custom: Path) -> Iterator[subprocess.Popen[str]]:
    """A store that takes long, as it may write only 10 units a second."""
    command = [sys.executable, "-m", "hazard_store", "store", str(custom), "--id", "NZ-1", "--cluster", "none"]
    with subprocess.Popen([*command, "--max-wcu", "10"], stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(180, process.kill)
        killer.start()
        yield process
        killer.cancel()
        process.kill()


def test_ctrl_c_ends_a_store_in_order_and_the_same_command_goes_on(
    slow_store: subprocess.Popen[str], tables: Settings, custom: Path, run_cli: RunCli
) -> None:
    assert slow_store.stderr is not None
    assert slow_store.stderr.readline().startswith("storing ")
    ledger = Ledger(tables)
    while "running" not in {record.status for record in ledger.chunks("NZ-1", LAYOUTS["packed+solution"]).values()}:
        assert slow_store.poll() is None
        time.sleep(0.05)
    slow_store.send_signal(signal.SIGINT)
    rest = slow_store.stderr.read()
    assert slow_store.wait(120) == 130
    assert rest.splitlines()[-1].startswith("error: interrupted: what is stored stays")
    assert "Traceback" not in rest
    (standing,) = run_cli("status", "NZ-1", "--json").json["calculations"]
    assert not standing["complete"]
    assert run_cli("store", custom, "--id", "NZ-1", "--cluster", "none").code == 0
    assert run_cli("verify", custom, "--id", "NZ-1").code == 0


@pytest.mark.timeout(180)
def test_a_store_through_the_flow_tells_the_same(
    prefect_server: PrefectServer, tables: Settings, custom: Path, data_dir: Path
) -> None:
    command = [sys.executable, "-m", "hazard_store", "store"]
    run = subprocess.run(
        [*command, str(custom), "--id", "NZ-1", "--workers", "1", "--json"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    document = orjson.loads(run.stdout)
    assert (document["complete"], document["chunks"]) == (True, 2)
    lines = run.stderr.splitlines()
    assert lines[0].startswith("storing ")
    assert lines[-1].startswith("stored NZ-1 (packed+solution), complete: 85 items")
    # Neither Prefect nor Dask says anything between ours.
    assert all(re.match(r"storing |stored |(stats |realisations )?(ended: )?\d+ of 85 items, ", line) for line in lines)

    refused = subprocess.run(
        [*command, str(custom), "--id", "NZ-2", "--cluster", "tcp://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: no Dask scheduler answers at tcp://127.0.0.1:9")
    assert refused.stderr.count("\n") == 1
