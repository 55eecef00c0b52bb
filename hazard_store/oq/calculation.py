"""A calculation: everything about one datastore that storing it needs, and its curves block by block."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from hazard_store.errors import NotADatastoreError, NotStorableError, SourceChangedError, UsageError
from hazard_store.oq.axes import read_axes, stat_to_agg
from hazard_store.oq.boxes import boxes_in
from hazard_store.oq.curves import DATASETS, CurveSet, Findings, Part, read_curve_sets
from hazard_store.oq.description import describe
from hazard_store.oq.examination import DEFAULT_BLOCK_BYTES, refusals_of_curves
from hazard_store.oq.hdf5 import READ_ERRORS, Reader, root_attributes, version_numbers
from hazard_store.oq.logic_tree import LogicTreeTables, Realisation, read_logic_tree, read_weights, tables_of
from hazard_store.oq.opened import OpenedFile
from hazard_store.oq.parameters import read_parameters, refusal_of_mode, to_float
from hazard_store.oq.parent import tree_of_parent
from hazard_store.oq.realisations import establish_realisations
from hazard_store.oq.sites import NO_SITES, SiteCodes, Sites, read_sites, refusals_of_sites
from hazard_store.sources import SourceStamp
from hazard_store.sources.content import Content, content_of

FIRST_WITH_SINGLE_RLZ_CURVES = (3, 17)

_T = TypeVar("_T")


class Calculation:
    """One OpenQuake datastore, open for reading. Use it as a context manager, or call `close`.

    Attributes
    ----------
    source : str
        Absolute path or URL of what was given, the zip archive if it is zipped.
    stamp : SourceStamp
        Size, modification time and ETag of that when it was opened.
    engine_version, calculation_mode : str
    investigation_time : float, optional
        In years.
    checksum32 : int, optional
        The engine's checksum of the job's inputs.
    date, description : str, optional
    parameters : dict
        The job's parameters as stored; unset ones are absent.
    sites : Sites
        In the order of the first axis of the curves.
    imtls : dict of str to ndarray, shape (n_levels,), float64
        Intensity levels of each IMT, in the order of the third axis of what `read` returns.
    imt_slots : ndarray, shape (n_imts,), int
        Where these IMTs stand in the third axis of the stored arrays.
    stats, aggs : tuple of str
        Statistics in stored order, as the engine writes them and by short name.
    realisations : tuple of Realisation
    imts_with_own_weights : tuple of str
        IMTs for which the job weighs its realisations differently; `realisations` has the weights of the others.
    logic_tree : LogicTreeTables, optional
    curves : dict
        Shapes as stored of `stats` (sites, stats, IMTs, levels) and `realisations`; `None` for what is not there.
    """

    def __init__(
        self,
        opened: OpenedFile,
        *,
        parent: str | os.PathLike[str] | None = None,
        sites: SiteCodes = "auto",
        trust_imt_order: bool = False,
    ) -> None:
        self.source = opened.content.source.name
        self.stamp: SourceStamp = opened.content.stamp
        self._opened = opened
        self._fetched_bytes = 0
        self._findings = Findings()
        self._examined = False
        reader = Reader(opened.file, opened.stream, self.source)
        attributes = root_attributes(reader)
        self.engine_version: str = str(attributes.get("engine_version", ""))
        self.checksum32: int | None = _int_or_none(attributes.get("checksum32"))
        self.date: str | None = _text_or_none(attributes.get("date"))
        self.parameters: dict[str, Any] = self._attempt(lambda: read_parameters(reader), {})
        self.calculation_mode: str = str(self.parameters.get("calculation_mode", ""))
        self.investigation_time: float | None = _float_or_none(self.parameters.get("investigation_time"))
        self.description: str | None = _text_or_none(self.parameters.get("description"))
        self._version = version_numbers(self.engine_version)
        self._curve_sets: dict[Part, CurveSet] = self._attempt(lambda: read_curve_sets(reader, self._findings), {})
        self.curves: dict[str, tuple[int, ...] | None] = {
            part: self._curve_sets[part].shape if part in self._curve_sets else None for part in DATASETS
        }
        if self.parameters:
            self._attempt(lambda: self._note_missing_curves(reader), None)
        axes = read_axes(
            self._curve_sets, self.parameters, self._version, self._findings, trust_imt_order=trust_imt_order
        )
        self.imtls, self.imt_slots, self.stats = axes.imtls, axes.imt_slots, axes.stats
        self.aggs: tuple[str, ...] = tuple(stat_to_agg(stat) for stat in axes.stats)
        self.sites: Sites = self._attempt(
            lambda: read_sites(reader, sites, _float_or_none(self.parameters.get("reference_vs30_value"))), NO_SITES
        )
        self._check_sites()
        self.realisations: tuple[Realisation, ...] = ()
        self.imts_with_own_weights: tuple[str, ...] = ()
        self.logic_tree: LogicTreeTables | None = None
        self._set_realisations(reader, parent)

    def _attempt(self, read: Callable[[], _T], otherwise: _T) -> _T:
        """Return what `read` returns; what it refuses is noted beside everything else, for `inspect`."""
        try:
            return read()
        except NotStorableError as exc:
            self._findings.refuse(exc.reason)
            return otherwise

    def _note_missing_curves(self, reader: Reader) -> None:
        missing = [part for part, name in DATASETS.items() if reader.find(name) is None]
        if len(missing) == len(DATASETS):
            if (refusal := refusal_of_mode(self.parameters)) is not None:
                self._findings.refuse(refusal)
            else:
                # Rates that no curves were made of are how some jobs end; without either, the engine may be at work.
                rates = [name for name in ("_rates", "_poes") if reader.find(name) is not None]
                self._findings.refuse(_refusal_without_curves(rates), unfinished=not rates)
        elif "realisations" in missing:
            single = self._version[:2] < FIRST_WITH_SINGLE_RLZ_CURVES
            self._findings.warn(
                "hcurves-rlzs is missing, so only statistics can be stored; individual_rlzs = true makes it"
                + (" (engines up to 3.16 only for more than one realisation)" if single else "")
            )
        elif "stats" in missing:
            self._findings.warn(
                "hcurves-stats is missing, so only realisations can be stored; mean = true or quantiles = ... makes it"
            )

    def _check_sites(self) -> None:
        for refusal in refusals_of_sites(self.sites):
            self._findings.refuse(refusal)
        for curves in self._curve_sets.values():
            if len(self.sites) and len(self.sites) != curves.shape[0]:
                self._findings.refuse(
                    f"sitecol holds {len(self.sites)} sites, but {curves.name} the curves of {curves.shape[0]}; "
                    "they cannot be matched: run the calculation again"
                )

    def _set_realisations(self, reader: Reader, parent: str | os.PathLike[str] | None) -> None:
        tree = self._attempt(lambda: read_logic_tree(reader, self.engine_version, self.parameters), None)
        unknown: tuple[NDArray[np.float64] | None, str] = (None, "")
        weights, fault = self._attempt(lambda: read_weights(reader), unknown)
        rlzs = self._curve_sets.get("realisations")
        n_stored = rlzs.shape[1] if rlzs else None
        if tree is None and parent is not None:
            found = self._attempt(lambda: tree_of_parent(parent, self.source, self.sites, n_stored), None)
            tree, weights, fault = found or (None, weights, fault)
        elif parent is not None:
            self._findings.warn(f"the parent {os.fspath(parent)} was not needed: the file holds its own logic tree")
        if tree is None and parent is None and self._curve_sets:
            calculation = self.parameters.get("hazard_calculation_id")
            if calculation is not None:
                self._findings.warn(
                    f"the logic tree is in its parent (hazard_calculation_id {calculation}); "
                    "name that file as its parent to have the paths of the realisations"
                )
        self.realisations = establish_realisations(tree, weights, n_stored, self._findings, fault)
        if tree is not None:
            self.logic_tree = tables_of(tree, self.realisations)
            self.imts_with_own_weights = tuple(imt for imt in self.imtls if imt in tree.imts_with_own_weights)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know; none of it forbids storing."""
        return tuple(self._findings.warnings)

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why it cannot be stored, as far as has been looked; empty if it can."""
        return tuple(self._findings.refusals)

    @property
    def is_unfinished(self) -> bool:
        """Whether curves are missing or not filled, as far as has been looked: still being computed, or aborted."""
        return self._findings.unfinished

    @property
    def averages_rates(self) -> bool:
        """Whether the job's mean is that of the rates, ``1 - exp(-mean(-ln(1 - poe)))``, and not of the poes."""
        return bool(self.parameters.get("use_rates", False))

    @property
    def has_chunked_curves(self) -> bool:
        """Whether curves are stored in chunks, which HDF5 has to search for."""
        return any(curves.dataset.chunks is not None for curves in self._curve_sets.values())

    @property
    def fingerprint(self) -> str:
        """`sha256:<hex>` of the bytes of the HDF5 file, zipped or not; computed when first asked for."""
        content = self._opened.content
        if content.fingerprint is None:
            self.check_unchanged()
            try:
                fingerprint = content.read_fingerprint()
            except OSError as exc:
                raise NotADatastoreError(
                    f"cannot be read ({exc}); copy the datastore again", source=self.source
                ) from exc
            self.check_unchanged()
            return fingerprint
        return content.fingerprint

    def take_fetched_bytes(self) -> int:
        """Count the bytes that came from S3 since this was last asked; 0 for a file of this machine."""
        before, self._fetched_bytes = self._fetched_bytes, self._opened.content.fetched_bytes
        return self._fetched_bytes - before

    def check_unchanged(self) -> None:
        """Raise `SourceChangedError` if the source's stamp is not the one that it had when it was opened."""
        now = self._opened.content.source.stamp()
        if now != self.stamp:
            raise SourceChangedError(
                f"changed while in use ({self.stamp}, then {now}); wait until nothing writes to it, then run again",
                source=self.source,
            )

    def number_of(self, part: str) -> int:
        """Return S or R, the number of curves a site in `part` (`stats` or `realisations`); 0 if it is not stored."""
        shape = self.curves.get(part)
        if part not in DATASETS:
            raise UsageError(f"unknown part {part!r}, expected one of {', '.join(DATASETS)}")
        return shape[1] if shape else 0

    def read(self, part: str, start: int, stop: int, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
        """Return the curves of a block of sites, read as one slice.

        Parameters
        ----------
        part : {"stats", "realisations"}
        start, stop : int
            Range of sites.
        first, last : int
            Range of statistics or realisations, by default all.

        Returns
        -------
        ndarray, shape (stop - start, last - first, n_imts, n_levels), float32, C-contiguous
            Probability of exceedance in `investigation_time`.

        Raises
        ------
        UsageError
            If the part or the ranges are not in the file.
        NotStorableError
            If a value is not finite, or cannot be read.
        """
        curves = self._curves_of(part)
        n_sites, n_labels = curves.shape[:2]
        end = n_labels if last is None else last
        if not (0 <= start <= stop <= n_sites and 0 <= first <= end <= n_labels):
            raise UsageError(
                f"{curves.name} has {n_sites} sites and {n_labels} curves a site, "
                f"expected ranges within them, got sites {start}:{stop} and curves {first}:{end}"
            )
        try:
            poes = _read(curves.dataset, slice(start, stop), slice(first, end))
        except READ_ERRORS as exc:
            raise NotStorableError(
                f"{curves.name} cannot be read at sites {start} to {stop} ({exc}); copy the datastore again",
                source=self.source,
            ) from exc
        if len(self.imt_slots) != curves.shape[2]:
            poes = poes[:, :, self.imt_slots]
        poes = np.ascontiguousarray(poes, np.float32)
        if not np.isfinite(poes).all():
            site, label = np.argwhere(~np.isfinite(poes))[0, :2].tolist()
            raise NotStorableError(
                f"{curves.name} holds NaN or infinity at site {self._code(start + site)}, curve {first + label}: "
                "the calculation went wrong; run it again",
                source=self.source,
            )
        return poes

    def _curves_of(self, part: str) -> CurveSet:
        for known, curves in self._curve_sets.items():
            if known == part:
                if not self._opened.file:
                    raise UsageError(f"{self.source} is closed; open it again to read from it")
                return curves
        self.number_of(part)
        raise UsageError(f"{self.source} holds no {part}; store the parts that it has")

    def _code(self, site: int) -> str:
        return self.sites.codes[site] if site < len(self.sites) else str(site)

    def examine(self, block_bytes: int = DEFAULT_BLOCK_BYTES) -> tuple[str, ...]:
        """Read every stored curve once, at most `block_bytes` at a time, and return all refusals, old and new."""
        if not self._examined:
            try:
                for refusal, unfinished in refusals_of_curves(self._curve_sets, self.stats, self.sites, block_bytes):
                    self._findings.refuse(refusal, unfinished=unfinished)
            except READ_ERRORS as exc:
                self._findings.refuse(f"the curves cannot be read to their end ({exc}); copy the datastore again")
            self._examined = True
        return self.refusals

    def check_curves(self, block_bytes: int = DEFAULT_BLOCK_BYTES) -> None:
        """Read every stored curve once and raise `NotStorableError` if they are not finished, finite probabilities."""
        refusals = self.examine(block_bytes)
        if refusals:
            raise NotStorableError(refusals[0], source=self.source)

    def describe(self) -> dict[str, Any]:
        """Return what `hazard-store inspect --json` prints, for which all curves are read first."""
        self.examine()
        return describe(self)

    def close(self) -> None:
        """Close the file; blocks that were read stay valid."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Calculation({self.source!r}, engine {self.engine_version}, {self.calculation_mode})"


def open_calculation(
    source: str | os.PathLike[str],
    *,
    parent: str | os.PathLike[str] | None = None,
    sites: Literal["auto", "normalised"] = "auto",
    trust_imt_order: bool = False,
    strict: bool = True,
    ranges: bool = False,
    chunked: bool = False,
    fingerprint: str | None = None,
) -> Calculation:
    """Open an OpenQuake datastore.

    Parameters
    ----------
    source : str or path
        An HDF5 file, a zip archive that holds one, the number of a calculation in the engine's data folder, or the
        URL of one of the first two on S3.
    parent : str or path, optional
        The datastore that a child calculation (`--hc`) was started from; it holds the logic tree.
    sites : {"auto", "normalised"}
        Site codes: the job's own where there are any, or always `[lat~lon]`.
    trust_imt_order : bool
        Accept the IMT labels of an engine (3.17, 3.18) that mixes them up for some jobs.
    strict : bool
        Raise what forbids storing; otherwise it stands in `refusals`.
    ranges : bool
        Fetch of an object on S3 what is read of it only, and not all at once.
    chunked : bool
        What `has_chunked_curves` said when it was open before, by which ranges are best read.
    fingerprint : str, optional
        Known from before, of a source whose stamp the caller compares: it need not be read for it.

    Raises
    ------
    NotADatastoreError
        If it cannot be read at all, strict or not.
    NotStorableError
        If `strict` and it cannot be stored. The values of the curves are not looked at: see `Calculation.check_curves`.
    UsageError
        If `sites` is neither.
    """
    content = content_of(source, ranges=ranges, chunked=chunked)
    content.fingerprint = content.fingerprint or fingerprint
    return calculation_in(content, parent=parent, sites=sites, trust_imt_order=trust_imt_order, strict=strict)


def calculation_in(
    content: Content,
    *,
    parent: str | os.PathLike[str] | None = None,
    sites: SiteCodes = "auto",
    trust_imt_order: bool = False,
    strict: bool = True,
) -> Calculation:
    """Open a datastore whose bytes are at hand, as ``open_calculation`` does; the calculation closes the content."""
    if sites not in ("auto", "normalised"):
        content.close()
        raise UsageError(f"unknown site codes {sites!r}, expected auto or normalised")
    opened = OpenedFile.of(content)
    try:
        calculation = Calculation(opened, parent=parent, sites=sites, trust_imt_order=trust_imt_order)
    except BaseException:
        opened.close()
        raise
    if strict and calculation.refusals:
        calculation.close()
        raise NotStorableError(calculation.refusals[0], source=calculation.source)
    return calculation


def _read(dataset: h5py.Dataset, sites: slice, labels: slice) -> NDArray[np.float32]:
    if dataset.chunks is None:
        return np.asarray(dataset[sites, labels])
    poes = np.empty((sites.stop - sites.start, labels.stop - labels.start, *dataset.shape[2:]), dataset.dtype)
    region = (sites, labels, *(slice(0, length) for length in dataset.shape[2:]))
    for box in boxes_in(dataset, region):
        within = tuple(
            slice(one.start - all_.start, one.stop - all_.start) for one, all_ in zip(box, region, strict=True)
        )
        poes[within] = dataset[box]
    return poes


def _refusal_without_curves(rates: list[str]) -> str:
    remedy = "run the job again with mean = true or individual_rlzs = true"
    if not rates:
        return f"no hcurves-stats and no hcurves-rlzs: the calculation was aborted or told to make none; {remedy}"
    return (
        f"holds {' and '.join(rates)} but neither hcurves-stats nor hcurves-rlzs; {remedy}, "
        "or let the engine make curves from it: oq engine --run job.ini --hc CALC_ID"
    )


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _float_or_none(value: Any) -> float | None:
    return to_float(value) if isinstance(value, (int, float)) else None


def _int_or_none(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and math.isfinite(to_float(value)) else None
