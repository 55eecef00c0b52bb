"""One pass over every stored curve, in file order and bounded memory, asking: finished, finite, probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from hazard_store.oq.boxes import boxes_in
from hazard_store.oq.curves import CurveSet, Part
from hazard_store.oq.filters import require_whole_chunks
from hazard_store.oq.sites import Sites

DEFAULT_BLOCK_BYTES = 8 << 20
POE_TOLERANCE = 1e-5
"""How far float32 rounding may carry a probability beyond 0 or 1; a wrong dataset is off by far more."""

EMPTY = (
    "holds zeros only: the calculation was aborted before it was filled, or no source is within reach of any site; "
    "run it again or correct its sources"
)

UNBOUNDED_STATS = ("cv",)
"""A coefficient of variation is no probability: it has no upper bound."""


def refusals_of_curves(
    curve_sets: Mapping[Part, CurveSet],
    stats: tuple[str, ...],
    sites: Sites,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> Iterator[tuple[str, bool]]:
    """Yield why the stored curves cannot be trusted, and whether it is because they are not filled.

    They may hold NaN or infinity, or what is no probability, or come from an aborted calculation.

    Raises
    ------
    OSError
        If the file cannot be read to its end.
    """
    nonzero: dict[Part, NDArray[np.bool_]] = {}
    for part, curves in curve_sets.items():
        require_whole_chunks(curves.dataset)
        nonzero[part] = (
            np.zeros(curves.shape[:2], np.bool_) if part == "stats" else np.zeros(curves.shape[:1], np.bool_)
        )
        # Chunks may lie across many sites: in the order of the sites each would be unpacked again and again.
        for box in boxes_in(curves.dataset, [slice(0, length) for length in curves.shape], block_bytes):
            poes = np.asarray(curves.dataset[box])
            where, labels = box[:2]
            fault = _fault(poes, part, where.start, labels.start, curves, stats, sites)
            if fault:
                yield fault, False
                break
            if part == "stats":
                nonzero[part][where, labels] |= poes.any(axis=(2, 3))
            else:
                nonzero[part][where] |= poes.any(axis=(1, 2, 3))
        else:
            continue
        del nonzero[part]
    yield from ((trace, True) for trace in _aborted(nonzero, stats, sites))


def _fault(
    poes: NDArray[np.float32],
    part: Part,
    first_site: int,
    first_label: int,
    curves: CurveSet,
    stats: tuple[str, ...],
    sites: Sites,
) -> str | None:
    finite = np.isfinite(poes)
    if not finite.all():
        site, label, *_ = np.argwhere(~finite)[0].tolist()
        which = _label(part, first_label + label, stats)
        return (
            f"{curves.name} holds NaN or infinity at site {_site(sites, first_site + site)}, {which}: "
            "the calculation went wrong; run it again"
        )
    above = poes > 1 + POE_TOLERANCE
    if part == "stats":
        unbounded = [index for index, stat in enumerate(stats) if stat in UNBOUNDED_STATS]
        above[:, [index - first_label for index in unbounded if 0 <= index - first_label < poes.shape[1]]] = False
    outside = above | (poes < -POE_TOLERANCE)
    if outside.any():
        site, label, imt, level = np.argwhere(outside)[0].tolist()
        which = _label(part, first_label + label, stats)
        return (
            f"{curves.name} holds {poes[site, label, imt, level]} at site {_site(sites, first_site + site)}, {which}, "
            "expected probabilities from 0 to 1; run the calculation again"
        )
    return None


def _aborted(nonzero: Mapping[Part, NDArray[np.bool_]], stats: tuple[str, ...], sites: Sites) -> Iterator[str]:
    """Yield the traces of a calculation that ended before its curves were filled.

    Curves of zeros at single sites are real (no source within reach); zeros everywhere hold no hazard to store. Nor are
    realisations right that are zero where their statistics are not, or the reverse: one of the two was not filled.
    """
    of_stats, of_rlzs = nonzero.get("stats"), nonzero.get("realisations")
    remedy = "the calculation was aborted before they were filled; run it again"
    if of_rlzs is not None and not of_rlzs.any():
        yield f"hcurves-rlzs {EMPTY}"
        return
    if of_stats is None:
        return
    certain = [index for index, stat in enumerate(stats) if stat in ("mean", "max")]
    if not of_stats.any() and (certain or of_rlzs is None):
        yield f"hcurves-stats {EMPTY}"
        return
    if certain and not of_stats[:, certain].any():
        yield f"hcurves-stats ({', '.join(stats[index] for index in certain)}) {EMPTY}"
        return
    if of_rlzs is None:
        return
    unfilled = of_stats.any(axis=1) & ~of_rlzs
    if unfilled.any():
        site = int(np.argmax(unfilled))
        yield f"hcurves-rlzs holds zeros only at site {_site(sites, site)}, where hcurves-stats does not: {remedy}"
    if certain:
        unfilled = of_rlzs & ~of_stats[:, certain].any(axis=1)
        if unfilled.any():
            site = int(np.argmax(unfilled))
            yield f"hcurves-stats holds zeros only at site {_site(sites, site)}, where hcurves-rlzs does not: {remedy}"


def _site(sites: Sites, index: int) -> str:
    return sites.codes[index] if index < len(sites) else str(index)


def _label(part: Part, index: int, stats: tuple[str, ...]) -> str:
    if part == "realisations":
        return f"realisation {index:05d}"
    return f"statistic {stats[index] if index < len(stats) else index}"
