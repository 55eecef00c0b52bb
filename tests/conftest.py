"""What every test gets: an environment that points at nobody's store, account or Prefect server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hazard_store.layouts.packed import compile_codec

FOREIGN_SETTINGS = (
    "HAZARD_STORE_ENDPOINT",
    "HAZARD_STORE_STAGE",
    "HAZARD_STORE_REGION",
    "HAZARD_STORE_WORKERS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
FOREIGN_PREFIXES = ("NZSHM22_HAZARD_STORE_", "AWS_ENDPOINT_URL", "AWS_CONTAINER_CREDENTIALS_")


def pytest_configure() -> None:
    """Compile the codec first, lest it count as the time of a test; and let Ctrl-C be tested.

    Where the tests themselves run in the background they ignore Ctrl-C, and so would their children.
    """
    compile_codec()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the settings and credentials of whoever runs the tests."""
    for name in list(os.environ):
        if name in FOREIGN_SETTINGS or name.startswith(FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    nowhere = tmp_path_factory.getbasetemp() / "no-such-file"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere))
    # Without it a client with no credentials asks the address of the instance metadata service, and waits.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real OpenQuake files."""
    return Path(__file__).parent / "data"
