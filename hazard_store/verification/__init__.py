"""Verifying what is stored, as a reader would see it, in one of four modes.

============ ====================================================================================
`full`       every key, every value to the bit, and the meta, compared with the file
`sample`     some curves, drawn at random, and the meta, compared with the file
`digest`     every key and value, and the meta, compared with the digests that the ledger has from the store
`scientific` each stored mean compared with the weighted mean of the stored realisations
============ ====================================================================================

docs/reliability.md says which of them finds what. Items are read with the IMTs and levels of the stored meta and
compared by label, so that a curve under another IMT's label is found as well as a changed bit.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from hazard_store.errors import UsageError
from hazard_store.layouts import Layout
from hazard_store.meta import Meta
from hazard_store.settings import Settings
from hazard_store.verification.against_file import compare_with_file
from hazard_store.verification.against_ledger import compare_with_ledger
from hazard_store.verification.differences import Difference, Tally
from hazard_store.verification.report import MODES, Mode, VerifyReport
from hazard_store.verification.scientific import compare_with_itself
from hazard_store.verification.subject import OnProgress, Standstill, find_subject

__all__ = ["DEFAULT_CURVES", "FILE_MODES", "MODES", "Difference", "Mode", "VerifyReport", "verify"]

DEFAULT_CURVES = 1_000

FILE_MODES: tuple[Mode, ...] = ("full", "sample")
"""The modes that read the file."""


def verify(
    source: str | None,
    haz_sol_id: str,
    *,
    mode: Mode = "full",
    curves: int = DEFAULT_CURVES,
    seed: int | None = None,
    layout: Layout | None = None,
    settings: Settings | None = None,
    parent: str | None = None,
    on_progress: OnProgress = lambda done, total: None,
    on_wait: Callable[[str], None] = lambda holder: None,
    max_differences: int = 20,
) -> VerifyReport:
    """Compare what is stored with the file, with the ledger, or with itself.

    Parameters
    ----------
    source : str or None
        The calculation's file; modes `digest` and `scientific` do not read it.
    curves, seed : int
        How many curves a sample has, and how it is drawn; a seed that is not given is reported.
    layout : Layout, optional
        By default the one that was stored last.
    parent : str, optional
        The file with its logic tree; by default the one that it was stored with.
    on_progress : callable, optional
    on_wait : callable, optional
        Told the run that holds the calculation's lease, when it has to be seen whether that run is alive.
    max_differences : int
        How many differences the report spells out; all are counted.

    Raises
    ------
    NotStoredError
        If nothing is stored under the id; in mode `digest` also if the ledger does not know it.
    LeaseHeldError
        If a run is storing or deleting the calculation, or began to while it was compared and differences were found.
    SourceError
        If the file cannot be read, or changes while it is.
    UsageError
        If the mode needs a file, or a mean and realisations, and there is none.
    """
    settings = settings or Settings.from_environment()
    subject = find_subject(haz_sol_id, layout, settings)
    tally = Tally(max_differences)
    standstill = Standstill(subject, on_wait)
    if standstill.waited:
        # For a run that may have stored it anew, or deleted it.
        subject = find_subject(haz_sol_id, subject.layout, settings)
    meta: Meta | None
    notes: tuple[str, ...] = ()
    if mode in FILE_MODES:
        if source is None:
            raise UsageError(f"mode {mode} compares with the file: name it, or choose mode digest or scientific")
        if mode == "sample" and curves < 1:
            raise UsageError(f"a sample needs at least 1 curve, not {curves}")
        if mode == "sample" and seed is None:
            seed = secrets.randbelow(1 << 32)
        sample = (curves, seed) if mode == "sample" and seed is not None else None
        meta = compare_with_file(subject, source, parent, tally, on_progress, sample)
    elif mode == "digest":
        meta = compare_with_ledger(subject, tally, on_progress)
    elif mode == "scientific":
        meta, notes = compare_with_itself(subject, tally, on_progress)
    else:
        raise UsageError(f"unknown mode {mode!r}: choose {', '.join(MODES)}")
    report = VerifyReport(
        haz_sol_id=haz_sol_id,
        layout=subject.layout.name,
        complete=meta is not None and meta.complete,
        checked_items=tally.checked_items,
        checked_values=tally.checked_values,
        missing=tally.missing,
        extra=tally.extra,
        different=tally.different,
        meta_differences=tally.meta_differences,
        differences=tuple(tally.differences),
        mode=mode,
        seed=seed if mode == "sample" else None,
        notes=notes,
    )
    if not report.ok:
        standstill.check()
    return report
