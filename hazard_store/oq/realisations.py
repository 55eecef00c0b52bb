"""Which path stands behind each realisation: told only where the file bears it out, by ordinal alone otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hazard_store.oq.curves import Findings
from hazard_store.oq.logic_tree import LogicTree, Path, Realisation

WEIGHT_RTOL = 1e-5
WEIGHT_ATOL = 1e-9
"""The file holds weights as float32, of which a product of many branches may be tiny."""

MAX_REALISATIONS = 1_000_000
"""What is listed: a million take 350 MB, of the 512 that opening a file may take. Real trees have some ten thousand."""


def establish_realisations(
    tree: LogicTree | None,
    weights: NDArray[np.float64] | None,
    n_stored: int | None,
    findings: Findings,
    fault_of_weights: str = "",
) -> tuple[Realisation, ...]:
    """Return the realisations of a calculation, in the order of `hcurves-rlzs`.

    Parameters
    ----------
    tree : LogicTree, optional
        The logic tree of the file or of its parent.
    weights : ndarray, shape (R,), optional
        The stored weights.
    n_stored : int, optional
        R according to `hcurves-rlzs`, if there are any.
    findings : Findings
        Takes a warning if there can be ordinals only.
    fault_of_weights : str
        Why weights that are stored are not known.
    """
    n_expected = n_stored if n_stored is not None else None if weights is None else len(weights)
    if tree is None:
        paths, reason = None, "the file holds no full_lt, as its realisations belong to another calculation"
    elif fault_of_weights:
        paths, reason = None, fault_of_weights
    else:
        paths, reason = _checked_paths(tree, weights, n_expected)
    if paths is not None:
        told = weights.tolist() if weights is not None else [weight for _, _, weight in paths]
        return tuple(
            Realisation(rlz, source_path, gsim_path, weight)
            for rlz, ((source_path, gsim_path, _), weight) in enumerate(zip(paths, told, strict=True))
        )
    if n_stored is not None and n_stored > MAX_REALISATIONS:
        findings.refuse(
            f"hcurves-rlzs holds {n_stored:,} realisations, and {MAX_REALISATIONS:,} is what can be read at most; "
            "run the job with individual_rlzs = false, or sample its logic tree"
        )
        return ()
    if n_expected is None or n_expected > MAX_REALISATIONS:
        findings.warn(f"realisations are unknown: {reason}")
        return ()
    findings.warn(f"realisations are numbered but their paths are not told: {reason}")
    known = weights.tolist() if weights is not None and len(weights) == n_expected else [None] * n_expected
    return tuple(Realisation(rlz, (), (), weight) for rlz, weight in enumerate(known))


def _checked_paths(
    tree: LogicTree, weights: NDArray[np.float64] | None, n_expected: int | None
) -> tuple[list[Path] | None, str]:
    """Return the paths if count and weights agree with the file, else `None` and what does not agree."""
    count = tree.count()
    # Counting is a multiplication, enumerating is not: a tree of a billion paths must not be listed to be refused.
    if n_expected is not None and count != n_expected and not (tree.merged and tree.num_samples):
        return None, f"the logic tree has {count} paths, the file {n_expected} realisations"
    if count > MAX_REALISATIONS:
        kind = "samples" if tree.num_samples else "paths"
        return None, f"the logic tree has {count:,} {kind}, and {MAX_REALISATIONS:,} is what is listed at most"
    if n_expected is not None and weights is not None and len(weights) != n_expected:
        return None, f"the file holds {len(weights)} weights for {n_expected} realisations"
    agreeing = [paths for paths in _candidates(tree) if _agree(paths, weights, n_expected)]
    if not agreeing:
        return None, "the paths rebuilt from full_lt disagree with the file in their number or their weights"
    if any(_labels(paths) != _labels(agreeing[0]) for paths in agreeing[1:]):
        return None, (
            "a nightly engine of the release that changed the random generator sampled them, "
            "and their weights do not tell which generator it had"
        )
    return agreeing[0], ""


def _candidates(tree: LogicTree) -> list[list[Path]]:
    if tree.generator_in_doubt:
        return [tree.realisations(legacy=False), tree.realisations(legacy=True)]
    return [tree.realisations()]


def _labels(paths: list[Path]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(source, gsim) for source, gsim, _ in paths]


def _agree(paths: list[Path], weights: NDArray[np.float64] | None, n_expected: int | None) -> bool:
    if n_expected is not None and len(paths) != n_expected:
        return False
    computed = [weight for _, _, weight in paths]
    return weights is None or bool(np.allclose(computed, weights, rtol=WEIGHT_RTOL, atol=WEIGHT_ATOL))
