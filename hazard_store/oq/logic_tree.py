"""The realisations of a logic tree, enumerated or sampled as the engine that wrote the file did.

The file holds the branches, the paths through the source models and the seed, not the realisations themselves, so
each is rebuilt here; the caller compares count and weights with what the file does hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hazard_store.errors import NotStorableError
from hazard_store.oq.hdf5 import READ_ERRORS, Reader, decoded, version_numbers

FIRST_WITH_NEW_GENERATOR = (3, 26)
"""Up to 3.25.1 samples come from numpy's legacy generator, from 3.26.0 from `default_rng`."""

DEFAULT_SAMPLING_METHOD = "early_weights"
DEFAULT_SEED = 42
MERGED = "reduce-rlzs"
"""The `oversampling` under which engines 3.17 and 3.18 merge samples of one path."""

PATH_SEPARATOR = "~"

MAX_SOURCE_PATHS = 500_000
"""A path with the realisation that is sampled on it takes 900 bytes, and opening a file may take 512 MB."""

_SAMPLING = ("num_samples", "sampling_method", "seed")


@dataclass(frozen=True, slots=True)
class Realisation:
    """One path through the logic tree.

    Attributes
    ----------
    rlz : int
        Its ordinal, the index in the second axis of `hcurves-rlzs`.
    source_path, gsim_path : tuple of str
        Branch ids as the file holds them; empty where they cannot be told rightly.
    weight : float, optional
        Its weight; all weights of a calculation add up to 1.
    """

    rlz: int
    source_path: tuple[str, ...]
    gsim_path: tuple[str, ...]
    weight: float | None


@dataclass(frozen=True)
class LogicTreeTables:
    """The logic tree as columns of plain values, ready for a pandas `DataFrame`.

    Attributes
    ----------
    sources : dict of list
        `branchset`, `branch`, `utype`, `uvalue`, `weight`: one row a branch of the source-model logic tree.
    gsims : dict of list
        `trt`, `branch`, `uncertainty`, `weight`: one row a branch of the ground-motion logic tree.
    realisations : dict of list
        `source_path`, `gsim_path` (branch ids joined by `~`), `branch_path` (both; one that comes again carries
        `#2`, `#3`, ...), `weight`: one row a realisation.
    """

    sources: dict[str, list[Any]]
    gsims: dict[str, list[Any]]
    realisations: dict[str, list[Any]]


@dataclass(frozen=True)
class SourceModelPath:
    """A path through the source-model logic tree, with its weight and how often it was sampled."""

    branches: tuple[str, ...]
    weight: float
    samples: int


@dataclass(frozen=True)
class GsimBranch:
    """A branch of the ground-motion logic tree: raw id and weight (of the IMTs that have no weight of their own)."""

    branch: str
    weight: float


Path = tuple[tuple[str, ...], tuple[str, ...], float]
"""Source path, gsim path and weight, not yet normalised."""


@dataclass(frozen=True)
class LogicTree:
    """What the file says about the logic tree; `gsims` has one entry a tectonic region type, in the engine's order."""

    paths: tuple[SourceModelPath, ...]
    gsims: tuple[tuple[GsimBranch, ...], ...]
    num_samples: int
    sampling_method: str
    seed: int
    merged: bool
    version: tuple[int, ...]
    nightly: bool
    source_table: dict[str, list[Any]]
    gsim_table: dict[str, list[Any]]
    imts_with_own_weights: tuple[str, ...] = ()

    @property
    def generator_in_doubt(self) -> bool:
        """Whether the file is sampled by a nightly of the very release that changed the generator."""
        return self.num_samples > 0 and self.nightly and self.version[:3] == (*FIRST_WITH_NEW_GENERATOR, 0)

    def count(self) -> int:
        """Return how many realisations there are, before any merging."""
        if self.num_samples:
            return sum(path.samples for path in self.paths)
        return len(self.paths) * math.prod(len(branches) for branches in self.gsims)

    def realisations(self, *, legacy: bool | None = None) -> list[Path]:
        """Return all realisations in the engine's order; their weights add up to 1.

        Parameters
        ----------
        legacy : bool, optional
            Which of the engine's two random generators to use; by default that of the file's engine.
        """
        if not self.num_samples:
            return _normalised(list(self._enumerated()))
        use_legacy = self.version[:2] < FIRST_WITH_NEW_GENERATOR if legacy is None else legacy
        sampled = list(self._sampled(use_legacy))
        return self._merged(sampled) if self.merged else _normalised(sampled)

    def _enumerated(self) -> Iterator[Path]:
        # Made once, and not anew for each source path: a million tuples are 80 MB.
        branches = [tuple(gsim.branch for gsim in gsims) for gsims in itertools.product(*self.gsims)]
        weights = [tuple(gsim.weight for gsim in gsims) for gsims in itertools.product(*self.gsims)]
        for path in self.paths:
            for gsim_path, factors in zip(branches, weights, strict=True):
                yield path.branches, gsim_path, math.prod(factors, start=path.weight)

    def _sampled(self, legacy: bool) -> Iterator[Path]:
        repeated = [path for path in self.paths for _ in range(path.samples)]
        picks = self._picks(len(repeated), legacy)
        early = self.sampling_method.startswith("early")
        for path, row in zip(repeated, picks.tolist(), strict=True):
            gsims = [branches[pick] for branches, pick in zip(self.gsims, row, strict=True)]
            # Early sampling spends the weights on the choice; late sampling chooses evenly and keeps them.
            weight = 1.0 if early else math.prod((gsim.weight for gsim in gsims), start=path.weight)
            yield path.branches, tuple(gsim.branch for gsim in gsims), weight

    def _picks(self, n_samples: int, legacy: bool) -> NDArray[np.int64]:
        """Return which branch each sample takes, shape (n_samples, n_trts)."""
        shape = (n_samples, len(self.gsims))
        seed = self.seed + 1
        # The engine seeds numpy's global generator; RandomState is the same generator without touching the process.
        uniform = (
            np.random.RandomState(seed).uniform(size=shape) if legacy else np.random.default_rng(seed).random(shape)
        )
        picks = np.zeros(shape, np.int64)
        for column, branches in enumerate(self.gsims):
            draws = uniform[:, column]
            if self.sampling_method.endswith("latin"):
                draws = (np.argsort(draws) + draws) / n_samples
            if self.sampling_method.startswith("early"):
                chosen = np.searchsorted(np.cumsum([gsim.weight for gsim in branches]), draws)
            else:
                chosen = (draws * len(branches)).astype(np.int64)
            picks[:, column] = np.minimum(chosen, len(branches) - 1)
        return picks

    def _merged(self, sampled: Sequence[Path]) -> list[Path]:
        """Merge samples of one path; it weighs as often as it was drawn, after late sampling too (measured on 3.18)."""
        times: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
        for source_path, gsim_path, _ in sampled:
            times[source_path, gsim_path] = times.get((source_path, gsim_path), 0) + 1
        return [(source, gsim, number / len(sampled)) for (source, gsim), number in sorted(times.items())]


def _normalised(paths: list[Path]) -> list[Path]:
    total = math.fsum(weight for _, _, weight in paths)
    if not total > 0:
        return paths
    return [(source, gsim, weight / total) for source, gsim, weight in paths]


def read_logic_tree(reader: Reader, engine_version: str, parameters: dict[str, Any]) -> LogicTree | None:
    """Read `full_lt`; `None` where the file has none (child calculations).

    Raises
    ------
    NotStorableError
        If it is there but damaged, or larger than can be read.
    """
    stored = reader.dataset("full_lt/sm_data")
    if stored is not None and stored.size is not None and stored.size > MAX_SOURCE_PATHS:
        raise NotStorableError(
            f"full_lt/sm_data holds {stored.size:,} paths through the source models, and {MAX_SOURCE_PATHS:,} is what "
            "can be read at most; run the job with a lower number_of_logic_tree_samples",
            source=reader.source,
        )
    model_rows, gsim_rows = reader.values("full_lt/sm_data"), reader.values("full_lt/gsim_lt")
    if model_rows is None or gsim_rows is None:
        return None
    try:
        branches_of_trt: dict[str, list[GsimBranch]] = {}
        weight_column = _weight_column(gsim_rows.dtype)
        for row in gsim_rows:
            branch = GsimBranch(_text(row["branch"]), float(row[weight_column]))
            branches_of_trt.setdefault(_text(row["trt"]), []).append(branch)
        full = reader.attributes("full_lt", ("trts", "oversampling", *_SAMPLING))
        occurring = full.get("trts")
        trts = sorted(branches_of_trt)
        if isinstance(occurring, list) and any(trt in branches_of_trt for trt in occurring):
            trts = [trt for trt in trts if trt in occurring]
        sampling = full | reader.attributes("full_lt/source_model_lt", _SAMPLING)
        # After merging, full_lt's own num_samples is R; source_model_lt keeps the number that was drawn.
        return LogicTree(
            paths=tuple(_source_model_path(row) for row in model_rows),
            gsims=tuple(tuple(branches_of_trt[trt]) for trt in trts),
            num_samples=int(sampling.get("num_samples", parameters.get("number_of_logic_tree_samples", 0))),
            sampling_method=str(
                sampling.get("sampling_method", parameters.get("sampling_method", DEFAULT_SAMPLING_METHOD))
            ),
            seed=int(sampling.get("seed", parameters.get("random_seed", DEFAULT_SEED))),
            merged=full.get("oversampling") == MERGED,
            version=version_numbers(engine_version),
            nightly="git" in engine_version,
            source_table=_table(
                reader.values("full_lt/source_model_lt"), ("branchset", "branch", "utype", "uvalue", "weight")
            ),
            gsim_table=_table(gsim_rows, ("trt", "branch", "uncertainty", weight_column)),
            imts_with_own_weights=tuple(
                name for name in gsim_rows.dtype.names if name not in (*_TABLE_COLUMNS, weight_column)
            ),
        )
    except READ_ERRORS as exc:
        raise reader.damaged("full_lt", exc) from exc


def _weight_column(dtype: np.dtype[Any]) -> str:
    """Return the column of the common weight; columns named after IMTs hold weights for those alone."""
    names = dtype.names or ()
    return "weight" if "weight" in names else names[-1]


def _source_model_path(row: Any) -> SourceModelPath:
    return SourceModelPath(
        branches=tuple(_text(row["path"]).split(PATH_SEPARATOR)),
        weight=float(row["weight"]),
        samples=int(row["samples"]),
    )


def _text(value: Any) -> str:
    text = decoded(value)
    if not isinstance(text, str):
        raise TypeError(f"expected text, got {type(text).__name__}")
    return text


def _table(rows: Any, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    if rows is None or not isinstance(rows, np.ndarray) or not rows.dtype.names:
        return {}
    return {
        name if name in _TABLE_COLUMNS else "weight": [decoded(value) for value in rows[name].tolist()]
        for name in columns
        if name in rows.dtype.names
    }


_TABLE_COLUMNS = ("branchset", "branch", "utype", "uvalue", "trt", "uncertainty", "weight")


def read_weights(reader: Reader) -> tuple[NDArray[np.float64] | None, str]:
    """Return the stored weights, shape (R,), or `None`; of weights per IMT those of the last column, the common one.

    Besides, why weights that are there cannot be told, or an empty text: paths must not pass for checked against them.
    """
    found = reader.find("weights")
    if found is None:
        return None, ""
    if not isinstance(found, h5py.Dataset):
        return None, "weights is a group, expected an array"
    values = reader.values("weights")
    try:
        if values.dtype.names:
            values = values[_weight_column(values.dtype)]
        weights = np.asarray(values, np.float64)
    except READ_ERRORS as exc:
        raise reader.damaged("weights", exc) from exc
    if weights.ndim == 2 and weights.shape[1]:
        weights = weights[:, -1]
    if weights.ndim != 1:
        return None, f"weights has shape {weights.shape}, expected one a realisation"
    return weights, ""


def tables_of(tree: LogicTree, realisations: Sequence[Realisation]) -> LogicTreeTables:
    """Return the tables of `tree` with the realisations as they were established."""
    source_paths = _joined(realisation.source_path for realisation in realisations)
    gsim_paths = _joined(realisation.gsim_path for realisation in realisations)
    seen: dict[str, int] = {}
    branch_paths = []
    for realisation, source_path, gsim_path in zip(realisations, source_paths, gsim_paths, strict=True):
        told = [source_path] * bool(realisation.source_path) + [gsim_path] * bool(realisation.gsim_path)
        path = PATH_SEPARATOR.join(told) or f"{realisation.rlz:05d}"
        seen[path] = seen.get(path, 0) + 1
        branch_paths.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return LogicTreeTables(
        sources=tree.source_table,
        gsims=tree.gsim_table,
        realisations={
            "source_path": source_paths,
            "gsim_path": gsim_paths,
            "branch_path": branch_paths,
            "weight": [realisation.weight for realisation in realisations],
        },
    )


def _joined(paths: Iterable[tuple[str, ...]]) -> list[str]:
    """Join the branch ids of each path; equal paths share one text."""
    texts: dict[tuple[str, ...], str] = {}
    return [texts.get(path) or texts.setdefault(path, PATH_SEPARATOR.join(path)) for path in paths]
