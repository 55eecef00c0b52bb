"""Every command: its help, its example, its answer to bad input."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hazard_store.cli import app, get_hazard, main, store_hazard
from hazard_store.cli.options import ENCODINGS, PARTITIONS, VERIFY_MODES
from hazard_store.layouts import ENCODINGS as KNOWN_ENCODINGS
from hazard_store.layouts import PARTITIONS as KNOWN_PARTITIONS
from hazard_store.verification import MODES
from tests.unit.cli.running import RunCli

ENTRIES = {"hazard-store": main, "store_hazard": store_hazard.main, "get_hazard": get_hazard.main}
ROOTS = {"hazard-store": app, "store_hazard": store_hazard.store_hazard, "get_hazard": get_hazard.get_hazard}


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from walk(f"{name} {word}", below)


COMMANDS = {name: command for root, top in ROOTS.items() for name, command in walk(root, top)}

# Of each command, a call that means nothing, and a word of the line that says so.
BAD_INPUT = {
    "hazard-store": ("", "name a command: delete, get"),
    "hazard-store tables": ("", "tables create"),
    "hazard-store tables create": ("now", "unexpected extra argument (now)"),
    "hazard-store tables drop": ("--no", "--no"),
    "hazard-store tables list": ("--jsno", "--json"),
    "hazard-store notify-batch": ("nope", "there is no folder nope here"),
    "hazard-store inspect": ("/no/such/file.hdf5", "/no/such/file.hdf5: no such file"),
    "hazard-store plan": ("calc.hdf5 --max-wcu 0", "'0' is not a number above 0"),
    "hazard-store store": ("calc.hdf5 --id A:B", "'A:B' cannot be used"),
    "hazard-store status": ("A B", "unexpected extra argument (B)"),
    "hazard-store rerun": ("A --cluster moon", "unknown cluster 'moon'"),
    "hazard-store verify": ("calc.hdf5", "Missing option '--id'"),
    "hazard-store delete": ("", "Missing argument 'ID'"),
    "hazard-store get": ("A --near 91,0", "'91,0' is no place"),
    "hazard-store meta": ("A --encoding zip", "'zip' is not one of 'packed', 'list'"),
    "hazard-store plot": ("A -o curves.pdf", "curves.pdf: a plot is written as .png or .svg"),
    "store_hazard": ("/no/such/file.hdf5 A", "/no/such/file.hdf5: no such file"),
    "get_hazard": ("A --vs30s rock", "not 'rock'"),
}


def words_of(name: str) -> tuple[str, list[str]]:
    root, *words = name.split(" ")
    return root, words


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_explains_every_option_and_ends_with_an_example(name: str, flag: str, run_cli: RunCli) -> None:
    root, words = words_of(name)
    outcome = run_cli(*words, flag, entry=ENTRIES[root])
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Usage: {name} ")
    _, _, examples = outcome.out.partition("\n  Example")
    assert root in examples
    assert all(p.help for p in COMMANDS[name].params if isinstance(p, click.Option) and p.name != "path")


def test_every_command_has_its_bad_input() -> None:
    assert set(BAD_INPUT) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_input_gets_one_line_and_exit_code_2(name: str, run_cli: RunCli) -> None:
    root, words = words_of(name)
    arguments, message = BAD_INPUT[name]
    outcome = run_cli(*words, *arguments.split(), entry=ENTRIES[root])
    assert message in outcome.error
    assert outcome.out == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_gets_one_line(name: str, run_cli: RunCli) -> None:
    root, words = words_of(name)
    assert f"see `{name} --help`" in run_cli(*words, "--no-such-option", entry=ENTRIES[root]).error


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_shows_whole_sentences(name: str, run_cli: RunCli) -> None:
    assert not COMMANDS[name].get_short_help_str(limit=65).endswith("...")


def test_an_unknown_command_gets_one_line(run_cli: RunCli) -> None:
    assert "'plto'" in run_cli("plto").error


def test_version(run_cli: RunCli) -> None:
    assert run_cli("--version").out.startswith("hazard-store ")


def test_the_layouts_to_choose_from_are_those_that_there_are() -> None:
    assert set(ENCODINGS) == set(KNOWN_ENCODINGS)
    assert set(PARTITIONS) == set(KNOWN_PARTITIONS)


def test_the_modes_of_verify_to_choose_from_are_those_that_there_are() -> None:
    assert VERIFY_MODES == MODES


IMPORTS = """
import sys
from hazard_store.cli import app
import hazard_store.cli.store_hazard, hazard_store.cli.get_hazard
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_command_line_loads_nothing_heavy() -> None:
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"numpy", "pandas", "h5py", "botocore", "pynamodb", "matplotlib", "rich", "prefect", "dask"}


def test_the_public_names_of_the_package_load_when_they_are_asked_for() -> None:
    import hazard_store

    assert all(hasattr(hazard_store, name) for name in hazard_store.__all__)
    assert hazard_store.__version__
    assert not hasattr(hazard_store, "no_such_name")


def module(*args: str, **environment: str) -> list[str]:
    return [sys.executable, "-m", "hazard_store", *args]


def test_it_runs_as_a_module() -> None:
    run = subprocess.run(module("status", "a", "b"), capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")


def test_a_reader_that_goes_away_is_no_error(data_dir: Path) -> None:
    with subprocess.Popen(
        module("inspect", str(data_dir / "custom_ids.hdf5"), "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_output_that_cannot_be_written_gets_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(module("--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "cannot write the output" in run.stderr


def test_names_that_are_not_text_are_told_all_the_same() -> None:
    name = os.fsdecode(b"caf\xe9.hdf5")
    run = subprocess.run(module("inspect", name), capture_output=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith(b"error: ")
    assert run.stderr.count(b"\n") == 1


def test_a_defect_of_ours_gets_one_line_and_a_way_to_its_traceback(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("hazard_store.oq.trial.open_tried", broken)
    outcome = run_cli("inspect", "calc.hdf5")
    assert outcome.code == 70
    assert outcome.err == (
        "error: internal error: ZeroDivisionError: division by zero; run with HAZARD_STORE_DEBUG=1 for the traceback\n"
    )
    monkeypatch.setenv("HAZARD_STORE_DEBUG", "1")
    assert "Traceback" in run_cli("inspect", "calc.hdf5").err


def test_ctrl_c_gets_one_line(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hazard_store.oq.trial.open_tried", interrupted)
    outcome = run_cli("inspect", "calc.hdf5")
    assert (outcome.code, outcome.err) == (130, "error: interrupted\n")


def test_help_is_quick() -> None:
    started = time.monotonic()
    subprocess.run(module("--help"), capture_output=True, check=True)
    # 0.12 s on an idle machine; the bound leaves room for a busy one.
    assert time.monotonic() - started < 2.0


def test_a_closed_stdout_is_none_at_all(data_dir: Path) -> None:
    command = shlex.join(module("inspect", str(data_dir / "custom_ids.hdf5"), "--json"))
    run = subprocess.run(["/bin/sh", "-c", f"{command} >&-"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
