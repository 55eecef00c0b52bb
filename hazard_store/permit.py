"""Whether a run may write, seen from wherever its chunks are stored."""

from __future__ import annotations

import time
from collections.abc import Callable

from hazard_store import lease
from hazard_store.errors import LeaseLostError, StorageError
from hazard_store.layouts import Layout
from hazard_store.settings import Settings


class Permit:
    """Whether a run may write: a look at its lease from wherever its chunks are stored.

    Parameters
    ----------
    haz_sol_id : str
    holder : str
        The run for which is asked.
    read : callable
        Gives the lease, as ``Lease.read``.
    clock : callable

    Attributes
    ----------
    lost : str or None
        Why the run must not write any more, once ``check`` found that; it stays so.
    chunks : int or None
        How many chunks share the run's write budget, as the lease said at the last look.
    """

    def __init__(
        self,
        haz_sol_id: str,
        holder: str,
        read: Callable[[], lease.LeaseEntry | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost: str | None = None
        self.chunks: int | None = None
        self._haz_sol_id = haz_sol_id
        self._holder = holder
        self._read = read
        self._clock = clock
        self._seen: tuple[str, float] | None = None  # the beat, and when it was first seen

    @classmethod
    def of(cls, haz_sol_id: str, layout: Layout, holder: str, settings: Settings) -> Permit:
        """Make one that reads the ledger's table."""
        return cls(haz_sol_id, holder, lease.Lease(haz_sol_id, layout, holder, settings).read)

    def check(self) -> None:
        """Look at the lease.

        A read that fails says nothing about the lease, and while the store does not answer its holder cannot renew it
        either: what was seen before is forgotten, so that only a beat that is seen to stand still counts as one.

        Raises
        ------
        LeaseLostError
            If it was given back, another run has it, or it was not renewed for `lease.LEASE_SECS`.
        """
        if self.lost is None:
            try:
                entry = self._read()
            except StorageError:
                self._seen = None
                return
            self.lost = self._judge(entry)
        if self.lost is not None:
            raise LeaseLostError(self.lost)

    def _judge(self, entry: lease.LeaseEntry | None) -> str | None:
        if entry is None or (entry.ended and entry.holder == self._holder):
            return (
                f"run {self._holder} has no lease of {self._haz_sol_id!r}: it was cancelled or has ended, and nothing "
                "more is written for it"
            )
        if entry.holder != self._holder:
            return f"run {entry.holder} has taken the lease of {self._haz_sol_id!r} from run {self._holder}"
        self.chunks = None if entry.chunks is None else int(entry.chunks)
        now = self._clock()
        if self._seen is None or self._seen[0] != entry.beat:
            self._seen = (entry.beat, now)
        elif now - self._seen[1] >= lease.LEASE_SECS:
            return (
                f"run {self._holder} has not renewed its lease of {self._haz_sol_id!r} for {lease.LEASE_SECS:g} s: its "
                "process is dead or cut off from the store"
            )
        return None
