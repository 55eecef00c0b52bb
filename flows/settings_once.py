"""Prefect's settings, brought into the form in which tasks get them once a run, and out of it once a worker.

Prefect does both for each task. The first takes the flow's process some 25 ms, and the second, which looks through the
environment and files again, the worker 30 ms and more (by hand): together as long as a worker takes for 1,000 items.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from prefect.context import SettingsContext
from prefect.settings import Settings
from pydantic import PrivateAttr


class _SentSettings(dict[str, Any]):
    """What is set, as Prefect writes it; a process to which it is sent gets `Settings` instead, made by the first."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _settings_of, (pickle.dumps(dict(self)),)


@lru_cache(maxsize=4)
def _settings_of(pickled: bytes) -> Settings:
    return Settings(**pickle.loads(pickled))


class _SettingsOnce(SettingsContext):
    _made: dict[bool, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        if include_secrets not in self._made:
            made = super().serialize(include_secrets=include_secrets)
            self._made[include_secrets] = made | {"settings": _SentSettings(made["settings"])}
        return self._made[include_secrets]


@contextmanager
def settings_once() -> Iterator[None]:
    """Let the tasks that are submitted within the block have the settings of its beginning."""
    now: SettingsContext | None = SettingsContext.get()
    if now is None:
        yield
        return
    with _SettingsOnce(profile=now.profile, settings=now.settings) as once:
        # Here rather than at the first task, for which workers may be waiting that have just started.
        once.serialize()
        yield
