"""Batches: which files are listed, what they are called, what becomes of each."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from hazard_store.batch import examination
from hazard_store.batch.discovery import DEFAULT_PATTERNS, uri_of
from hazard_store.batch.examination import NAMING, Examination, ReaderOptions, examine
from hazard_store.batch.naming import check_template, name_files, read_manifest
from hazard_store.batch.sorting import Finding, Sorter, Wanted, counted
from hazard_store.errors import UsageError
from hazard_store.layouts import LAYOUTS
from hazard_store.ledger import CalculationRecord
from hazard_store.names import HazSolId
from hazard_store.sources import Listing, SourceFile, SourceStamp, folder_of
from hazard_store.sources.prefixes import PREFIXES_VARIABLE

WANTED = Wanted(LAYOUTS["packed+solution"], ReaderOptions())
FILE = SourceFile("/data/calc_1.hdf5", "calc_1.hdf5", SourceStamp(10, 20))
ID = HazSolId("calc_1")
RECORD = CalculationRecord(
    haz_sol_id=ID,
    layout="packed+solution",
    source=FILE.path,
    fingerprint="sha256:a",
    identity="sha256:a/auto",
    n_sites=1,
    curves_per_site={"stats": 1, "realisations": 2},
    parts=("meta", "stats", "realisations"),
    status="complete",
    source_size=10,
    source_mtime_ns=20,
)
READY = Examination(FILE.path, 10, 20, "ready", WANTED.options.name, fingerprint="sha256:a")


def names_in(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


def test_a_folder_is_listed_by_pattern(tmp_path: Path) -> None:
    for name in ("calc_2.hdf5", "calc_2_tmp.hdf5", ".calc_3.hdf5", "a/calc_1.zip", "a/b/calc_9.hdf5", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "loop").symlink_to(tmp_path)
    folder = folder_of(str(tmp_path))
    assert names_in(folder.listing(DEFAULT_PATTERNS)) == ["a/b/calc_9.hdf5", "a/calc_1.zip", "calc_2.hdf5"]
    assert names_in(folder.listing(["calc_*.hdf5"])) == ["a/b/calc_9.hdf5", "calc_2.hdf5"]
    assert names_in(folder.listing(["a/*.zip"])) == ["a/calc_1.zip"]
    (file,) = folder_of(str(tmp_path / "calc_2.hdf5")).listing([]).files
    status = os.stat(tmp_path / "calc_2.hdf5")
    assert (file.name, file.stamp) == ("calc_2.hdf5", SourceStamp(5, status.st_mtime_ns))


@pytest.mark.parametrize(
    "prefix",
    ["", "  ", "/", "file:///", "/no/such/folder", "s3://", "s3://bucket/oq?x=1", "https://host/oq", "//", "/tmp/.."],
)
def test_a_prefix_that_cannot_be_used_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError):
        folder_of(prefix)


def test_a_prefix_outside_the_allowed_ones_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    monkeypatch.setenv(PREFIXES_VARIABLE, f"/elsewhere, {tmp_path / 'in'}")
    assert folder_of(str(tmp_path / "in")).name == str(tmp_path / "in")
    for prefix in ("out", "in/../out", "in/link", "inn"):
        (tmp_path / "inn").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"outside the folders that may be read here \(/elsewhere, "):
            folder_of(str(tmp_path / prefix))


def test_a_folder_is_told_of_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night").mkdir()
    assert uri_of("night") == str(tmp_path / "night")
    assert uri_of("/seen/by/the/worker") == "/seen/by/the/worker"
    assert uri_of("s3://bucket/night") == "s3://bucket/night"
    for text in ("", " ", "nigth", "s3://user:word@bucket/night", "https://bucket/night?X-Amz-Signature=1f"):
        with pytest.raises(UsageError):
            uri_of(text)


def file_named(name: str) -> SourceFile:
    return SourceFile(f"/data/{name}", name, SourceStamp(1, 1))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{stem}", "calc_7"),
        ("NSHM-{folder}-{number}", "NSHM-night2-7"),
        ("{path}", "night2/calc_7"),
    ],
)
def test_an_id_is_made_from_the_name(template: str, expected: str) -> None:
    check_template(template)
    assert name_files([file_named("night2/calc_7.hdf5")], template) == {"night2/calc_7.hdf5": expected}


@pytest.mark.parametrize("template", ["{stem.__class__}", "{0}", "{}", "{name}", "{stem", "{stem!r}", "{stem:>9}"])
def test_a_template_with_other_fields_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="id template"):
        check_template(template)


def test_files_that_would_share_an_id_have_none() -> None:
    named = name_files([file_named(n) for n in ("a/calc_1.hdf5", "b/calc_1.hdf5", "c/calc 2.hdf5", "c/calc_3.hdf5")])
    assert named.pop("c/calc_3.hdf5") == "calc_3"
    assert "would be the id of a/calc_1.hdf5, b/calc_1.hdf5" in str(named["a/calc_1.hdf5"])
    assert all(isinstance(answer, UsageError) for answer in named.values())
    assert len(named) == 3


def test_a_manifest_names_the_ids(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,haz_sol_id,note\ncalc_1.hdf5,ONE,first\n")
    (tmp_path / "m.json").write_text('{"calc_1.hdf5": "ONE"}')
    for name in ("m.csv", "m.json"):
        named = name_files(
            [file_named("calc_1.hdf5"), file_named("calc_2.hdf5")],
            "{stem}",
            read_manifest(folder_of(str(tmp_path)), name),
        )
        assert named["calc_1.hdf5"] == "ONE"
        assert str(named["calc_2.hdf5"]) == "the manifest does not name it"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none.csv", None),
        ("m.csv", "calc_1.hdf5,ONE\n"),
        ("m.csv", ""),
        ("m.csv", "file,haz_sol_id\na,1\na,2\n"),
        ("m.json", "{"),
        ("m.json", '["a"]'),
        ("m.json", '{"a": 1}'),
        ("m.json", '{"a": "1", "a": "2"}'),
    ],
)
def test_a_manifest_that_means_nothing_is_refused(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="the manifest"):
        read_manifest(folder_of(str(tmp_path)), name)


def sight(record: CalculationRecord | None, examined: Examination | None, wanted: Wanted = WANTED) -> Finding | None:
    sorter = Sorter(wanted, [record] if record else [], {examined.path: examined} if examined else {})
    return sorter.at_sight(FILE, ID)


def test_what_the_ledger_has_complete_is_left_alone() -> None:
    stored = Finding(FILE, ID, "stored before")
    assert sight(RECORD, None) == stored
    # Stored from another place or before a touch: known by what it was found to be, without reading it again.
    assert sight(replace(RECORD, source="/old/calc_1.hdf5"), READY) == stored
    assert sight(replace(RECORD, source_mtime_ns=1), READY) == stored


@pytest.mark.parametrize(
    "record",
    [
        None,
        replace(RECORD, source_mtime_ns=1),
        replace(RECORD, source_size=1),
        replace(RECORD, source="/old/calc_1.hdf5"),
        replace(RECORD, status="failed"),
        replace(RECORD, status="storing"),
        replace(RECORD, sites="normalised"),
        replace(RECORD, layout="list+solution"),
        replace(RECORD, parts=("meta", "stats")),
    ],
)
def test_what_it_has_not_is_read(record: CalculationRecord | None) -> None:
    assert sight(record, None) is None


def test_another_content_under_the_id_is_stored() -> None:
    sorter = Sorter(WANTED, [RECORD], {})
    assert sorter.as_examined(FILE, ID, replace(READY, fingerprint="sha256:b")).fate == "to store"
    assert sorter.as_examined(FILE, ID, READY).fate == "stored before"


def test_what_was_refused_before_is_no_news_until_it_changes() -> None:
    refused = replace(READY, verdict="refused", fingerprint=None, reason="bad")
    finding = sight(None, refused)
    assert finding == Finding(FILE, ID, "refused", "bad", is_news=False)
    assert sight(None, replace(refused, mtime_ns=1)) is None
    assert sight(None, replace(refused, reader="0.0/auto/careful")) is None
    assert Sorter(WANTED, [], {}).as_examined(FILE, ID, refused).is_news


def test_a_name_without_an_id_is_said_once() -> None:
    said = Examination(FILE.path, 10, 20, "refused", NAMING, reason="no id")
    assert not Sorter(WANTED, [], {FILE.path: said}).at_sight(FILE, UsageError("no id")).is_news
    assert Sorter(WANTED, [], {FILE.path: said}).at_sight(FILE, UsageError("other")).is_news
    assert Sorter(WANTED, [], {}).at_sight(FILE, UsageError("no id")).is_news
    # Now that it has an id, it is read.
    assert sight(None, said) is None


def test_what_cannot_be_had_is_said_once_and_tried_again() -> None:
    before = Sorter(WANTED, [], {FILE.path: replace(READY, attempts=2)})
    unread = before.unread(FILE, "S3 refuses it")
    assert not before.has_said(unread)
    after = Sorter(WANTED, [], {FILE.path: unread})
    assert after.at_sight(FILE, ID) is None
    assert after.has_said(after.unread(FILE, "S3 refuses it"))
    assert not after.has_said(after.unread(FILE, "S3 does not answer"))
    assert not after.has_said(after.unread(replace(FILE, stamp=SourceStamp(11, 20)), "S3 refuses it"))
    assert after.with_failures(READY) == replace(READY, attempts=2)


def test_what_fails_again_and_again_is_given_up() -> None:
    assert sight(None, replace(READY, attempts=2)) is None
    finding = sight(None, replace(READY, attempts=3, reason="2 of 8 chunks failed"))
    assert finding is not None
    assert (finding.fate, finding.reason) == (
        "given up",
        "3 runs failed to store it, the last one: 2 of 8 chunks failed",
    )
    assert not finding.is_news


def test_the_last_attempt_tells_that_the_file_is_given_up() -> None:
    sorter = Sorter(WANTED, [], {FILE.path: replace(READY, attempts=2, reason="before")})
    assert sorter.with_failures(replace(READY, mtime_ns=21)) == replace(READY, mtime_ns=21, attempts=2, reason="before")
    failed = Finding(FILE, ID, "failed", "now", is_news=True, run_id="r")
    assert sorter.after_failure(failed, replace(READY, attempts=2, reason="now")) == failed
    assert sorter.after_failure(failed, replace(READY, attempts=3, reason="now")) == replace(
        failed, fate="given up", reason="3 runs failed to store it, the last one: now"
    )


def test_findings_are_counted() -> None:
    finding = Finding(FILE, ID, "stored")
    assert counted([finding, finding, replace(finding, fate="refused")]) == "2 stored, 1 refused"
    assert counted([]) == "no calculation found"


def source(path: Path) -> SourceFile:
    return SourceFile(str(path), path.name, SourceStamp(path.stat().st_size, path.stat().st_mtime_ns))


def test_a_file_is_examined_in_a_process_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    options = ReaderOptions()
    ready = examine(source(data_dir / "custom_ids.hdf5"), options)
    assert (ready.verdict, str(ready.fingerprint)[:7]) == ("ready", "sha256:")
    whole = (data_dir / "custom_ids.hdf5").read_bytes()
    (tmp_path / "half.hdf5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.hdf5").write_text("no")
    shutil.copy(data_dir / "custom_ids.hdf5", tmp_path / "open.hdf5")
    with h5py.File(tmp_path / "open.hdf5", "r+", libver="latest") as file:
        file.swmr_mode = True
        at_work = examine(source(tmp_path / "open.hdf5"), options)
    assert (at_work.verdict, "the engine is at work" in str(at_work.reason)) == ("unfinished", True)
    assert examine(source(tmp_path / "half.hdf5"), options).verdict == "unfinished"
    assert examine(source(tmp_path / "text.hdf5"), options).verdict == "refused"
    assert examine(source(data_dir / "preclassical.hdf5"), options).verdict == "refused"


def test_a_reader_that_crashes_or_hangs_refuses_the_file(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\nimport os, time\nos.abort() if os.environ['HOW'] == 'crash' else time.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(examination.sys, "executable", str(program))
    monkeypatch.setenv("HOW", "crash")
    found = examine(source(data_dir / "custom_ids.hdf5"), ReaderOptions())
    assert (found.verdict, "reading it crashed" in str(found.reason)) == ("refused", True)
    monkeypatch.setattr(examination, "START_SECS", 0.5)
    monkeypatch.setenv("HOW", "hang")
    found = examine(source(data_dir / "custom_ids.hdf5"), ReaderOptions())
    assert (found.verdict, "did not end within" in str(found.reason)) == ("refused", True)


def test_what_the_process_prints_is_json(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examination.main(["auto", "0", str(data_dir / "custom_ids.hdf5")])
    assert json.loads(capsys.readouterr().out)["verdict"] == "ready"
