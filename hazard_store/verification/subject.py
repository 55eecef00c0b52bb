"""What is to be verified: how it was stored, and that nobody stores or deletes it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hazard_store import meta as meta_room
from hazard_store.errors import LeaseHeldError, NotStoredError
from hazard_store.jobs import SiteCodes
from hazard_store.layouts import Layout
from hazard_store.lease import Lease
from hazard_store.ledger import CalculationRecord, Ledger, layout_of
from hazard_store.names import CurvePart
from hazard_store.settings import Settings
from hazard_store.storage.reader import Reader
from hazard_store.stored import StoredCurves

OnProgress = Callable[[int, int], None]
"""Takes the items looked at so far, and how many there should be."""


@dataclass(frozen=True)
class Subject:
    """A stored calculation in one layout.

    Attributes
    ----------
    parts : sequence of str
        What was asked to be stored.
    sites, parent, trust_imt_order
        How its file must be opened.
    record : CalculationRecord or None
        None if the ledger lost it.
    """

    haz_sol_id: str
    layout: Layout
    settings: Settings
    parts: Sequence[str]
    record: CalculationRecord | None
    sites: SiteCodes = "auto"
    parent: str | None = None
    trust_imt_order: bool = False

    def stored(self, part: CurvePart) -> StoredCurves:
        """Where its curves of a part are."""
        bins = () if self.record is None else self.record.bins
        return StoredCurves(self.haz_sol_id, self.layout, part, self.settings, Reader(self.settings), bins)


def find_subject(haz_sol_id: str, layout: Layout | None, settings: Settings) -> Subject:
    """Find out how a calculation was stored.

    Raises
    ------
    NotStoredError
        If neither the ledger nor a meta knows it.
    """
    try:
        record = Ledger(settings).require_calculation(haz_sol_id, layout)
    except NotStoredError:
        # The ledger lost it; the meta may still have it.
        meta = meta_room.read_meta(haz_sol_id, settings, layout)
        return Subject(haz_sol_id, meta.layout, settings, meta.parts, None)
    return Subject(
        haz_sol_id,
        layout_of(record),
        settings,
        record.parts,
        record,
        "normalised" if record.sites == "normalised" else "auto",
        record.parent,
        record.trust_imt_order,
    )


class Standstill:
    """Makes sure that differences are the store's own, and not the work of a run that was under way.

    Parameters
    ----------
    on_wait : callable
        Told the run that holds the lease, when it has to be seen whether that run is alive.

    Attributes
    ----------
    waited : bool
        Whether a run that has died, or ended with chunks under way, was waited for.

    Raises
    ------
    LeaseHeldError
        If a run that lives is storing or deleting the calculation.
    """

    def __init__(self, subject: Subject, on_wait: Callable[[str], None]) -> None:
        self._subject = subject
        self._lease = Lease(subject.haz_sol_id, subject.layout, "verify", subject.settings)
        dead = self._lease.await_end(on_wait=on_wait)
        self.waited = dead is not None
        if dead is not None:
            time.sleep(dead.stop_secs)
        self._before = self._now()

    def check(self) -> None:
        """Look whether a run began, or ended, since.

        Raises
        ------
        LeaseHeldError
            If one did.
        """
        if self._now() != self._before:
            raise LeaseHeldError(
                f"{self._subject.haz_sol_id!r} was stored or deleted while it was verified, so that what was found may "
                "be of before and after: verify it again when that has ended"
            )

    def _now(self) -> tuple[object, ...]:
        lease = self._lease.read()
        record = Ledger(self._subject.settings).calculation(self._subject.haz_sol_id, self._subject.layout)
        return (
            None if lease is None else (lease.holder, lease.beat),
            None if record is None else (record.run_id, record.status, record.updated),
        )
