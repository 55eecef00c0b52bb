"""What a chunk makes of its run's lease: whether the run may write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hazard_store.errors import LeaseLostError, StorageError
from hazard_store.lease import LEASE_SECS, LeaseEntry
from hazard_store.permit import Permit

OURS = "run-1"


class Lease:
    """A lease as it stands at a moment; None for none, an error for a store that does not answer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entry: tuple[str, str] | None = (OURS, "a")
        self.answers = True

    def read(self) -> LeaseEntry | None:
        if not self.answers:
            raise StorageError("no answer")
        return None if self.entry is None else LeaseEntry(holder=self.entry[0], beat=self.entry[1])


@pytest.fixture
def lease() -> Lease:
    return Lease()


@pytest.fixture
def permit(lease: Lease) -> Permit:
    return Permit("X", OURS, lease.read, clock=lambda: lease.now)


def looks(lease: Lease, secs: float) -> Iterator[None]:
    """Moments of a look every two seconds."""
    end = lease.now + secs
    while lease.now < end:
        lease.now += 2.0
        yield


def test_a_run_that_renews_its_lease_may_write(lease: Lease, permit: Permit) -> None:
    for number, _ in enumerate(looks(lease, 10 * LEASE_SECS)):
        lease.entry = (OURS, f"beat {number // 5}")
        permit.check()
    assert permit.lost is None


def test_a_lease_that_was_given_back_or_taken_is_lost_for_good(lease: Lease, permit: Permit) -> None:
    permit.check()
    lease.entry = ("run-2", "b")
    with pytest.raises(LeaseLostError, match="run run-2 has taken the lease of 'X' from run run-1"):
        permit.check()
    lease.entry = (OURS, "a")
    with pytest.raises(LeaseLostError, match="run-2"):
        permit.check()
    lease.entry = None
    with pytest.raises(LeaseLostError, match="was cancelled or has ended"):
        Permit("X", OURS, lease.read).check()


def test_a_lease_that_is_not_renewed_is_lost_after_its_time(lease: Lease, permit: Permit) -> None:
    permit.check()
    for _ in looks(lease, LEASE_SECS - 2.0):
        permit.check()
    lease.now += 2.0
    with pytest.raises(LeaseLostError, match="has not renewed its lease of 'X' for 20 s"):
        permit.check()


def test_a_store_that_does_not_answer_says_nothing_about_the_lease(lease: Lease, permit: Permit) -> None:
    permit.check()
    lease.answers = False
    for _ in looks(lease, 5 * LEASE_SECS):
        permit.check()
    # It answers again before the holder could renew: nobody can say yet whether that one lives.
    lease.answers = True
    for _ in looks(lease, LEASE_SECS):
        permit.check()
    lease.now += 2.0
    with pytest.raises(LeaseLostError):
        permit.check()
