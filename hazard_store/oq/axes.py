"""What stands where along the axes of the curves: which IMT, which levels, which statistic."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hazard_store.oq.curves import CurveSet, Findings, Part
from hazard_store.oq.parameters import levels_of_imts, to_float
from hazard_store.oq.sites import fault_of_name

FIRST_SORTED_BY_PERIOD = (3, 17)
SUSPECT_IMT_ORDER = ((3, 17), (3, 18))
"""Engines that compute in the order of the job file and label by period."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Labels of the curves.

    Attributes
    ----------
    imtls : dict of str to ndarray, shape (n_levels,), float64
        Levels of each IMT that can be stored, in stored order.
    imt_slots : ndarray, shape (n_imts,), int
        Where these IMTs stand in the third axis of the stored arrays.
    stats : tuple of str
        Statistics in stored order.
    """

    imtls: dict[str, NDArray[np.float64]]
    imt_slots: NDArray[np.intp]
    stats: tuple[str, ...]


def read_axes(
    curve_sets: Mapping[Part, CurveSet],
    parameters: dict[str, Any],
    version: tuple[int, ...],
    findings: Findings,
    *,
    trust_imt_order: bool,
) -> Axes:
    """Return the labels of the curves, having noted everything that makes them doubtful."""
    shapes = {part: curves.shape for part, curves in curve_sets.items()}
    if len({(shape[0], *shape[2:]) for shape in shapes.values()}) > 1:
        findings.refuse(
            f"hcurves-stats {shapes['stats']} and hcurves-rlzs {shapes['realisations']} "
            "differ in sites, IMTs or levels; run the calculation again"
        )
    n_imts, n_levels = next(iter(shapes.values()))[2:] if shapes else (None, None)
    imts = stored_imts(curve_sets, parameters, version, findings)
    imtls, imt_slots = levels_of_slots(imts, parameters, n_levels, findings)
    if n_imts is not None and n_imts != len(imts):
        findings.refuse(
            f"the curves hold {n_imts} IMTs, the job names {len(imts)}, which do not match; run the calculation again"
        )
    suspicion = order_suspicion(imts, parameters, version) if curve_sets else None
    if suspicion and trust_imt_order:
        findings.warn(f"{suspicion}; stored nevertheless, as told to trust the order")
    elif suspicion:
        findings.refuse(
            f"{suspicion}; run it again with engine 3.19 or later, or pass --trust-imt-order if they are right"
        )
    stats = curve_sets.get("stats")
    names = stat_names(stats, parameters, findings) if stats else ()
    for name in (*imts, *names):
        if (fault := fault_of_name(name)) is not None:
            findings.refuse(f"the IMT or statistic {name!r} {fault}, so that no key can hold it; fix the job")
    return Axes(imtls, imt_slots, names)


def stat_names(curves: CurveSet, parameters: dict[str, Any], findings: Findings) -> tuple[str, ...]:
    """Return the statistics in stored order, `mean`, `std`, `quantile-0.1`, ..., as many as the array holds."""
    count = curves.shape[1]
    names = curves.stats
    if not names:
        mean = ["mean"] if parameters.get("mean", True) else []
        quantiles = parameters.get("quantiles", parameters.get("quantile_hazard_curves")) or []
        names = tuple(mean + [f"quantile-{float(quantile)}" for quantile in quantiles])
        if len(names) == count:
            findings.warn(
                f"{curves.name} does not name its statistics; taken from the job's settings: {', '.join(names)}"
            )
    if len(names) != count or len(set(names)) != count:
        findings.refuse(
            f"{curves.name} holds {count} statistics, but {len(names)} are named ({', '.join(names) or 'none'}), "
            "so that none can be told from the others; run the calculation again"
        )
        return ()
    return names


def stat_to_agg(stat: str) -> str:
    """Return the short name of a statistic: `quantile-0.1` gives `0.1`, `mean` gives `mean`."""
    return stat.removeprefix("quantile-")


def stored_imts(
    curve_sets: Mapping[Part, CurveSet], parameters: dict[str, Any], version: tuple[int, ...], findings: Findings
) -> tuple[str, ...]:
    """Return the IMTs in the order of the arrays, which only their attribute tells for sure."""
    told = {curves.name: curves.imts for curves in curve_sets.values() if curves.imts is not None}
    if len(set(told.values())) > 1:
        findings.refuse(f"the curve datasets disagree on the IMTs ({told}); run the calculation again")
    for imts in told.values():
        if len(set(imts)) != len(imts):
            findings.refuse(f"the curve datasets name an IMT twice ({', '.join(imts)}); run the calculation again")
        return imts
    names = list(levels_of_imts(parameters))
    names.sort(key=imt_to_period if version[:2] >= FIRST_SORTED_BY_PERIOD else str)
    if curve_sets and len(names) > 1:
        findings.warn(
            f"the curve datasets do not name their IMTs; taken in the order in which engines of that time stored them: "
            f"{', '.join(names)}"
        )
    return tuple(names)


def imt_to_period(imt: str) -> tuple[float, str]:
    """Return the sort key of engines from 3.17: `PGA` before `SA(0.2)` before `SA(1.0)`."""
    period = re.search(r"\(([\d.]+)\)", imt)
    return (float(period.group(1)) if period else 0.0, imt)


def order_suspicion(imts: tuple[str, ...], parameters: dict[str, Any], version: tuple[int, ...]) -> str | None:
    """Return why the IMT labels cannot be trusted, or `None`.

    Measured: engine 3.18.0 labels as PGA what 3.16 and 3.26 label as SA(1.0) when the job names SA(1.0) first.
    """
    if version[:2] not in SUSPECT_IMT_ORDER:
        return None
    job_order = tuple(imt for imt in levels_of_imts(parameters) if imt in imts)
    if job_order == tuple(imt for imt in imts if imt in job_order):
        return None
    return (
        f"engine {version[0]}.{version[1]} puts the wrong IMT on curves when the job names its IMTs in another order "
        f"({', '.join(job_order)}) than by period ({', '.join(imts)})"
    )


def levels_of_slots(
    imts: tuple[str, ...], parameters: dict[str, Any], n_levels: int | None, findings: Findings
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.intp]]:
    """Return the levels of each IMT and the slots of the arrays' IMT axis that they stand for.

    IMTs without levels (secondary perils of event-based calculations) are left out with a warning.
    """
    of_job = levels_of_imts(parameters)
    soil = _soil_levels(parameters)
    levels: dict[str, NDArray[np.float64]] = {}
    slots = []
    without = []
    for slot, imt in enumerate(imts):
        values = soil if soil else of_job.get(imt, [])
        if not values:
            without.append(imt)
            continue
        if n_levels is not None and len(values) != n_levels:
            findings.refuse(
                f"{imt} has {len(values)} levels in the job's parameters, but the curves hold {n_levels}; "
                "they cannot be matched: run the calculation again"
            )
        levels[imt] = np.array(values, np.float64)
        if not np.isfinite(levels[imt]).all():
            findings.refuse(f"{imt} has levels that are not finite numbers; run the calculation again")
        slots.append(slot)
    if without and n_levels is not None:
        findings.warn(f"left out, as the job gives no levels for them: {', '.join(without)}")
        if not levels:
            findings.refuse("no IMT of the curves has levels; set intensity_measure_types_and_levels and run again")
    return levels, np.array(slots, np.intp)


def _soil_levels(parameters: dict[str, Any]) -> list[float]:
    """Return the levels of amplified curves. Convolution moves the curves onto them; the kernel method does too."""
    soil = parameters.get("soil_intensities")
    inputs = parameters.get("inputs")
    if not isinstance(soil, (list, tuple)) or not isinstance(inputs, dict) or "amplification" not in inputs:
        return []
    return [to_float(level) if isinstance(level, (int, float)) else math.nan for level in soil]
