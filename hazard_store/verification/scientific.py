"""Comparing the store with itself (`scientific`): each stored mean is the weighted mean of the stored realisations.

The engine computes a mean from the realisations' curves before or after it rounds them to what it stores, and adds them
up in float32 or float64. So from what is stored a mean is known within an interval: each poe is taken one float32 up
and one down, and the sum of R terms may be off by ``(R + 1) * 2**-24`` of itself, the bound for float32 sums of
positive numbers. Where the job averages rates (`use_rates`), a poe is first made a rate, ``-ln(1 - poe)``, in float64,
which does not see poes below ``2**-53``. No bound is fitted to data: docs/reliability.md says how real files lie in
them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError, UsageError
from hazard_store.fetching import place_of
from hazard_store.inventory import Inventory
from hazard_store.meta import Meta
from hazard_store.verification import metas
from hazard_store.verification.differences import Difference, Tally
from hazard_store.verification.subject import OnProgress, Subject
from hazard_store.verification.walk import Found, Walk, note_undecodable

MEAN = "mean"

HALF_ULP = 2.0**-24
"""Relative error of rounding to float32."""

RATE_ATOL = 2.0**-53
"""Absolute error of ``1 - poe`` in float64."""

# Means read at once; the realisations are read site by site.
_WINDOW_SITES = 100

Poes = npt.NDArray[np.float32]
Bounds = npt.NDArray[np.float64]


def compare_with_itself(subject: Subject, tally: Tally, on_progress: OnProgress) -> tuple[Meta | None, tuple[str, ...]]:
    """Compare every stored mean with its realisations; gives the stored meta, and what could not be checked.

    Raises
    ------
    UsageError
        If not both the mean and the realisations are stored.
    """
    meta = metas.read_stored_meta(subject.haz_sol_id, subject.layout, subject.settings, tally)
    if meta is None:
        return None, ()
    rlzs = meta.kinds("realisations")
    if MEAN not in meta.kinds("stats") or not rlzs:
        raise UsageError(
            f"{subject.haz_sol_id!r} is not stored with both a mean and its realisations, so there is nothing to "
            "check: mode digest does without"
        )
    places = [place_of(meta, site) for site in range(len(meta.codes))]
    means = Walk(Inventory(subject.stored("stats"), places, [MEAN]), meta.imtls, tally)
    curves = Walk(Inventory(subject.stored("realisations"), places, rlzs), meta.imtls, tally)
    averaging = Averaging.of(meta)
    total = len(places) * (len(rlzs) + 1)
    for start in range(0, len(places), _WINDOW_SITES):
        window = np.zeros((len(places), 1), np.bool_)
        window[start : start + _WINDOW_SITES] = True
        for mean in means.chosen(window):
            interval = _interval(curves.of_site(mean.site), averaging, len(rlzs), tally)
            if isinstance(mean.poes, CorruptItemError):
                note_undecodable(mean, tally)
            elif interval is not None:
                _compare(mean, mean.poes, interval, meta, tally)
            on_progress(tally.checked_items, total)
    return meta, averaging.notes


class Averaging:
    """How a calculation's mean comes from its realisations.

    Parameters
    ----------
    weights : ndarray, shape (n_rlzs,), or None
        None if they are not known.
    of_rates : bool
        Whether rates are averaged, and not poes.
    other_imts : dict of int to str
        Numbers and names of the IMTs whose weights are others, which the meta does not hold.
    """

    def __init__(self, weights: Bounds | None, *, of_rates: bool, other_imts: dict[int, str]) -> None:
        self.weights = None if weights is None else weights / weights.sum()
        self.of_rates = of_rates
        self.other_imts = other_imts

    @classmethod
    def of(cls, meta: Meta) -> Averaging:
        """Read it from a stored meta."""
        told = meta.document["mean"]
        weights = meta.document["realisations"]["weight"]
        known = len(weights) == len(meta.kinds("realisations")) and None not in weights
        others = {n: imt for n, imt in enumerate(meta.imtls) if imt in told["imts_with_own_weights"]}
        return cls(np.array(weights, np.float64) if known else None, of_rates=told["of"] == "rates", other_imts=others)

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot be checked."""
        only = "it was only checked that each mean lies between the realisations"
        if self.weights is None:
            return (f"the weights of the realisations are not known, so {only}",)
        if self.other_imts:
            return (f"{', '.join(self.other_imts.values())}: weights of their own, not in the meta, so {only}",)
        return ()


class MeanInterval:
    """Between what the mean of one site must lie, from the realisations added so far."""

    def __init__(self, averaging: Averaging, shape: tuple[int, ...]) -> None:
        self._averaging = averaging
        self._low, self._high = np.zeros(shape), np.zeros(shape)
        self._least, self._most = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._n_rlzs = 0

    def add(self, rlz: int, poes: Poes) -> None:
        """Add the curves of a realisation, shape (n_imts, n_levels)."""
        self._n_rlzs += 1
        self._least, self._most = np.minimum(self._least, poes), np.maximum(self._most, poes)
        weights = self._averaging.weights
        # A weight of zero times the infinite rate of poe 1 is no number.
        if weights is not None and weights[rlz] > 0:
            self._low += weights[rlz] * self._scaled(np.nextafter(poes, np.float32(0)))
            self._high += weights[rlz] * self._scaled(np.nextafter(poes, np.float32(1)))

    def bounds(self) -> tuple[Poes, Poes]:
        """Give the least and the greatest mean, shape (n_imts, n_levels)."""
        slack = (self._n_rlzs + 1) * HALF_ULP
        least, most = self._least * (1 - slack), self._most * (1 + slack)
        if self._averaging.weights is not None:
            low, high = self._low * (1 - slack), self._high * (1 + slack)
            if self._averaging.of_rates:
                low, high = -np.expm1(RATE_ATOL - low), -np.expm1(-RATE_ATOL - high)
            rows = [row for row in range(len(low)) if row not in self._averaging.other_imts]
            least[rows], most[rows] = low[rows], high[rows]
        # What is stored was rounded to float32 in the end.
        return (
            np.nextafter(least.astype(np.float32), np.float32(-1)),
            np.nextafter(most.astype(np.float32), np.float32(2)),
        )

    def _scaled(self, poes: Poes) -> Bounds:
        values = poes.astype(np.float64)
        if not self._averaging.of_rates:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            # A poe above 1 gives no number, which no mean equals.
            rates: Bounds = -np.log1p(-values)
        return rates


def _interval(curves: Iterable[Found], averaging: Averaging, n_rlzs: int, tally: Tally) -> MeanInterval | None:
    """Add up a site's realisations; None if some are missing or damaged."""
    interval, added = None, 0
    for found in curves:
        if isinstance(found.poes, CorruptItemError):
            note_undecodable(found, tally)
            continue
        interval = interval or MeanInterval(averaging, found.poes.shape)
        interval.add(found.kind, found.poes)
        added += 1
    return interval if added == n_rlzs else None


def _compare(mean: Found, poes: Poes, interval: MeanInterval, meta: Meta, tally: Tally) -> None:
    low, high = interval.bounds()
    tally.checked_values += poes.size
    imts = list(meta.imtls.items())
    for row, level in np.argwhere(~((low <= poes) & (poes <= high))).tolist():
        imt, levels = imts[row]
        tally.different += 1
        tally.note(
            Difference(
                "mean",
                mean.item.code,
                MEAN,
                imt,
                float(levels[level]),
                f"{low[row, level]:.9g} to {high[row, level]:.9g}",
                float(poes[row, level]),
            )
        )
