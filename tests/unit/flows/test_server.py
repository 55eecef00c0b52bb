"""What a flow that runs in a terminal has of Prefect."""

from __future__ import annotations

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.server import without_heartbeats


def test_it_sends_no_heartbeats_unless_told_to() -> None:
    with without_heartbeats():
        assert PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() is None
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60}), without_heartbeats():
        assert PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() == 60
