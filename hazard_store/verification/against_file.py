"""Comparing with the file: every stored value (`full`), or some curves that are drawn at random (`sample`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hazard_store.chunks import kinds_of
from hazard_store.meta import Meta
from hazard_store.names import CURVE_PARTS, CurvePart
from hazard_store.oq.trial import open_tried
from hazard_store.verification import metas
from hazard_store.verification.comparison import CurveComparison
from hazard_store.verification.differences import Tally
from hazard_store.verification.subject import OnProgress, Subject


def compare_with_file(
    subject: Subject,
    source: str,
    parent: str | None,
    tally: Tally,
    on_progress: OnProgress,
    sample: tuple[int, int] | None = None,
) -> Meta | None:
    """Compare meta and curves with the file; gives the stored meta.

    Parameters
    ----------
    sample : (int, int), optional
        How many curves to draw, and the seed; by default every value is compared, and items are looked for that the
        file does not have.

    Raises
    ------
    SourceError
        If the file cannot be read, or changes while it is.
    """
    with open_tried(
        source, parent=parent or subject.parent, sites=subject.sites, trust_imt_order=subject.trust_imt_order
    ) as calculation:
        kinds = {part: kinds_of(calculation, part) for part in CURVE_PARTS if calculation.curves[part] is not None}
        meta = metas.read_stored_meta(subject.haz_sol_id, subject.layout, subject.settings, tally)
        if meta is not None:
            metas.compare_with_file(meta, calculation, kinds, tally)
            metas.compare_v2(meta, subject.settings, tally)
        n_sites = len(calculation.sites.codes)
        expected = {part: kinds.get(part, []) if part in subject.parts else [] for part in CURVE_PARTS}
        total = n_sites * sum(map(len, expected.values()))
        chosen = None
        if sample is not None:
            total = min(total, sample[0])
            chosen = draw({part: (n_sites, len(names)) for part, names in expected.items()}, *sample)
        for part, names in expected.items():
            comparison = CurveComparison(calculation, meta, subject.stored(part), names, tally)
            for _ in comparison.run() if chosen is None else comparison.run_chosen(chosen[part]):
                on_progress(tally.checked_items, total)
        calculation.check_unchanged()
    return meta


def draw(shapes: dict[CurvePart, tuple[int, int]], curves: int, seed: int) -> dict[CurvePart, npt.NDArray[np.bool_]]:
    """Draw curves of all parts, each as likely as any other and none twice.

    Parameters
    ----------
    shapes : dict of part to (n_sites, n_kinds)
    curves : int
        How many; all if there are fewer.

    Returns
    -------
    dict of part to ndarray, shape (n_sites, n_kinds), bool
    """
    sizes = [n_sites * n_kinds for n_sites, n_kinds in shapes.values()]
    drawn = np.zeros(sum(sizes), np.bool_)
    drawn[np.random.default_rng(seed).choice(drawn.size, min(curves, drawn.size), replace=False)] = True
    parts = np.split(drawn, np.cumsum(sizes)[:-1])
    return {part: mine.reshape(shape) for (part, shape), mine in zip(shapes.items(), parts, strict=True)}
