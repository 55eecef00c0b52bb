"""Figures: what is drawn, in which units, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from hazard_store import plotting
from hazard_store.errors import UsageError
from hazard_store.plotting import imt_to_quantity, plot_curves, spread
from hazard_store.query import rows_to_frame
from hazard_store.rows import CurveRow

LEVELS = np.geomspace(0.001, 3.0, 8)


def frame(kinds: list[str | int], imts: tuple[str, ...] = ("PGA", "SA(0.2)"), **changes: Any) -> pd.DataFrame:
    rows = []
    for number, kind in enumerate(kinds):
        for imt in imts:
            poes = np.exp(-LEVELS * (2 + number)).astype(np.float32)
            fields: dict[str, Any] = {
                "haz_sol_id": "CALC-1",
                "site": "WLG",
                "lat": -41.29,
                "lon": 174.78,
                "vs30": 250.0,
                "agg": kind if isinstance(kind, str) else None,
                "rlz": None if isinstance(kind, str) else kind,
                "imt": imt,
                "levels": LEVELS,
                "poes": poes,
            }
            rows.append(CurveRow(**fields | changes))
    return rows_to_frame(rows)


STATS = frame(["mean", "0.1", "0.9"])
RLZS = frame([0, 1, 2])


def svg_texts(path: Path) -> list[str]:
    return [re.sub("<[^>]+>", "", text) for text in re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(), re.S)]


def draw(path: Path, stats: pd.DataFrame | None = STATS, rlzs: pd.DataFrame | None = RLZS, **options: Any) -> list[str]:
    plot_curves(stats, rlzs, **{"title": "Hazard", "investigation_time": 50.0, "path": path} | options)
    return svg_texts(path) if path.suffix == ".svg" else []


def test_a_figure_says_what_it_shows(tmp_path: Path) -> None:
    texts = draw(tmp_path / "x.svg")
    page = " ".join(texts)
    for text in (
        "Hazard",
        "CALC-1 · WLG (-41.290, 174.780) · vs30 250 m/s",
        "PGA",
        "SA(0.2 s)",
        "Peak ground acceleration (g)",
        "Spectral acceleration (g)",
        "Probability of exceedance",
        "in 50 years",
        "mean",
        "quantile 0.1",
        "quantile 0.9",
        "3 realisations",
    ):
        assert text in page, text


def test_a_png_is_a_picture_and_the_suffix_decides(tmp_path: Path) -> None:
    draw(tmp_path / "x.PNG")
    assert (tmp_path / "x.PNG").read_bytes().startswith(b"\x89PNG")
    for name in ("x.pdf", "x", "x.png.txt"):
        with pytest.raises(UsageError, match=r"\.png or \.svg"):
            draw(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_the_same_curves_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_no_figure_is_kept_and_no_setting_is_changed(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    draw(tmp_path / "x.png")
    assert dict(mpl.rcParams) == before
    source = Path(plotting.__file__).read_text()
    assert "import matplotlib.pyplot" not in source
    assert "from matplotlib import pyplot" not in source


@pytest.mark.parametrize(("stats", "rlzs"), [(STATS, None), (None, RLZS), (STATS.iloc[:0], RLZS)])
def test_either_kind_of_curves_is_enough(tmp_path: Path, stats: pd.DataFrame | None, rlzs: pd.DataFrame | None) -> None:
    page = " ".join(draw(tmp_path / "x.svg", stats, rlzs))
    assert ("mean" in page) == (stats is STATS)
    assert ("3 realisations" in page) == (rlzs is RLZS)


def test_zeros_and_levels_of_zero_are_left_out(tmp_path: Path) -> None:
    poes = np.array([0.5, 0.1, 0, 0, 0, 0, 0, 0], np.float32)
    draw(tmp_path / "x.svg", frame(["mean"], poes=poes), frame([0], poes=poes * 0))
    levels = np.array([0.0, *LEVELS[1:]])
    draw(tmp_path / "y.png", frame(["mean"], levels=levels), frame([0], poes=poes * 0))
    draw(tmp_path / "z.png", frame(["mean"], poes=poes * 0), None)
    x, y = plotting._drawable(levels, poes)
    assert np.isnan(x).tolist() == [True] + 7 * [False]
    assert np.isnan(y).tolist() == 2 * [False] + 6 * [True]


def test_unknown_vs30_and_time_are_not_made_up(tmp_path: Path) -> None:
    page = " ".join(draw(tmp_path / "x.svg", frame(["mean"], vs30=math.nan), None, investigation_time=None, title=""))
    assert "vs30" not in page
    assert "year" not in page
    assert "nan" not in page
    assert "in 1 year" in " ".join(draw(tmp_path / "y.svg", investigation_time=1.0))


def test_of_many_imts_a_spread_is_drawn_and_the_figure_says_so(tmp_path: Path) -> None:
    imts = tuple(f"SA({number}.0)" for number in range(1, 11))
    page = " ".join(draw(tmp_path / "x.svg", frame(["mean"], imts), None))
    assert "6 of 10 IMTs" in page
    assert page.count(" s)") == 6
    page = " ".join(draw(tmp_path / "y.svg", frame(["mean"], imts), None, max_panels=10))
    assert "of 10 IMTs" not in page
    assert page.count(" s)") == 10


def test_a_spread_has_both_ends_and_no_name_twice() -> None:
    assert spread("abcdefg", 3) == ["a", "d", "g"]
    for count in range(1, 40):
        names = [str(n) for n in range(count)]
        picked = spread(names, 6)
        assert len(set(picked)) == len(picked) == min(6, count)
        assert (picked[0], picked[-1]) == (names[0], names[-1])


def test_what_is_not_one_site_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for stats, rlzs, message in (
        (None, None, "no curves"),
        (STATS.iloc[:0], None, "no curves"),
        (STATS, frame([0], site="AKL"), "2 sites"),
        (STATS, frame([0], haz_sol_id="OTHER"), "2 calculations"),
    ):
        with pytest.raises(UsageError, match=message):
            draw(path, stats, rlzs)
    with pytest.raises(UsageError, match="cannot be written"):
        draw(tmp_path / "no" / "x.png")


@pytest.mark.parametrize(
    ("imt", "unit"),
    [
        ("PGA", "(g)"),
        ("PGV", "(cm/s)"),
        ("PGD", "(cm)"),
        ("SA(0.01)", "(g)"),
        ("SA(10.0)", "(g)"),
        ("AvgSA", "(g)"),
        ("IA", "(m/s)"),
        ("CAV", "(g s)"),
        ("RSD595", "(s)"),
    ],
)
def test_levels_have_the_units_of_the_engine(imt: str, unit: str) -> None:
    assert imt_to_quantity(imt).endswith(f" {unit}")


def test_an_unknown_imt_is_named_without_a_unit() -> None:
    assert imt_to_quantity("LSD") == "LSD"


def test_many_realisations_and_every_statistic_fit(tmp_path: Path) -> None:
    rlzs = frame(list(range(600)), ("PGA",))
    stats = frame(["mean", "std", "max", "0.05", "0.1", "0.2", "0.5", "0.8", "0.9", "0.95"], ("PGA",))
    page = " ".join(draw(tmp_path / "x.svg", stats, rlzs))
    assert "600 realisations" in page
    assert "<image" in (tmp_path / "x.svg").read_text(), "the realisations are a picture within it"
    assert page.index("quantile 0.05") < page.index("quantile 0.5") < page.index("quantile 0.95")
    for name in ("standard deviation", "maximum"):
        assert name in page
