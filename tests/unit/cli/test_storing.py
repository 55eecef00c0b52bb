"""``store`` before it writes, how a run shows, and where it runs."""

from __future__ import annotations

import io
import sys
import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from hazard_store.cli import runner, storing
from hazard_store.cli.progress import CountLines, ProgressBar, ProgressLines, ScriptLines, choose_progress
from hazard_store.cli.runner import check_cluster, load_runner, run_store
from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.jobs import ChunkOutcome, StoreJob, StorePlan, StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import CalculationRecord
from hazard_store.names import ChunkId, HazSolId, Part
from hazard_store.planning import Chunk
from hazard_store.settings import Settings
from hazard_store.sources import SourceStamp
from hazard_store.storage.metrics import Metrics
from tests.unit.cli.running import RunCli

STATS = Chunk("stats", 0, 10, 5)
RLZS = (Chunk("realisations", 0, 5, 20), Chunk("realisations", 5, 10, 20))


def plan_of(*todo: Chunk, meta_todo: bool = True) -> StorePlan:
    job = StoreJob(
        "calc.hdf5", SourceStamp(1, 1), "f", HazSolId("A"), LAYOUTS["packed+solution"], ("meta",), Settings()
    )
    record = CalculationRecord(HazSolId("A"), "packed+solution", "calc.hdf5", "f", "f/auto", 10, {}, (), "storing")
    return StorePlan(job, record, (STATS, *RLZS), todo, meta_todo, ())


def ended(chunk: Chunk | None, error: str | None = None) -> ChunkOutcome:
    if chunk is None:
        return ChunkOutcome(ChunkId("meta"), "meta", Metrics(items=1), error)
    done = Metrics() if error else Metrics(items=chunk.items, wcu=2.0 * chunk.items)
    return ChunkOutcome(chunk.id, chunk.part, done, error)


class Clock:
    """Goes on by a fixed step with each look at it."""

    def __init__(self, step_secs: float) -> None:
        self.now, self.step_secs = 0.0, step_secs

    def __call__(self) -> float:
        self.now += self.step_secs
        return self.now


def test_a_log_has_a_line_a_part_and_one_for_a_failed_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLines(Clock(0.1))
    progress.begin(plan_of(STATS, *RLZS))
    for outcome in (ended(None), ended(STATS), ended(RLZS[0], "gone"), ended(RLZS[1])):
        progress.advance(outcome)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "storing calc.hdf5 as A (packed+solution): 3 chunks with 250 items"
    assert lines[1].startswith("stats ended: 50 of 250 items, ")
    assert lines[2] == "realisations:00000-00005 failed: gone"
    assert lines[3].startswith("realisations ended: 150 of 250 items, ")
    assert lines[3].endswith("300 WCU, 1 chunk failed")
    assert len(lines) == 4


def test_a_log_has_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLines(Clock(1.0))
    progress.begin(plan_of(*RLZS, meta_todo=False))
    progress.advance(ended(RLZS[0]))
    assert "100 of 200 items" not in capsys.readouterr().err
    late = ProgressLines(Clock(6.0))
    late.begin(plan_of(*RLZS, meta_todo=False))
    late.advance(ended(RLZS[0]))
    assert "100 of 200 items" in capsys.readouterr().err
    assert " left" in late.describe()


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with choose_progress() as progress:
        assert isinstance(progress, ProgressBar)
        progress.begin(plan_of(STATS, *RLZS))
        progress.advance(ended(STATS))
        progress.advance(ended(RLZS[0], "[gone]"))
    assert "50 of 250 items" in terminal.getvalue()
    assert "realisations:00000-00005 failed: [gone]" in terminal.getvalue()


def test_the_words_of_the_old_script(capsys: pytest.CaptureFixture[str]) -> None:
    skipped: dict[Part, str] = {"realisations": "--skip-rlzs"}
    progress = ScriptLines(skipped, Clock(0.56))
    progress.begin(plan_of(STATS))
    progress.advance(ended(None))
    progress.advance(ended(STATS, "gone"))
    assert capsys.readouterr().out.splitlines() == [
        "Begin saving meta",
        "Done saving meta, took 0.56 secs",
        "Begin saving stats (V2)",
        "Failed saving stats (V2), took 0.56 secs",
        "Skipping realisations (V2): --skip-rlzs",
    ]


def test_the_words_of_the_old_script_when_all_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ScriptLines({}, Clock(0.1))
    progress.begin(plan_of(meta_todo=False))
    assert capsys.readouterr().out.splitlines() == [
        "Skipping meta: stored before",
        "Skipping stats (V2): stored before",
        "Skipping realisations (V2): stored before",
    ]


def test_a_count_is_told_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    counting = CountLines("deleted", Clock(3.0))
    for done in (1, 2, 3):
        counting(done, 0)
    assert capsys.readouterr().err == "2 items deleted\n"


def test_ids_come_from_the_file_names() -> None:
    assert storing.ids_of(("x/calc_1.hdf5", "y/calc_2.zip"), "NZ-{stem}") == ["NZ-calc_1", "NZ-calc_2"]


@pytest.mark.parametrize(
    ("sources", "haz_sol_id", "message"),
    [
        (("a.hdf5", "b.hdf5"), "A", "put {stem} into it"),
        (("x/a.hdf5", "y/a.hdf5"), "A-{stem}", "x/a.hdf5 and y/a.hdf5 would both be stored as 'A-a'"),
        (("a#1.hdf5",), "{stem}", "'a#1' cannot be used"),
    ],
)
def test_ids_that_would_overwrite_each_other_are_refused(
    sources: tuple[str, ...], haz_sol_id: str, message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        storing.ids_of(sources, haz_sol_id)
    assert message in str(refused.value)


@pytest.mark.parametrize("cluster", ["local", "none", "fargate", "tcp://host:8786", "tls://host:8786"])
def test_known_clusters(cluster: str) -> None:
    check_cluster(cluster)


@pytest.mark.parametrize("value", ["0", "nan", "some"])
def test_a_budget_is_a_number_above_zero(value: str, run_cli: RunCli) -> None:
    assert "above 0" in run_cli("store", "calc.hdf5", "--id", "A", "--max-wcu", value).error


@pytest.mark.parametrize(
    "found", [[], [EntryPoint("prefect", "no_such_module_of_ours:run", runner.RUNNER_GROUP)]], ids=["absent", "broken"]
)
def test_without_prefect_the_line_says_how_to_have_it(found: list[EntryPoint], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "entry_points", lambda **_: EntryPoints(found))
    monkeypatch.setattr("os.environ", {})
    with pytest.raises(UsageError, match=r"pip install 'hazard-store\[prefect\]'`, or use --cluster none"):
        load_runner(runner.STORE)


@pytest.mark.parametrize("name", [runner.STORE, runner.PREPARE, runner.NOTIFY])
def test_what_needs_prefect_is_named_by_the_project(name: str) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert name in project["entry-points"][runner.RUNNER_GROUP]


def test_a_server_that_does_not_answer_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> StoreReport:
        raise RuntimeError("Failed to reach API at http://nowhere/api/")

    monkeypatch.setattr(runner, "load_runner", {runner.STORE: run, runner.PREPARE: str}.__getitem__)
    with pytest.raises(HazardStoreError, match="is PREFECT_API_URL right"):
        run_store(StoreRequest("calc.hdf5", "A"), Settings(), "local", None, ProgressLines())


@pytest.mark.parametrize(("workers", "in_settings", "connections"), [(8, None, 8), (None, 2, 2), (99, 2, 32)])
def test_workers_of_this_process_are_requests_under_way(
    workers: int | None, in_settings: int | None, connections: int
) -> None:
    request = runner.with_connections(StoreRequest("calc.hdf5", "A"), Settings(workers=in_settings), workers)
    assert request.connections == connections


def report_of(*outcomes: ChunkOutcome, complete: bool) -> StoreReport:
    return StoreReport(HazSolId("A b"), "list+solution", "r", complete, 3, 1, outcomes, 2.0, ("look",))


def test_the_json_of_a_run() -> None:
    document = storing.report_to_json(report_of(ended(None), ended(STATS), ended(RLZS[0], "gone"), complete=False))
    assert (document["complete"], document["chunks"], document["skipped"]) == (False, 3, 1)
    assert document["failed"] == [{"chunk": "realisations:00000-00005", "error": "gone"}]
    assert set(document["parts"]) == {"meta", "stats", "realisations"}
    assert set(document["parts"]["stats"]) == {
        "items",
        "item_bytes",
        "wcu",
        "seconds",
        "items_per_sec",
        "requests",
        "retries",
        "throttles",
        "source_bytes",
        "latency_p50_secs",
        "latency_p95_secs",
    }
    assert document["parts"]["stats"]["items"] == 50
    assert document["warnings"] == ["look"]


def test_a_failure_names_the_chunks_and_the_command_that_mends_it() -> None:
    line = storing.failure_line(report_of(ended(STATS), ended(RLZS[1], "gone"), complete=False), "none")
    assert "1 of 2 chunks of A b failed: realisations:00005-00010 (gone)" in line
    assert "`hazard-store rerun 'A b' --encoding list --partition solution --cluster none`" in line


@pytest.mark.parametrize(("begun", "code"), [(False, 2), (True, 1)])
def test_what_goes_wrong_after_writing_began_is_no_bad_input(
    begun: bool, code: int, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    def run(request: Any, settings: Any, cluster: Any, workers: Any, progress: Any) -> StoreReport:
        if begun:
            progress.begin(plan_of(STATS))
        raise HazardStoreError("the database went away")

    monkeypatch.setattr(storing, "run_store", run)
    monkeypatch.setattr(storing, "check_requests", lambda *_: None)
    outcome = run_cli("store", data_dir / "custom_ids.hdf5", "--id", "A", "--cluster", "none")
    assert outcome.code == code
    assert outcome.err.splitlines()[-1].startswith("error: the database went away")
    assert ("run the same command again" in outcome.err) == begun


@pytest.mark.parametrize(("ending", "code"), [("refused", 1), ("broken off", 1), ("interrupted", 130)])
def test_what_was_stored_before_one_that_was_not_is_told(
    ending: str, code: int, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(request: Any, settings: Any, cluster: Any, workers: Any, progress: Any) -> StoreReport:
        if request.source == "a.hdf5":
            return report_of(ended(STATS), complete=True)
        assert request.source == "b.hdf5"
        if ending != "refused":
            progress.begin(plan_of(STATS))
        raise KeyboardInterrupt if ending == "interrupted" else HazardStoreError("b.hdf5: its curves are not finite")

    monkeypatch.setattr(storing, "run_store", run)
    monkeypatch.setattr(storing, "check_requests", lambda *_: None)
    files = ("a.hdf5", "b.hdf5", "c.hdf5")
    outcome = run_cli("store", *files, "--id", "A-{stem}", "--cluster", "none", "--json")
    assert outcome.code == code
    assert [document["complete"] for document in outcome.json] == [True]
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: stopped after 1 of 3 calculations: b.hdf5") is (ending == "refused"), last


def test_ctrl_c_in_a_run_says_that_it_can_go_on(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    def run(request: Any, settings: Any, cluster: Any, workers: Any, progress: Any) -> StoreReport:
        progress.begin(plan_of(STATS))
        raise KeyboardInterrupt

    monkeypatch.setattr(storing, "run_store", run)
    monkeypatch.setattr(storing, "check_requests", lambda *_: None)
    outcome = run_cli("store", data_dir / "custom_ids.hdf5", "--id", "A", "--cluster", "none")
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1].startswith("error: interrupted: what is stored stays")


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Failed to reach API at http://127.0.0.1:8000/api/", KeyboardInterrupt()),
        ("Error calling function `_ser_model`: KeyboardInterrupt: ", None),
    ],
)
def test_ctrl_c_behind_another_error_is_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, message: str, cause: BaseException | None
) -> None:
    def run(*_: Any) -> StoreReport:
        raise RuntimeError(message) from cause

    monkeypatch.setattr(runner, "load_runner", {runner.STORE: run, runner.PREPARE: str}.__getitem__)
    with pytest.raises(KeyboardInterrupt):
        run_store(StoreRequest("calc.hdf5", "A"), Settings(), "local", None, ProgressLines())
