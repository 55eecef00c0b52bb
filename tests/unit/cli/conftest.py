from __future__ import annotations

import pytest

from tests.unit.cli.running import RunCli, run_cli_with


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    """Run an entry point in this process."""
    return run_cli_with(capsys)
