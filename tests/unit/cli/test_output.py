"""What is printed: lines, tables, numbers, on terminals and elsewhere."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest

from hazard_store.cli.options import duration_secs, example, lat_lon, positive_number
from hazard_store.cli.output import note, one_line, put_table
from hazard_store.cli.reading import texts
from hazard_store.wording import count, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_message_is_one_line_without_signs_that_move_the_cursor() -> None:
    assert one_line(" a \r\n  b\x1b[2J\n") == "a b?[2J"


def test_a_stderr_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    note("nobody hears this")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (93.4, "1:33"), (3725, "1:02:05")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_count() -> None:
    assert [count(1, "chunk"), count(2000, "chunk")] == ["1 chunk", "2,000 chunks"]


def test_a_table_is_aligned_columns_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    put_table(("site", "n"), [("[-41.500~175.250]", "1"), ("WLG", "20")], title="sites", numbers="lr")
    assert capsys.readouterr().out == "sites\nsite                n\n[-41.500~175.250]   1\nWLG                20\n"


def test_a_table_on_a_terminal_keeps_site_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    put_table(("site", "[x]"), [("[-41.500~175.250]", "[bold]")], title="[red]")
    assert all(word in terminal.getvalue() for word in ("[-41.500~175.250]", "[bold]", "[x]", "[red]"))


def test_numbers_have_the_fewest_digits_that_give_them_back() -> None:
    poes = np.array([0.1, 1 / 3, 0.0, 1e-9], np.float32)
    assert texts(poes) == ["0.1", "0.33333334", "0.0", "1e-9"]
    assert np.array([float(text) for text in texts(poes)], np.float32).tobytes() == poes.tobytes()
    assert texts(poes[::2]) == ["0.1", "0.0"]


@pytest.mark.parametrize(("text", "place"), [("-41.3,174.8", (-41.3, 174.8)), ("0, 360", (0.0, 360.0))])
def test_lat_lon(text: str, place: tuple[float, float]) -> None:
    assert lat_lon(text) == place


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "nan,0", "0,nan", "90.1,0", "0,361", "174.8,-41.3"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(Exception, match=r"LAT,LON|no place"):
        lat_lon(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "many"])
def test_what_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="above 0"):
        positive_number(text)


@pytest.mark.parametrize(("text", "secs"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h5", 7205)])
def test_durations(text: str, secs: float) -> None:
    assert duration_secs(text) == secs


@pytest.mark.parametrize("text", ["", "0", "0m", "-5m", "1.5h", "10 m", "m", "30m1h", "soon"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="no duration such as"):
        duration_secs(text)


def test_examples_of_one_and_of_several_calls() -> None:
    assert example("a").startswith("\b\nExample:\n")
    assert example("a", "b").startswith("\b\nExamples:\n")


def test_a_table_that_is_too_wide_folds_its_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    put_table(("id", "layout", "source"), [("NZ-2026-A", "packed+solution", "/a/long/path/" * 8)])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert "NZ-2026-A   packed+solution   /a/long" in plain
    assert max(map(len, plain.splitlines())) <= 60
