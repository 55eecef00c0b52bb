"""What is to be done with each file of a batch: plain decisions over what is known, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hazard_store.batch.examination import ACCESS, NAMING, Examination, ReaderOptions
from hazard_store.errors import UsageError
from hazard_store.layouts import Layout
from hazard_store.ledger import CalculationRecord
from hazard_store.names import HazSolId, Part
from hazard_store.sources import SourceFile

# What can become of a file. The first three are what a quiet night ends with.
Fate = Literal[
    "stored",  # by this run
    "stored before",
    "being written",  # its size or time changed just now: the next run looks again
    "unfinished",  # its curves are missing or not filled: looked at again when the file changes
    "refused",  # no calculation, or none that can be stored; looked at again when the file changes
    "given up",  # its store failed so often that a person must look
    "failed",
    "to store",  # not tried: a dry run, or the run ended before
]


@dataclass(frozen=True)
class Finding:
    """A file and what becomes of it.

    Attributes
    ----------
    haz_sol_id : HazSolId or None
        None where no id could be made.
    reason : str or None
        Why it is not stored.
    is_news : bool
        Whether a run before this one has not said so already.
    run_id : str or None
        The child run that stored it, or failed to.
    """

    file: SourceFile
    haz_sol_id: HazSolId | None
    fate: Fate
    reason: str | None = None
    is_news: bool = False
    run_id: str | None = None


@dataclass(frozen=True)
class Wanted:
    """How a batch is to be stored: what decides whether a calculation is stored already."""

    layout: Layout
    options: ReaderOptions
    parts: tuple[Part, ...] = ()
    attempts: int = 3


class Sorter:
    """Decides from the ledger's records and from what earlier runs found out.

    Parameters
    ----------
    records : iterable of CalculationRecord
        Of all calculations.
    examined : mapping of str to Examination
        By path.
    """

    def __init__(
        self, wanted: Wanted, records: Iterable[CalculationRecord], examined: Mapping[str, Examination]
    ) -> None:
        self._wanted = wanted
        self._records = {r.haz_sol_id: r for r in records if r.layout == wanted.layout.name}
        self._examined = examined

    def at_sight(self, file: SourceFile, named: HazSolId | UsageError) -> Finding | None:
        """Decide without reading the file; None if it has to be read."""
        if isinstance(named, UsageError):
            unnamed = Examination.of(file, "refused", NAMING, reason=str(named))
            return Finding(file, None, "refused", str(named), is_news=not self.has_said(unnamed))
        record = self._records.get(named)
        as_it_was = record is not None and (record.source, record.source_stamp) == (file.path, file.stamp)
        if as_it_was and self._is_stored(record):
            return Finding(file, named, "stored before")
        known = self._examined.get(file.path)
        if known is None or (known.stamp, known.reader) != (file.stamp, self._wanted.options.name):
            return None
        finding = self.as_examined(file, named, known)
        # What is still to be stored is read anew: it may be long since, and the store will read it anyway.
        return None if finding.fate == "to store" else replace(finding, is_news=False)

    def as_examined(self, file: SourceFile, haz_sol_id: HazSolId, found: Examination) -> Finding:
        """Decide by what reading the file has found."""
        if found.verdict != "ready":
            return Finding(file, haz_sol_id, found.verdict, found.reason, is_news=True)
        record = self._records.get(haz_sol_id)
        if record is not None and record.fingerprint == found.fingerprint and self._is_stored(record):
            return Finding(file, haz_sol_id, "stored before")
        # The run that failed last has told that it is given up.
        finding = Finding(file, haz_sol_id, "to store", is_news=found.attempts < self._wanted.attempts)
        return self.after_failure(finding, found)

    def after_failure(self, finding: Finding, found: Examination) -> Finding:
        """Give a file up that failed in as many runs as are wanted; before that the finding stays as it is."""
        if found.attempts < self._wanted.attempts:
            return finding
        why = (
            f"{found.attempts} runs failed to store it, the last one"
            if found.attempts > 1
            else "a run failed to store it"
        )
        return replace(finding, fate="given up", reason=f"{why}: {found.reason or 'the reason is not known'}")

    def unread(self, file: SourceFile, reason: str) -> Examination:
        """Say that the bytes of a file could not be had; how often its store failed before is not forgotten."""
        known = self._examined.get(file.path)
        before = {} if known is None else {"fingerprint": known.fingerprint, "attempts": known.attempts}
        return Examination.of(file, "refused", ACCESS, reason=reason, **before)

    def has_said(self, found: Examination) -> bool:
        """Whether an earlier run found the same of the same file."""
        known = self._examined.get(found.path)
        return known is not None and (known.stamp, known.reader, known.reason) == (
            found.stamp,
            found.reader,
            found.reason,
        )

    def with_failures(self, found: Examination) -> Examination:
        """Add the stores of this very content that failed before, and why the last one did."""
        known = self._examined.get(found.path)
        if known is None or known.fingerprint is None or known.fingerprint != found.fingerprint:
            return found
        return replace(found, attempts=known.attempts, reason=None if known.reader == ACCESS else known.reason)

    def _is_stored(self, record: CalculationRecord | None) -> bool:
        if record is None or record.status != "complete" or record.sites != self._wanted.options.sites:
            return False
        return set(self._wanted.parts or ("meta", *record.curves_per_site)) <= set(record.parts)


def counted(findings: Sequence[Finding]) -> str:
    """Sum up in one line: ``10 stored, 990 stored before, 1 refused``."""
    fates: dict[Fate, int] = {}
    for finding in findings:
        fates[finding.fate] = fates.get(finding.fate, 0) + 1
    return ", ".join(f"{number:,} {fate}" for fate, number in fates.items()) or "no calculation found"
