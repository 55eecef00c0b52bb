"""Texts of any origin, where they go: messages, terminals, spreadsheets, Markdown, keys."""

from __future__ import annotations

import csv
import io
import json
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import TypeAdapter, ValidationError

from flows.artifacts import as_code, as_text
from flows.benchmark_layouts import benchmark_layouts
from flows.parameters import SourceText
from flows.rerun_failed_chunks import rerun_failed_chunks
from flows.store_batch import store_batch
from flows.store_hazard import store_hazard
from flows.verify_hazard import verify_hazard
from hazard_store.cli.output import put_json, put_table
from hazard_store.cli.reading import as_cell
from hazard_store.errors import HazardStoreError, NotADatastoreError, UsageError
from hazard_store.settings import Settings
from hazard_store.sources.prefixes import PREFIXES_VARIABLE, is_inside, require_allowed
from hazard_store.texts import MAX_MESSAGE_CHARS, holds_secrets, one_line, to_log, without_secrets
from tasks.neutral import LOGGERS, NeutralLogs, neutral_errors

SIGNED = "https://bucket.s3.amazonaws.com/calc.hdf5?X-Amz-Credential=AKIA&X-Amz-Signature=5ec7e7"
SOURCE: TypeAdapter[str] = TypeAdapter(SourceText)
HOSTILE = ("\x1b[31m", "\x9b2J", "a\nb", "\r", "\u202e", "\ud800", "\0", "\u2028")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_is_one_line_that_steers_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line(f"x{text}y").isprintable()
    assert str(UsageError(f"x{text}y")).isprintable()
    put_table(["site"], [[f"x{text}y"]])
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_json_says_the_same_without_signs_that_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"site": "a\x9b\u202eb\x1b"}
    put_json(document)
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed) == document


@pytest.mark.parametrize(
    "text", [SIGNED, SIGNED.replace("//", "/"), "http://me:s3cret@host:8000/x", "s3://me:pw@b/k?x=1"]
)
def test_secrets_of_urls_are_told_nowhere(text: str) -> None:
    assert holds_secrets(text)
    error = NotADatastoreError(f"cannot be read ({text})", source=text)
    for told in (str(error), error.reason, as_code(text), as_text(text), str(pickle.loads(pickle.dumps(error)))):
        assert not re.search("5ec7e7|s3cret|AKIA|me:pw", told)
    with pytest.raises(ValidationError):
        SOURCE.validate_python(text)
    with pytest.raises(UsageError, match="HAZARD_STORE_ENDPOINT"):
        Settings.from_environment({"HAZARD_STORE_ENDPOINT": text})


@pytest.mark.parametrize("text", ["/data/a@b.hdf5", "s3://bucket/key.hdf5", "http://localhost:8000", "[-41.5~175.0]"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text
    assert SOURCE.validate_python(text) == text


@pytest.mark.parametrize("text", ["/data/calc?1@2.hdf5", "~/a@b", "a:b@c?", "12", "", "file:///data/a@b", "C:/x", "a:"])
def test_forms_take_what_is_no_url_with_a_secret(text: str) -> None:
    assert SOURCE.validate_python(text) == text


@pytest.mark.parametrize("function", [store_hazard, rerun_failed_chunks, verify_hazard, store_batch, benchmark_layouts])
def test_every_source_of_every_form_has_that_rule(function: Flow[..., Any]) -> None:
    fields = parameter_schema(function.fn).properties
    named = {"source", "parent", "prefix", "manifest"} & fields.keys()
    pattern = SOURCE.json_schema()["pattern"]
    rules = {name: [fields[name], *fields[name].get("anyOf", ())] for name in named}
    assert named
    assert [name for name, rule in rules.items() if pattern not in [part.get("pattern") for part in rule]] == []


def test_keys_that_are_named_as_such_are_told_nowhere() -> None:
    refusal = "'POST\n/\n\nx-amz-security-token:IQoJ5ec7e7\nx-amz-target:x' {'AWS_SECRET_ACCESS_KEY': '5ec7e7'}"
    told = to_log(refusal)
    assert "5ec7e7" not in told
    assert told.count("\n") == refusal.count("\n")
    assert "x-amz-target:x" in told
    advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (any value for a local database)"
    assert without_secrets(advice) == advice


def test_foreign_errors_of_tasks_are_neutral_in_states_and_tracebacks() -> None:
    with pytest.raises(HazardStoreError) as caught, neutral_errors():
        raise KeyError(f"a\x1b[31m {SIGNED}")
    assert str(caught.value).startswith("KeyError: ")
    told = [str(caught.value)]
    raised = (type(caught.value), caught.value, caught.value.__traceback__)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        record = logger.makeRecord(name, logging.ERROR, __file__, 1, "failed: %s", (caught.value.__cause__,), raised)
        for neutral in logger.filters:
            if isinstance(neutral, NeutralLogs):
                neutral.filter(record)
        told.append(logging.Formatter().format(record))
        assert "Traceback" in told[-1]
    for text in told:
        assert "KeyError" in text
        assert not re.search("5ec7e7|AKIA|\x1b", text)


def test_our_own_errors_of_tasks_stay_what_they_are() -> None:
    with pytest.raises(UsageError, match=r"^as it is$"), neutral_errors():
        raise UsageError("as it is")


def test_messages_end() -> None:
    assert len(str(UsageError("x" * 10**6))) == MAX_MESSAGE_CHARS


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)"])
def test_formulas_are_texts_in_a_spreadsheet(text: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([as_cell(text)])
    assert next(csv.reader([buffer.getvalue()])) == [f"'{text}"]


@pytest.mark.parametrize("text", ["WLG", "-41.300~174.800", "-41.3", "[-41.300~174.800]", "0.1", ""])
def test_codes_and_numbers_stay_in_csv(text: str) -> None:
    assert as_cell(text) == text


def test_prefixes_are_compared_by_whole_parts_and_behind_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "data2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "calc.hdf5").touch()
    (tmp_path / "data" / "link.hdf5").symlink_to(tmp_path / "data2" / "calc.hdf5")
    monkeypatch.setenv(PREFIXES_VARIABLE, f"{tmp_path / 'data'},s3://bucket/runs")
    require_allowed(tmp_path / "data" / "calc.hdf5")
    require_allowed("s3://bucket/runs/calc.hdf5")
    for outside in (
        tmp_path / "data2" / "calc.hdf5",
        tmp_path / "data" / ".." / "data2" / "calc.hdf5",
        tmp_path / "data" / "link.hdf5",
        "s3://bucket/runs2/calc.hdf5",
        "s3://bucket2/runs/calc.hdf5",
        "s3://bucket/runs/../calc.hdf5",
        "s3://bucket/runs/%2e%2e/calc.hdf5",
        "http://bucket/runs/calc.hdf5",
    ):
        with pytest.raises(UsageError, match="outside"):
            require_allowed(outside)
    assert not is_inside("s3://bucket/x", str(tmp_path))
