"""A lease on a calculation: two runs never store, or store and delete, the same one in the same layout at once.

The holder renews its lease every few seconds while it lives. Whoever finds it taken watches it: a lease that is
renewed is somebody's, and the newcomer is refused; one that stays as it was for `LEASE_SECS` belonged to a run that
died, and the newcomer takes it over. Only durations on one clock are compared, so clocks that disagree do no harm,
but for leases so old (`FORGOTTEN_SECS`) that no clock is off by that much.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.expressions.condition import Condition

from hazard_store.errors import HazardStoreError, LeaseHeldError, LedgerError
from hazard_store.layouts import Layout
from hazard_store.settings import Settings
from hazard_store.storage.faults import is_condition_failure, translated
from hazard_store.storage.models import LedgerEntry, StoreModel, bind

RENEW_SECS = 5.0
LEASE_SECS = 20.0
FORGOTTEN_SECS = 3_600.0


class LeaseEntry(StoreModel):
    """A lease, in the ledger's table beside the calculation's chunks."""

    table_base = LedgerEntry.table_base

    haz_sol_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)  # `{layout}#lease`
    holder = UnicodeAttribute()
    beat = UnicodeAttribute()  # another one with each renewal
    renewed = NumberAttribute()  # epoch s on the holder's clock


class Lease:
    """A lease that this run holds, or wants.

    Parameters
    ----------
    holder : str
        The run's id, by which a refused one names it.
    """

    def __init__(self, haz_sol_id: str, layout: Layout, holder: str, settings: Settings) -> None:
        self._model = bind(LeaseEntry, settings)
        self._settings = settings
        self._key = (haz_sol_id, f"{layout.name}#lease")
        self._holder = holder
        self._beat: str | None = None

    def acquire(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[str], None] = lambda holder: None,
    ) -> None:
        """Take the lease, waiting at most `LEASE_SECS` to see whether another holder is alive.

        Raises
        ------
        LeaseHeldError
            If it is.
        """
        seen: tuple[str, str] | None = None
        seen_at = clock()
        while True:
            held = self._read()
            if held is None:
                if self._write(self._model.entry.does_not_exist()):
                    return
                continue
            now = (held.holder, held.beat)
            if seen is None:
                seen = now
                on_wait(held.holder)
            elif now != seen:
                raise LeaseHeldError(
                    f"run {held.holder} is storing or deleting {self._key[0]!r}: wait until it ends, then run again"
                )
            forgotten = time.time() - float(held.renewed) > FORGOTTEN_SECS
            if (forgotten or clock() - seen_at >= LEASE_SECS) and self._write(self._model.beat == held.beat):
                return
            sleep(1.0)

    def renew(self) -> bool:
        """Say that this run lives; False if another one has taken the lease over."""
        return self._write(self._model.beat == self._beat)

    def release(self) -> None:
        """Give the lease back, unless another run has it by now."""
        try:
            with translated(self._settings):
                self._model(*self._key).delete(condition=self._model.beat == self._beat)
        except HazardStoreError as exc:
            if not is_condition_failure(exc):
                raise

    def _read(self) -> LeaseEntry | None:
        with translated(self._settings):
            try:
                entry: LeaseEntry = self._model.get(*self._key, consistent_read=True)
            except self._model.DoesNotExist:
                return None
        return entry

    def _write(self, condition: Condition) -> bool:
        beat = uuid.uuid4().hex
        entry = self._model(*self._key, holder=self._holder, beat=beat, renewed=int(time.time()))
        try:
            with translated(self._settings):
                entry.save(condition=condition)
        except HazardStoreError as exc:
            if is_condition_failure(exc):
                return False
            raise
        self._beat = beat
        return True


@contextmanager
def held(
    haz_sol_id: str,
    layout: Layout,
    holder: str,
    settings: Settings,
    on_wait: Callable[[str], None] = lambda holder: None,
) -> Iterator[threading.Event]:
    """Hold the lease of a calculation while the block runs.

    Yields
    ------
    threading.Event
        Set when the lease was lost: the run was taken for dead, and must not write any more.

    Raises
    ------
    LeaseHeldError
        If a run that lives has it.
    LedgerError
        At the end, if it was lost on the way.
    """
    lease = Lease(haz_sol_id, layout, holder, settings)
    lease.acquire(on_wait=on_wait)
    lost, done = threading.Event(), threading.Event()

    def keep() -> None:
        while not done.wait(RENEW_SECS):
            try:
                if not lease.renew():
                    break
            except HazardStoreError:
                # While the store does not answer nobody can take the lease over; the next renewal says if one did.
                continue
        else:
            return
        lost.set()

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lost
    finally:
        done.set()
        keeper.join()
        if not lost.is_set():
            lease.release()
    if lost.is_set():
        raise lost_error(haz_sol_id)


def lost_error(haz_sol_id: str) -> LedgerError:
    """Give the error of a run whose lease another one took over."""
    return LedgerError(
        f"another run took the lease of {haz_sol_id!r} over, for this one had not renewed it for {LEASE_SECS:g} s: "
        "`hazard-store status` says what is stored"
    )
