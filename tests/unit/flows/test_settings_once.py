"""What tasks get of Prefect's settings, made once."""

from __future__ import annotations

import cloudpickle
import pytest
from prefect.context import SettingsContext, hydrated_context, serialize_context
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.settings_once import settings_once


def test_tasks_get_what_prefect_gives_them() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        of_prefect = serialize_context()
        with settings_once():
            assert [serialize_context(), serialize_context()] == [of_prefect, of_prefect]
    assert of_prefect["settings_context"]["settings"]["api"]["url"] == "http://127.0.0.1:9/api"


def test_it_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    serialize = SettingsContext.serialize

    def counted(self: SettingsContext, include_secrets: bool = True) -> object:
        made.append(include_secrets)
        return serialize(self, include_secrets=include_secrets)

    monkeypatch.setattr(SettingsContext, "serialize", counted)
    with settings_once():
        for _ in range(3):
            serialize_context()
    assert made == [True]


def test_a_worker_reads_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "ERROR")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), settings_once():
        sent = cloudpickle.dumps(serialize_context())
    with hydrated_context(cloudpickle.loads(sent)):
        first = SettingsContext.get()
    with hydrated_context(cloudpickle.loads(sent)):
        second = SettingsContext.get()
    assert first is not None
    assert second is not None
    assert first.settings is second.settings
    # What was set there is as it was, and the rest is the worker's.
    assert (first.settings.api.url, first.settings.logging.level) == ("http://127.0.0.1:9/api", "ERROR")
