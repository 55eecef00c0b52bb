"""Prefect's settings, in the form in which a task gets them, made once for all tasks of a run.

Prefect makes it anew for each task that is submitted, which takes the flow's process some 25 ms (by hand): as long as
a worker takes for 400 items.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.context import SettingsContext
from pydantic import PrivateAttr


class _SettingsOnce(SettingsContext):
    _made: dict[bool, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        if include_secrets not in self._made:
            self._made[include_secrets] = super().serialize(include_secrets=include_secrets)
        return self._made[include_secrets]


@contextmanager
def settings_once() -> Iterator[None]:
    """Let the tasks that are submitted within the block have the settings of its beginning."""
    now: SettingsContext | None = SettingsContext.get()
    if now is None:
        yield
        return
    with _SettingsOnce(profile=now.profile, settings=now.settings):
        yield
