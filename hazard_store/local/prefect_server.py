"""A Prefect server, with its UI, on this machine.

::

    with PrefectServer.start(home=Path(scratch)) as server:
        os.environ["PREFECT_API_URL"] = server.api_url

It is started as a program of its own, so that this module, like the library, imports no Prefect.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from hazard_store.errors import LocalServiceError
from hazard_store.local.process import HOST, LocalProcess, LocalService, free_port, http_status, is_port_free

_START_TIMEOUT_SECS = 120
"""The first start makes the database: 10 to 40 s measured on two cores that had other work."""


class PrefectServer(LocalService):
    """A running Prefect server; `PrefectServer.start` makes one."""

    @classmethod
    def start(
        cls, *, home: Path, port: int = 0, detached: bool = False, timeout_secs: float = _START_TIMEOUT_SECS
    ) -> Self:
        """Start it and return when it is healthy.

        Parameters
        ----------
        home : Path
            Its `PREFECT_HOME`: the database of its runs, its settings and its log, `server.log`.
        port : int
            0 takes any free one.
        detached : bool
            Leave it running when this process ends.
        timeout_secs : float
            How long to wait until it is healthy.

        Raises
        ------
        LocalServiceError
            The port is taken, or the server is not healthy in time.
        """
        if port and not is_port_free(port):
            raise LocalServiceError(f"port {port} is taken: stop what listens there, or choose another for Prefect")
        port = port or free_port()
        home = home.absolute()
        home.mkdir(parents=True, exist_ok=True)
        process = LocalProcess(
            "the Prefect server",
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
            log_path=home / "server.log",
            # Prefect reads settings from a prefect.toml or pyproject.toml where it runs: there is none in its home.
            cwd=home,
            env=_server_environment(home, port),
            detached=detached,
        )
        process.wait_until(lambda: http_status(port, "/api/health") == 200, timeout_secs=timeout_secs)
        return cls(process, port)

    @property
    def ui_url(self) -> str:
        """Where a browser finds the UI."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """The URL for `PREFECT_API_URL`."""
        return f"{self.ui_url}/api"


def _server_environment(home: Path, port: int) -> dict[str, str]:
    """Return the environment of the server: the user's, less Prefect settings meant for another server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return environment | {
        "PREFECT_HOME": str(home),
        # Without it the page calls port 4200 whatever port it came from.
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
