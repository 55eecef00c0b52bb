"""A Prefect worker on this machine, and the deployments of this checkout whose runs it executes.

Like the server it is a program of its own: nothing here imports Prefect.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from hazard_store.errors import LocalServiceError
from hazard_store.local.process import HOST, LocalProcess, LocalService, free_port, http_status

CHECKOUT = Path(__file__).resolve().parents[2]
WORK_POOL = "hazard-pool"

# Each is a program that loads Prefect, 2 to 6 s on an idle machine; many times that on one that has other work.
_START_TIMEOUT_SECS = 120
_DEPLOY_TIMEOUT_SECS = 300

QUERY_SECS = 3
"""How often a worker asks for runs."""


class PrefectWorker(LocalService):
    """A running process worker of the pool; `PrefectWorker.start` makes one, and the pool where there is none."""

    @classmethod
    def start(
        cls, *, api_url: str, home: Path, variables: Mapping[str, str], port: int = 0, detached: bool = False
    ) -> Self:
        """Start it and return when it asks the server for runs.

        Parameters
        ----------
        api_url : str
            Of the Prefect server on this machine.
        home : Path
            Its `PREFECT_HOME` with its log, `worker.log`.
        variables : mapping
            The store: every run has its worker's environment.
        port : int
            Where it says that it is healthy; 0 takes any free one.
        detached : bool
            Leave it running when this process ends.

        Raises
        ------
        LocalServiceError
            It is not healthy in time.
        """
        port = port or free_port()
        home = home.absolute()
        home.mkdir(parents=True, exist_ok=True)
        own = {
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": str(port),
            "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECS),
        }
        process = LocalProcess(
            "the Prefect worker",
            [*_PREFECT, "worker", "start", "--pool", WORK_POOL, "--type", "process", "--with-healthcheck"],
            log_path=home / "worker.log",
            cwd=home,
            env={**_client_environment(api_url, home), **variables, **own},
            detached=detached,
        )
        server_port = int(api_url.rpartition(":")[2].partition("/")[0])
        process.wait_until(
            lambda: (
                http_status(port, "/health") == 200 and http_status(server_port, f"/api/work_pools/{WORK_POOL}") == 200
            ),
            timeout_secs=_START_TIMEOUT_SECS,
        )
        return cls(process, port)


def deploy_all(api_url: str, home: Path) -> None:
    """Make all deployments of `prefect.yaml`, or bring them up to date.

    Raises
    ------
    LocalServiceError
        One of them was not made.
    """
    try:
        done = subprocess.run(
            [*_PREFECT, "--no-prompt", "deploy", "--all"],
            cwd=CHECKOUT,
            env=_client_environment(api_url, home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEPLOY_TIMEOUT_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise LocalServiceError(f"`prefect deploy --all` did not end within {_DEPLOY_TIMEOUT_SECS} s") from exc
    if done.returncode:
        tail = " | ".join(done.stdout.split("\n")[-5:])
        raise LocalServiceError(f"`prefect deploy --all` ended with exit code {done.returncode}: {tail}")


_PREFECT = (sys.executable, "-m", "prefect")


def _client_environment(api_url: str, home: Path) -> dict[str, str]:
    """Return the user's environment, less what is meant for another Prefect server, store or account."""
    foreign = ("PREFECT_", "HAZARD_STORE_ENDPOINT", "AWS_PROFILE", "AWS_SESSION_TOKEN")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return environment | {"PREFECT_API_URL": api_url, "PREFECT_HOME": str(home.absolute()), "DO_NOT_TRACK": "1"}
