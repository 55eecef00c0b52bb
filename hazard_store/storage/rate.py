"""How fast a process writes to a table: as fast as the table takes it, and never faster than the run's budget.

DynamoDB does not say what it can take; it refuses what is too much, in whole or in part. `RateController` finds the
limit from that: it doubles its rate every quarter of a second until something is refused, then stays just under what
was really delivered, and every few seconds probes a little beyond, after the manner of TCP's CUBIC. What the store did
not use while the rate was below its limit it keeps for some seconds, so that the small waves of the rate cost nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import takewhile

Sleep = Callable[[float], object]

# The WCU/s that one hash key takes. What is too much is refused once, and found within a fraction of a second.
START_WCU_PER_SEC = 1_000.0
# What takes less than this is held down by the delays of what is sent again; and a store that refuses at random, at any
# rate, is still written to. Eight chunks that share one partition's 1,000 are held by their rates yet.
MIN_WCU_PER_SEC = 100.0
DOUBLING_SECS = 0.25

# A thread that wakes late may make up for so much. More would add up to bursts beyond the budget.
CATCH_UP_SECS = 0.05

# A thread that waits looks so often at least whether its wait is over.
MAX_SLEEP_SECS = 0.1

# Delivery is looked at over so long: less says little at a few requests a second.
WINDOW_SECS = 1.0
# A rate that is used less than this is not what limits, and does not grow.
USED_ENOUGH = 0.7

# After a throttle the rate goes to this share of what was delivered...
BACK_OFF = 0.92
# ...but to less when it was growing fast, for what was delivered last came from what the store had saved up.
FAST_BACK_OFF = 0.4
# ...and never to less than this share of itself at once: a store that refuses everything for a moment says little.
MOST_BACK_OFF = 0.25
# A rate that went so far beyond the last limit unthrottled says that there is a new limit: it is searched fast again.
NEW_LIMIT = 1.07

# Between two throttles that count: what was under way when the first one came back must not count as another.
HOLD_SECS, MAX_HOLD_SECS, HOLD_REQUESTS = 0.4, 2.0, 8
# From a throttle back to the limit it takes so long, and as long from there to the next throttle. The same for all, so
# that of several workers the fast ones, which are throttled more often, give way to the slow ones. Shorter finds sooner
# what a split gives more, and is throttled more often: of four workers by location, 1.8 % of requests at 3 s.
PLATEAU_SECS = 3.0
# A pause after a throttle, in requests: the store saves up what keeps the next jitter from being throttled.
PAUSE_REQUESTS, MAX_PAUSE_SECS = 5.0, 0.5

# Of the newest answer in what is known of the items' costs, after the first few.
NEWEST_WEIGHT = 0.1

# The growth of what stood still for longer than this, or than two requests, starts where it stopped.
_MAX_STEP_SECS = 0.25


class WcuBudget:
    """Lets write units through at a steady rate, shared by all threads of a process.

    Parameters
    ----------
    wcu_per_sec : float
        Settable at any time.
    clock, sleep : callables
        Replaced by a test.

    Notes
    -----
    A batch may take the bucket below zero, and the next one waits until it is level again: so no batch is larger than
    the bucket, and over any time the units let through exceed the budget by at most one batch and `CATCH_UP_SECS`.
    """

    def __init__(
        self,
        wcu_per_sec: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._rate = wcu_per_sec
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._level = 0.0
        self._filled_at = clock()

    @property
    def wcu_per_sec(self) -> float:
        """The rate at this moment."""
        return self._rate

    @wcu_per_sec.setter
    def wcu_per_sec(self, rate: float) -> None:
        with self._lock:
            self._fill()
            self._rate = rate

    def take(self, cost: Callable[[], float], sleep: Sleep | None = None) -> float:
        """Wait until units may be spent, and spend what `cost` then gives; what `sleep` raises ends the waiting."""
        while True:
            with self._lock:
                self._fill()
                if self._level >= -1e-9:
                    spent = cost()
                    self._level -= spent
                    return spent
                # In short sleeps, for what others give back and a higher rate shorten the wait.
                secs = min(-self._level / self._rate, MAX_SLEEP_SECS)
            (sleep or self._sleep)(secs)

    def spend(self, wcu: float) -> None:
        """Spend units that turned out to be needed besides, or give back with a minus sign those that were not."""
        with self._lock:
            self._level -= wcu

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(CATCH_UP_SECS * self._rate, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now


class RateController:
    """Paces writes to what has one limit, a table or a range of keys, shared by all threads that write there.

    ``take`` waits for a batch's turn, ``settle`` tells how it went; every ``take`` is followed by one.

    Parameters
    ----------
    budget : WcuBudget, optional
        What the run may use at most in this process, shared with all its other controllers.
    clock, sleep : callables
        Replaced by a test.
    """

    def __init__(
        self,
        budget: WcuBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._budget = budget
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pacer = WcuBudget(START_WCU_PER_SEC, clock, sleep)
        self._started = self._grown_at = clock()
        self._throttled_at = float("-inf")
        self._delivered: deque[tuple[float, float]] = deque()
        self._batch_wcu = 25.0
        self._fast = True
        # The last limit, how far below it the rate went, and how much of the way back is behind.
        self._limit = START_WCU_PER_SEC
        self._depth = self._way_secs = 0.0
        self._wcu_per_unit = 1.0
        self._n_answers = 0

    @property
    def wcu_per_sec(self) -> float:
        """The rate at this moment."""
        return self._pacer.wcu_per_sec

    @property
    def budget_wcu_per_sec(self) -> float | None:
        """What the budget allows at this moment; None without one."""
        return None if self._budget is None else self._budget.wcu_per_sec

    def wcu_of(self, units: float) -> float:
        """Estimate what items will cost from the KB of their bodies, each rounded up, by what earlier ones cost."""
        return units * self._wcu_per_unit

    def take(self, units: float, sleep: Sleep | None = None) -> float:
        """Wait until a batch of so many KB may be sent, and give what it was charged; `sleep` may end it by raising."""
        # What it costs is asked last: the first answers may come while it waits.
        charged = self._pacer.take(lambda: self.wcu_of(units), sleep or self._sleep)
        if self._budget is not None:
            self._budget.take(lambda: charged, sleep or self._sleep)
        return charged

    def settle(
        self, charged: float, units: float, consumed: float | None, written_units: float, throttled: bool
    ) -> None:
        """Take an answer into account.

        Parameters
        ----------
        charged, units : float
            What ``take`` gave for the whole batch, and was given.
        consumed : float or None
            Write units that the store reports; None without an answer: they may have been consumed.
        written_units : float
            KB, as in ``wcu_of``, of the items that were written.
        throttled : bool
            Whether all or part of the batch was refused for want of capacity.

        Notes
        -----
        What was refused has had its turn: it is not given back, or a store that refuses would be asked the more often.
        """
        with self._lock:
            now = self._clock()
            if consumed and written_units:
                missed = consumed - charged * written_units / units
                self._pacer.spend(missed)
                if self._budget is not None:
                    self._budget.spend(missed)
                self._n_answers += 1
                weight = max(NEWEST_WEIGHT, 1.0 / self._n_answers)
                self._wcu_per_unit += weight * (consumed / written_units - self._wcu_per_unit)
                self._batch_wcu += weight * (self.wcu_of(units) - self._batch_wcu)
                self._delivered.append((now, consumed))
            while self._delivered and self._delivered[0][0] < now - 2 * MAX_HOLD_SECS:
                self._delivered.popleft()
            if throttled:
                self._back_off(now)
            elif consumed is not None:
                self._grow(now)

    def search(self) -> None:
        """Look for the limit as at the start: there is more to be had."""
        with self._lock:
            self._fast = True

    def _delivered_per_sec(self, now: float, secs: float) -> float:
        secs = max(min(secs, now - self._started), 0.05)
        # The newest come last, and most of what is kept is older.
        newest_first = takewhile(lambda answer: answer[0] > now - secs, reversed(self._delivered))
        return sum(wcu for _, wcu in newest_first) / secs

    def _request_secs(self, rate: float) -> float:
        return self._batch_wcu / rate

    def _back_off(self, now: float) -> None:
        rate = self.wcu_per_sec
        hold_secs = min(max(HOLD_SECS, HOLD_REQUESTS * self._request_secs(rate)), MAX_HOLD_SECS)
        since = now - self._throttled_at
        self._grown_at = now
        if since < hold_secs:
            return
        self._throttled_at = now
        delivered = self._delivered_per_sec(now, min(since, max(WINDOW_SECS, hold_secs)))
        # A few requests make a rough measure: where it agrees with the rate, the rate is the better one.
        limit = rate if delivered > 0.85 * rate else max(delivered, MOST_BACK_OFF * rate)
        share = FAST_BACK_OFF if self._fast and rate > 1.5 * self._limit else BACK_OFF
        self._limit = max(limit, MIN_WCU_PER_SEC)
        self._fast = False
        self._depth, self._way_secs = 1.0 - share, 0.0
        self._set_rate(share * self._limit)
        self._pacer.spend(min(PAUSE_REQUESTS * self._batch_wcu, MAX_PAUSE_SECS * self.wcu_per_sec))

    def _grow(self, now: float) -> None:
        rate = self.wcu_per_sec
        step = min(now - self._grown_at, max(_MAX_STEP_SECS, 2 * self._request_secs(rate)))
        self._grown_at = now
        window = max(WINDOW_SECS / 2, 4 * self._request_secs(rate)) if self._fast else WINDOW_SECS
        if self._delivered_per_sec(now, window) < USED_ENOUGH * rate:
            return
        if self._fast:
            self._set_rate(rate * 2.0 ** (step / DOUBLING_SECS))
            return
        self._way_secs += step
        way = self._way_secs / PLATEAU_SECS - 1.0
        self._set_rate(self._limit * (1.0 + self._depth * way**3))
        if self.wcu_per_sec > NEW_LIMIT * self._limit:
            self._fast = True

    def _set_rate(self, rate: float) -> None:
        self._pacer.wcu_per_sec = max(rate, MIN_WCU_PER_SEC)
