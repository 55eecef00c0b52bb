"""A lease on a calculation: two runs never store, or store and delete, the same one in the same layout at once.

The holder renews its lease every few seconds while it lives. Whoever finds it taken watches it: a lease that is
renewed is somebody's, and the newcomer is refused; one that stays as it was for `LEASE_SECS` belonged to a run that
died, and the newcomer takes it over. Only durations on one clock are compared, so clocks that disagree do no harm,
but for leases so old (`FORGOTTEN_SECS`) that no clock is off by that much.

The lease is the permission to write as well: whoever stores a chunk of the run, on whatever machine, looks at it every
few seconds (`permit.Permit`) and ends when it was given back, taken over, or is not renewed any more. So a run that is
cancelled stops its workers by giving the lease back, and one that was killed by no longer renewing it. Until they have
looked they write: a lease that is given back while chunks are under way stays, as `ended`, and whoever takes it, or
that of a dead run, waits `STOP_SECS` before anything is written.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.expressions.condition import Condition

from hazard_store.errors import HazardStoreError, LeaseHeldError, LeaseLostError
from hazard_store.layouts import Layout
from hazard_store.settings import Settings
from hazard_store.storage.faults import RetryPolicy, is_condition_failure, translated
from hazard_store.storage.models import LedgerEntry, StoreModel, bind

logger = logging.getLogger(__name__)

RENEW_SECS = 5.0
LEASE_SECS = 20.0
FORGOTTEN_SECS = 3_600.0

# A chunk looks at the lease every 2 s, a look may take as long, and the request that was sent before it some more. Of a
# lease that ended a minute ago nobody writes any more, as far as clocks go.
STOP_SECS = 8.0
STOPPED_SECS = 60.0

# A renewal that came late would be none, and a look at a lease that took long would tell of another time: both give up
# soon and are made again. Some six timeouts in a row fit into `LEASE_SECS`.
LEASE_TIMEOUT_SECS = 2.0
LEASE_POLICY = RetryPolicy(max_delay_secs=0.5, deadline_secs=4.0, min_attempts=3)


class LeaseEntry(StoreModel):
    """A lease, in the ledger's table beside the calculation's chunks."""

    table_base = LedgerEntry.table_base

    haz_sol_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)  # `{layout}#lease`
    holder = UnicodeAttribute()
    beat = UnicodeAttribute()  # another one with each renewal
    renewed = NumberAttribute()  # epoch s on the holder's clock
    chunks = NumberAttribute(null=True)  # see `Share`
    origin = UnicodeAttribute(null=True)  # see `Lease`
    ended = BooleanAttribute(null=True)  # given back while chunks were under way

    @property
    def stop_secs(self) -> float:
        """How long whoever takes this lease over waits until nobody writes under it any more."""
        age = time.time() - float(self.renewed)
        return 0.0 if age > (STOPPED_SECS if self.ended else FORGOTTEN_SECS) else STOP_SECS


class Share:
    """How many chunks at most are being stored and share a run's write budget; fewer and fewer towards its end.

    Whoever runs the chunks sets it, the lease carries it, and whoever stores a chunk finds it when it looks there. It
    is None while no chunk is stored but by the run's own process, which stops with the run.
    """

    def __init__(self) -> None:
        self.chunks: int | None = None
        self.changed = threading.Event()

    def set(self, chunks: int) -> None:
        """Tell the workers, with a renewal of the lease that is due at once."""
        if chunks != self.chunks:
            self.chunks = chunks
            self.changed.set()

    def end(self) -> None:
        """All chunks that were under way have ended: nobody writes for the run any more."""
        self.chunks = None


class Lease:
    """A lease that this run holds, or wants.

    Parameters
    ----------
    holder : str
        The run's id, no other one's: by it the lease is known as this run's, and a refused run names it.
    share : Share, optional
        What the lease says of the run's chunks.
    origin : str, optional
        How whoever started the run calls it: the id of a flow run. Whoever finds this run dead can say so there.
    """

    def __init__(
        self,
        haz_sol_id: str,
        layout: Layout,
        holder: str,
        settings: Settings,
        share: Share | None = None,
        origin: str | None = None,
    ) -> None:
        self._model = bind(LeaseEntry, settings, LEASE_POLICY, LEASE_TIMEOUT_SECS)
        self._settings = settings
        self._key = (haz_sol_id, f"{layout.name}#lease")
        self._holder = holder
        self._share = share or Share()
        self._origin = origin
        self._tried = False

    def acquire(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[str], None] = lambda holder: None,
    ) -> LeaseEntry | None:
        """Take the lease, waiting at most `LEASE_SECS` to see whether another holder is alive.

        Returns
        -------
        LeaseEntry or None
            Of the dead run from which it was taken over.

        Raises
        ------
        LeaseHeldError
            If it is.
        """
        taken_from: LeaseEntry | None = None
        while True:
            dead = self.await_end(clock, sleep, on_wait)
            if dead is not None and dead.holder == self._holder:
                # The answer to our own write was lost on its way, and the write repeated.
                return taken_from
            taken_from = dead
            if self._write(self._model.entry.does_not_exist() if dead is None else self._model.beat == dead.beat):
                return dead

    def await_end(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[str], None] = lambda holder: None,
    ) -> LeaseEntry | None:
        """See whether a holder is alive, for at most `LEASE_SECS`; gives the lease of one that is not, None for none.

        Its chunks may still be written for `stop_secs`.

        Raises
        ------
        LeaseHeldError
            If it is.
        """
        seen: tuple[str, str] | None = None
        seen_at = clock()
        while (held := self.read()) is not None and held.holder != self._holder:
            now = (held.holder, held.beat)
            if seen is None:
                seen = now
                if held.stop_secs:
                    on_wait(held.holder)
            elif now != seen:
                raise LeaseHeldError(
                    f"run {held.holder} is storing or deleting {self._key[0]!r}: wait until it ends, then run again"
                )
            forgotten = time.time() - float(held.renewed) > FORGOTTEN_SECS
            if held.ended or forgotten or clock() - seen_at >= LEASE_SECS:
                break
            sleep(1.0)
        return held

    def renew(self) -> bool:
        """Say that this run lives; False if another one has taken the lease over."""
        return self._write(self._model.holder == self._holder)

    def release(self) -> None:
        """Give the lease back, unless it was not taken or another run has it by now."""
        if not self._tried:
            return
        if self._share.chunks is not None:
            self._write(self._model.holder == self._holder, ended=True)
            return
        try:
            with translated(self._settings):
                self._model(*self._key).delete(condition=self._model.holder == self._holder)
        except HazardStoreError as exc:
            if not is_condition_failure(exc):
                raise

    def read(self) -> LeaseEntry | None:
        """Give the lease as it stands, whoever holds it."""
        with translated(self._settings):
            try:
                entry: LeaseEntry = self._model.get(*self._key, consistent_read=True)
            except self._model.DoesNotExist:
                return None
        return entry

    def _write(self, condition: Condition, *, ended: bool | None = None) -> bool:
        entry = self._model(
            *self._key,
            holder=self._holder,
            beat=uuid.uuid4().hex,
            renewed=int(time.time()),
            chunks=self._share.chunks,
            origin=self._origin,
            ended=ended,
        )
        self._tried = True
        try:
            with translated(self._settings):
                entry.save(condition=condition)
        except HazardStoreError as exc:
            if is_condition_failure(exc):
                return False
            raise
        return True


@contextmanager
def held(
    haz_sol_id: str,
    layout: Layout,
    holder: str,
    settings: Settings,
    on_wait: Callable[[str], None] = lambda holder: None,
    share: Share | None = None,
    origin: str | None = None,
    on_takeover: Callable[[str], None] = lambda origin: None,
) -> Iterator[threading.Event]:
    """Hold the lease of a calculation while the block runs.

    Parameters
    ----------
    on_wait : callable
        Told the run that holds the lease, when it has to be seen whether that run is alive.
    on_takeover : callable
        Told the origin of the dead run from which the lease was taken over.

    Yields
    ------
    threading.Event
        Set when the lease was lost: the run was taken for dead, and must not write any more.

    Raises
    ------
    LeaseHeldError
        If a run that lives has it.
    LeaseLostError
        At the end, if it was lost on the way.
    """
    share = share or Share()
    lease = Lease(haz_sol_id, layout, holder, settings, share, origin)
    lost, done = threading.Event(), threading.Event()

    def keep() -> None:
        try:
            while True:
                share.changed.wait(RENEW_SECS)
                # Before looking at `done`, which is set before this: no end goes unnoticed.
                share.changed.clear()
                if done.is_set():
                    return
                try:
                    if not lease.renew():
                        lost.set()
                        return
                except HazardStoreError:
                    # While the store does not answer nobody can take the lease over; the next renewal says if one did.
                    continue
        finally:
            # By an error that nobody foresaw as well: without renewals the lease is another's in `LEASE_SECS`.
            if not done.is_set():
                lost.set()

    keeper = threading.Thread(target=keep, name="lease", daemon=True)

    def give_back() -> None:
        done.set()
        share.changed.set()
        if keeper.is_alive():
            keeper.join()
        if not lost.is_set():
            lease.release()

    def take_over(dead: LeaseEntry) -> None:
        if dead.origin and not dead.ended:
            on_takeover(dead.origin)
        # Who takes the lease after this run, if it ends meanwhile, has to wait as well.
        share.chunks = 1
        if lost.wait(dead.stop_secs):
            raise lost_error(haz_sol_id)
        share.end()

    try:
        dead = lease.acquire(on_wait=on_wait)
        keeper.start()
        if dead is not None:
            take_over(dead)
        yield lost
    except BaseException as exc:
        try:
            give_back()
        except HazardStoreError as unreleased:
            # What ended the run is what its caller must learn; after `LEASE_SECS` the lease is free all the same.
            exc.add_note(f"and its lease could not be given back: {unreleased}")
        raise
    try:
        give_back()
    except HazardStoreError as unreleased:
        # What the run did is done.
        logger.warning("the lease of %s could not be given back, it ends by itself: %s", haz_sol_id, unreleased)
    if lost.is_set():
        raise lost_error(haz_sol_id)


def lost_error(haz_sol_id: str) -> LeaseLostError:
    """Give the error of a run whose lease another one took over."""
    return LeaseLostError(
        f"another run took the lease of {haz_sol_id!r} over, for this one had not renewed it for {LEASE_SECS:g} s: "
        "`hazard-store status` says what is stored"
    )
