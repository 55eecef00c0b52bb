"""What a verification reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hazard_store.verification.differences import Difference

Mode = Literal["full", "digest", "sample", "scientific"]
MODES: tuple[Mode, ...] = get_args(Mode)

_AGAINST: dict[Mode, str] = {
    "full": "compared with the file",
    "sample": "drawn at random and compared with the file",
    "digest": "compared with the ledger's digests",
    "scientific": "checked: each mean against the weighted mean of its realisations",
}
_DIFFERENT: dict[Mode, str] = {
    "full": "values differ",
    "sample": "values differ",
    "digest": "chunks or items differ",
    "scientific": "means or items differ",
}


@dataclass(frozen=True)
class VerifyReport:
    """How a store compares with its file, with its ledger, or with itself.

    Attributes
    ----------
    complete : bool
        What the meta says.
    checked_items, checked_values : int
        Items that were looked at; and poes in them that were compared, which in mode ``scientific`` are those of means.
    missing, extra : int
        Items that should be there and are not, and the other way round.
    different : int
        What is not as it should be: values and attributes of items; in mode ``digest`` chunks instead of values.
    meta_differences : int
    differences : tuple of Difference
        The first of them.
    seed : int or None
        With what the sample was drawn.
    notes : tuple of str
        What the mode would look at, and could not.
    """

    haz_sol_id: str
    layout: str
    complete: bool
    checked_items: int
    checked_values: int
    missing: int
    extra: int
    different: int
    meta_differences: int
    differences: tuple[Difference, ...] = ()
    mode: Mode = "full"
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> int:
        """How many differences there are."""
        return self.missing + self.extra + self.different + self.meta_differences

    @property
    def ok(self) -> bool:
        """Whether everything that was looked at is as it should be, and nothing is missing."""
        return not self.found

    @property
    def summary(self) -> str:
        """One line: what was compared, and what came of it."""
        seed = "" if self.seed is None else f" (seed {self.seed})"
        head = (
            f"{self.haz_sol_id} in {self.layout}: {self.checked_values:,} values in {self.checked_items:,} items "
            f"{_AGAINST[self.mode]}{seed}"
        )
        if self.ok:
            return f"{head}, all the same" + ("" if self.complete else "; the meta says that it is not complete")
        counts = {
            _DIFFERENT[self.mode]: self.different,
            "items missing": self.missing,
            "items too many": self.extra,
            "differences in the meta": self.meta_differences,
        }
        return f"{head}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
