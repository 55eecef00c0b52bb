"""What a verification finds: differences, and how many of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be.

    Attributes
    ----------
    what : str
        ``value``, ``missing item``, ``extra item``, ``wrong loc`` (or another attribute), ``undecodable item``,
        ``meta``, ``digest``, ``no digest`` or ``mean``.
    site, kind, imt : str or None
        Where, as far as it applies. For a meta, `kind` is the path in the document, such as ``sites.lat[3]``; for a
        digest, `kind` is the chunk and `site` its first and last site.
    level : float or None
        Intensity level in the IMT's unit.
    expected, got : float, str or None
        In the file (or the ledger, or as a weighted mean), and in the store.
    """

    what: str
    site: str | None = None
    kind: str | None = None
    imt: str | None = None
    level: float | None = None
    expected: float | str | None = None
    got: float | str | None = None

    def __str__(self) -> str:
        place = " ".join(str(word) for word in (self.site, self.kind, self.imt) if word is not None)
        level = "" if self.level is None else f" at {self.level:g}"
        values = "" if self.expected is self.got is None else f": expected {self.expected}, got {self.got}"
        return f"{self.what} {place}{level}{values}"


@dataclass
class Tally:
    """Counts what is found, and keeps the first differences."""

    max_differences: int
    checked_items: int = 0
    checked_values: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    meta_differences: int = 0
    differences: list[Difference] = field(default_factory=list)

    def note(self, difference: Difference) -> None:
        """Keep a difference if there is room for it; the counters are the caller's."""
        if len(self.differences) < self.max_differences:
            self.differences.append(difference)
