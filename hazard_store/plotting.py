"""A site's hazard curves as a figure for a report: one panel an IMT, statistics over realisations, log-log.

Drawn with matplotlib's objects and not its `pyplot`, so that nothing is kept between figures and no display is needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hazard_store.errors import UsageError

SUFFIXES = (".png", ".svg")

# More panels than this are too small to read on a page.
MAX_PANELS = 6

# Beside a curve that falls to 1e-12 nothing else could be told apart.
LOWEST_POE = 1e-6

_PANEL_INCHES = (3.3, 2.75)
_LEGEND_ENTRY_INCHES = 1.6
_DPI = 200
_STYLE: Any = {
    # Text stays text in an SVG, so that it can be searched and set in the report's own type.
    "svg.fonttype": "none",
    "svg.hashsalt": "hazard-store",
    "font.size": 9.0,
    "axes.linewidth": 0.7,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
}
_RLZ_COLOUR = "0.62"
_MEAN_COLOUR = "#b2182b"
# From low to high quantile, one hue from light to dark; the dashes tell them apart where colours do not.
_QUANTILE_COLOURS = mpl.colormaps["Blues"]
_DASHES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0, (1.2, 1.4)),
    (0, (4.5, 1.6)),
    (0, (4.5, 1.4, 1.2, 1.4)),
    (0, (8, 2)),
    (0, (8, 1.6, 1.2, 1.6, 1.2, 1.6)),
)
_OTHER_COLOURS = ("#1b7837", "#762a83", "#bf812d")

# An SVG of more lines than this is slow to open: they become a picture within it.
_MAX_VECTOR_RLZS = 500

# What the engine's IMTs measure, and in which unit its levels are.
_QUANTITY_OF_IMT: tuple[tuple[str, str], ...] = (
    (r"PGA", "Peak ground acceleration (g)"),
    (r"PGV", "Peak ground velocity (cm/s)"),
    (r"PGD", "Peak ground displacement (cm)"),
    (r"SA\(.*\)|SDi\(.*\)", "Spectral acceleration (g)"),
    (r"AvgSA.*|Sa_avg.*", "Average spectral acceleration (g)"),
    (r"IA", "Arias intensity (m/s)"),
    (r"CAV", "Cumulative absolute velocity (g s)"),
    (r"(EAS|FAS|DRVT)\(.*\)", "Fourier amplitude (g s)"),
    (r"(RSD.*|SRSD.*)", "Significant duration (s)"),
    (r"MMI|JMA", "Intensity"),
)


def plot_curves(
    frame_stats: pd.DataFrame | None,
    frame_rlzs: pd.DataFrame | None,
    *,
    title: str,
    investigation_time: float | None,
    path: str | Path,
    max_panels: int = MAX_PANELS,
) -> None:
    """Draw the curves of one site and write them to a PNG or SVG file.

    Poes of zero have no place on a logarithmic axis and are left out.

    Parameters
    ----------
    frame_stats, frame_rlzs : DataFrame or None
        Rows of ``query.curves`` for one site: statistics, and realisations. Either may be empty.
    title : str
        First line of the figure, may be empty; below it stand the calculation, the site and its vs30.
    investigation_time : float or None
        Years.
    path : str or Path
        Its suffix, ``.png`` or ``.svg``, says the format.
    max_panels : int
        Of more IMTs than this, so many are drawn, spread evenly from the first to the last; the figure says so.

    Raises
    ------
    UsageError
        If the suffix is another, the file cannot be written, or the curves are none or not of one site.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a plot is written as {' or '.join(SUFFIXES)}, by the suffix of its name")
    frames = [frame for frame in (frame_stats, frame_rlzs) if frame is not None and len(frame)]
    if not frames:
        raise UsageError("there are no curves to plot")
    curves = pd.concat(frames)
    for column, what in (("haz_sol_id", "calculations"), ("site", "sites")):
        if curves[column].nunique() > 1:
            raise UsageError(f"a plot shows one site; these curves are of {curves[column].nunique()} {what}")
    with mpl.rc_context(_STYLE):
        figure = _draw(curves, title, investigation_time, max_panels)
        # Without a date, and with a fixed salt for ids, the same curves give the same file.
        metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
        try:
            figure.savefig(path, dpi=_DPI, metadata=metadata)
        except OSError as exc:
            raise UsageError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def spread(names: Sequence[str], most: int) -> list[str]:
    """Pick at most so many names, evenly from the first to the last: ``abcdefg, 3 -> a, d, g``."""
    if len(names) <= most:
        return list(names)
    return [names[round(position)] for position in np.linspace(0, len(names) - 1, most)]


def imt_to_quantity(imt: str) -> str:
    """What an IMT measures and its unit, for an axis; the name itself where it is not known.

    >>> imt_to_quantity("SA(0.2)")
    'Spectral acceleration (g)'
    """
    return next((text for pattern, text in _QUANTITY_OF_IMT if re.fullmatch(pattern, imt)), imt)


def _draw(curves: pd.DataFrame, title: str, investigation_time: float | None, max_panels: int) -> Figure:
    all_imts = list(dict.fromkeys(curves["imt"]))
    imts = spread(all_imts, max(1, max_panels))
    curves = curves[curves["imt"].isin(imts)]
    columns = 2 if len(imts) == 4 else min(3, len(imts))
    rows = math.ceil(len(imts) / columns)
    legend = _legend(curves)
    width = max(columns * _PANEL_INCHES[0], 5.0)
    legend_columns = min(len(legend), int(width / _LEGEND_ENTRY_INCHES))
    legend_inches = 0.25 * math.ceil(len(legend) / legend_columns)
    height = rows * _PANEL_INCHES[1] + 0.65 + legend_inches
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    lowest = _lowest_poe(curves)
    for number, axes in enumerate(panels.flat):
        if number >= len(imts):
            axes.set_visible(False)
            continue
        _draw_panel(axes, curves[curves["imt"] == imts[number]], imts[number], lowest)
        if number % columns == 0:
            axes.set_ylabel(_poe_label(investigation_time))
    subtitle = _subtitle(curves)
    if len(imts) < len(all_imts):
        subtitle += f" · {len(imts)} of {len(all_imts)} IMTs"
    figure.suptitle(f"{title}\n{subtitle}" if title else subtitle, fontsize=10.5, linespacing=1.4)
    figure.legend(
        handles=legend, loc="outside lower center", ncols=legend_columns, frameon=False, handlelength=3.2, fontsize=8.5
    )
    return figure


def _draw_panel(axes: Axes, curves: pd.DataFrame, imt: str, lowest: float) -> None:
    rlzs = curves[curves["agg"].isna()]
    if len(rlzs):
        lines = [np.column_stack(_drawable(row.levels, row.poes)) for row in rlzs.itertuples()]
        width, opacity = _rlz_line(len(rlzs))
        axes.add_collection(
            LineCollection(
                lines,
                colors=_RLZ_COLOUR,
                linewidths=width,
                alpha=opacity,
                zorder=1,
                rasterized=len(lines) > _MAX_VECTOR_RLZS,
            )
        )
    styles = _styles(list(curves["agg"].dropna()))
    for row in curves[curves["agg"].notna()].itertuples():
        axes.plot(*_drawable(row.levels, row.poes), **styles[str(row.agg)])
    axes.set_xscale("log")
    axes.set_yscale("log")
    levels = np.concatenate(list(curves["levels"]))
    positive = levels[levels > 0]
    if positive.size:
        axes.set_xlim(positive.min(), positive.max())
    # Room above 1, so that curves along it are not cut by the frame.
    axes.set_ylim(lowest, 1.6)
    axes.set_title(re.sub(r"\((\d[\d.]*)\)", r"(\1 s)", imt))
    axes.set_xlabel(imt_to_quantity(imt))
    axes.grid(which="major", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", direction="in", top=True, right=True, width=0.6, pad=5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=12))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _drawable(levels: Any, poes: Any) -> tuple[Any, Any]:
    """Levels and poes that a logarithmic axis can show; NaN interrupts the line elsewhere."""
    values = np.asarray(poes, np.float64)
    return np.where(levels > 0, levels, np.nan), np.where(values > 0, values, np.nan)


def _lowest_poe(curves: pd.DataFrame) -> float:
    """The decade below which nothing of the statistics is seen, or of the realisations where there are none."""
    stats = curves[curves["agg"].notna() & (curves["agg"] != "std")]
    poes = np.concatenate(list((stats if len(stats) else curves)["poes"])).astype(np.float64)
    positive = poes[poes > 0]
    least = float(positive.min()) if positive.size else LOWEST_POE
    return float(10.0 ** math.floor(math.log10(min(max(least, LOWEST_POE), 0.1))))


def _styles(aggs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How each statistic is drawn; the same for every panel that has the same statistics."""
    quantiles = sorted((agg for agg in set(aggs) if _is_quantile(agg)), key=float)
    others = sorted(agg for agg in set(aggs) if agg != "mean" and not _is_quantile(agg))
    styles: dict[str, dict[str, Any]] = {
        "mean": {"color": _MEAN_COLOUR, "linewidth": 2.0, "zorder": 4, "solid_capstyle": "round"}
    }
    for number, agg in enumerate(quantiles):
        shade = 0.55 + 0.4 * (number / max(1, len(quantiles) - 1))
        dashes = _DASHES[number % len(_DASHES)]
        styles[agg] = {"color": _QUANTILE_COLOURS(shade), "linewidth": 1.3, "linestyle": dashes, "zorder": 3}
    for number, agg in enumerate(others):
        colour = _OTHER_COLOURS[number % len(_OTHER_COLOURS)]
        styles[agg] = {"color": colour, "linewidth": 0.9, "linestyle": (0, (3, 1, 1, 1, 1, 1)), "zorder": 2}
    return styles


def _legend(curves: pd.DataFrame) -> list[Line2D]:
    """One line for each statistic, mean first and quantiles rising, and one for all realisations."""
    aggs = set(curves["agg"].dropna())
    lines = [
        Line2D([], [], label=_agg_label(agg), **style) for agg, style in _styles(list(aggs)).items() if agg in aggs
    ]
    n_rlzs = curves["rlz"].nunique()
    if n_rlzs:
        width, _ = _rlz_line(n_rlzs)
        label = "1 realisation" if n_rlzs == 1 else f"{n_rlzs:,} realisations"
        lines.append(Line2D([], [], color=_RLZ_COLOUR, linewidth=max(width, 0.8), label=label))
    return lines


def _rlz_line(n_rlzs: int) -> tuple[float, float]:
    """Width and opacity of a realisation's line: the more there are, the fainter each."""
    return (0.7, 0.8) if n_rlzs <= 50 else (0.5, max(0.06, 40 / n_rlzs))


def _is_quantile(agg: str) -> bool:
    return re.fullmatch(r"[01]?\.?\d+", agg) is not None


def _agg_label(agg: str) -> str:
    if _is_quantile(agg):
        return f"quantile {agg}"
    return {"std": "standard deviation", "max": "maximum"}.get(agg, agg)


def _poe_label(investigation_time: float | None) -> str:
    if investigation_time is None:
        return "Probability of exceedance"
    years = "year" if investigation_time == 1 else "years"
    return f"Probability of exceedance\nin {investigation_time:g} {years}"


def _subtitle(curves: pd.DataFrame) -> str:
    """``MY-ID · WLG (-41.290, 174.780) · vs30 250 m/s``."""
    first = curves.iloc[0]
    place = f"({first['lat']:.3f}, {first['lon']:.3f})"
    # A code that is the place itself does not need it once more.
    site = first["site"] if str(first["site"]).startswith("[") else f"{first['site']} {place}"
    vs30 = "" if math.isnan(first["vs30"]) else f" · vs30 {first['vs30']:g} m/s"
    return f"{first['haz_sol_id']} · {site}{vs30}"
