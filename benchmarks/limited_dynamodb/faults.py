"""The faults that can be injected: one table of kinds, and which of them are on, at what rates.

A request meets at most one fault: one number of a seeded generator a request decides which. So the rates of several
faults add up to the share of the requests that meet one.
"""

from __future__ import annotations

import fnmatch
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from benchmarks.limited_dynamodb.protocol import (
    ON_DEMAND_MESSAGE,
    PROVISIONED_MESSAGE,
    Answer,
    error,
)


class Effect(Enum):
    """What a fault does to a request."""

    ANSWER = "another answer, and nothing is written"
    GIVE_BACK = "part of a batch is not written and comes back as UnprocessedItems"
    SILENCE_BEFORE = "nothing is written and nothing is answered"
    SILENCE_AFTER = "all is written and nothing is answered"
    RESET_BEFORE = "the connection is reset and nothing is written"
    RESET_MIDWAY = "all is written and the connection is reset in the middle of the answer"
    CUT = "all is written and the connection closes in the middle of the answer"
    CUT_JSON = "all is written and the answer is whole as HTTP but ends in the middle of its JSON"
    WRONG_CRC = "all is written and answered under another checksum"
    LOSE_UNPROCESSED = "as GIVE_BACK, but the answer is damaged: it lacks what it gives back; its checksum tells"
    GONE = "the port is closed and connections are reset"


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    effect: Effect
    answer: Answer | None = None
    # Faults of batches only leave other requests alone.
    batches_only: bool = False


_CORAL = "com.amazon.coral"

KINDS: dict[str, Kind] = {
    "internal_error": Kind(Effect.ANSWER, error(500, "InternalServerError", "Internal server error")),
    "unavailable": Kind(Effect.ANSWER, error(503, "ServiceUnavailable", "Service is unavailable, please try again")),
    "bad_gateway": Kind(Effect.ANSWER, Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")),
    "throttled": Kind(Effect.ANSWER, error(400, "ProvisionedThroughputExceededException", PROVISIONED_MESSAGE)),
    "throttled_on_demand": Kind(
        Effect.ANSWER, error(400, "ThrottlingException", ON_DEMAND_MESSAGE, f"{_CORAL}.availability")
    ),
    "throttled_account": Kind(
        Effect.ANSWER,
        error(400, "RequestLimitExceeded", "Throughput exceeds the current throughput limit for your account."),
    ),
    "throttled_as_validation": Kind(
        Effect.ANSWER, error(400, "ValidationException", ON_DEMAND_MESSAGE, f"{_CORAL}.validate")
    ),
    "throttled_part": Kind(Effect.GIVE_BACK, batches_only=True),
    "timeout_before": Kind(Effect.SILENCE_BEFORE),
    "timeout_after": Kind(Effect.SILENCE_AFTER),
    "reset_before": Kind(Effect.RESET_BEFORE),
    "reset_midway": Kind(Effect.RESET_MIDWAY),
    "cut_short": Kind(Effect.CUT),
    "cut_json": Kind(Effect.CUT_JSON),
    "wrong_crc32": Kind(Effect.WRONG_CRC),
    "lost_unprocessed": Kind(Effect.LOSE_UNPROCESSED, batches_only=True),
    "gone": Kind(Effect.GONE),
    "table_deleted": Kind(Effect.ANSWER, error(400, "ResourceNotFoundException", "Requested resource not found")),
    "credentials_expired": Kind(
        Effect.ANSWER,
        error(
            400, "ExpiredTokenException", "The security token included in the request is expired", f"{_CORAL}.service"
        ),
    ),
}


@dataclass(frozen=True)
class Setting:
    """When a fault strikes.

    Parameters
    ----------
    rate : float
        Share of the requests that may meet it; ``gone`` takes no notice of it.
    limit : int, optional
        At most so many times.
    after_secs, for_secs : float
        It begins so long after it was set, and lasts so long.
    operations, tables, access_keys : str
        Only requests of operations, for tables, and signed with access keys that fit this pattern.
    hang_secs : float
        How long a silent connection stays open.
    """

    rate: float = 1.0
    limit: int | None = None
    after_secs: float = 0.0
    for_secs: float = float("inf")
    operations: str = "*"
    tables: str = "*"
    access_keys: str = "*"
    hang_secs: float = 60.0


class FaultTable:
    """Which faults are on; draws one for each request, and counts."""

    def __init__(self, seed: int, clock: Callable[[], float]) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self._clock = clock
        self._settings: dict[str, Setting] = {}
        self._set_at = clock()
        self._times: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def set(self, faults: Mapping[str, Any]) -> None:
        """Replace all that is on: ``{"internal_error": 0.1, "gone": {"after_secs": 5, "for_secs": 60}}``.

        Raises
        ------
        ValueError
            If a name or field is unknown, or the rates add up to more than 1.
        """
        settings = {}
        for name, given in faults.items():
            if name not in KINDS:
                raise ValueError(f"no fault {name!r}: there are {', '.join(KINDS)}")
            try:
                settings[name] = Setting(**given) if isinstance(given, Mapping) else Setting(rate=float(given))
            except TypeError as exc:
                raise ValueError(f"{name}: {exc}") from exc
        rates = [setting.rate for setting in settings.values()]
        if not all(0 <= rate <= 1 for rate in rates) or sum(rate for rate in rates if rate < 1) > 1:
            raise ValueError(f"rates are from 0 to 1, and those below 1 add up to at most 1, not {rates}")
        self._settings = settings
        self._times.clear()
        self._set_at = self._clock()

    def reset(self) -> None:
        """Count from nought and draw the same numbers again; what is on stays on."""
        self._random = random.Random(self._seed)
        self._times.clear()
        self.counts.clear()

    def draw(self, operation: str, table: str, access_key: str = "") -> tuple[str, Kind, Setting] | None:
        """Choose the fault that a request meets, None for most; counts it.

        What is on for every request goes before what is a matter of chance.
        """
        number = self._random.random()
        request = (operation, table, access_key)
        chosen = None
        for name, setting in self._settings.items():
            if name == "gone":
                continue
            if setting.rate == 1:
                if self._applies(name, setting, *request):
                    chosen = name
                    break
            # A fault that does not apply keeps its share of the numbers, so that the rates of others stay.
            elif chosen is None and 0 <= number < setting.rate and self._applies(name, setting, *request):
                chosen = name
            if setting.rate < 1:
                number -= setting.rate
        if chosen is None:
            return None
        self._times[chosen] += 1
        self.counts[chosen] += 1
        return chosen, KINDS[chosen], self._settings[chosen]

    def split_off(self, count: int) -> set[int]:
        """Choose which of `count` entries of a batch a fault gives back: at least one, all only if there is one."""
        return set(self._random.sample(range(count), self._random.randint(1, max(1, count - 1))))

    @property
    def is_gone(self) -> bool:
        """Whether the store is to be away now."""
        setting = self._settings.get("gone")
        return setting is not None and self._is_now(setting)

    def _applies(self, name: str, setting: Setting, operation: str, table: str, access_key: str) -> bool:
        return (
            self._is_now(setting)
            and (setting.limit is None or self._times[name] < setting.limit)
            and (operation == "BatchWriteItem" or not KINDS[name].batches_only)
            and fnmatch.fnmatchcase(operation, setting.operations)
            and fnmatch.fnmatchcase(table, setting.tables)
            and fnmatch.fnmatchcase(access_key, setting.access_keys)
        )

    def _is_now(self, setting: Setting) -> bool:
        return setting.after_secs <= self._clock() - self._set_at < setting.after_secs + setting.for_secs
