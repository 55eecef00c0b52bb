"""The whole way in one command: ``make demo``.

Stores a calculation that OpenQuake made, through the Prefect flow on a Dask cluster, into a DynamoDB on this machine;
asks what was stored, verifies it against the file and reads curves back. Every command is printed before it runs, so
that it can be run again by hand. All that was started is stopped at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from hazard_store.errors import LocalServiceError
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.local.prefect_server import PrefectServer

CALCULATION = "tests/data/custom_ids.hdf5"
"""A classical calculation of five sites with ids of their own and a fully enumerated logic tree."""

HAZ_SOL_ID = "DEMO"
SITE = "WLG"
IMT = "PGA"
PLOT = "demo-curves.png"

_CHECKOUT = Path(__file__).resolve().parents[2]


class Demo:
    """Prints and runs commands with one environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._scripts = Path(sysconfig.get_path("scripts"))

    def run(self, *arguments: str) -> float:
        """Print and run one hazard-store command; return the seconds that it took."""
        say(f"\n$ {shlex.join(['hazard-store', *arguments])}")
        started = time.monotonic()
        subprocess.run(self._command(arguments), env=self._environment, cwd=_CHECKOUT, check=True)
        return time.monotonic() - started

    def curves_in(self, source: str) -> int:
        """Return how many curve items a calculation has: sites x (statistics + realisations)."""
        answer = subprocess.run(
            self._command(("inspect", source, "--json")),
            env=self._environment,
            cwd=_CHECKOUT,
            check=True,
            stdout=subprocess.PIPE,
        )
        shapes = json.loads(answer.stdout)["curves"].values()
        return sum(shape[0] * shape[1] for shape in shapes if shape is not None)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [str(self._scripts / "hazard-store"), *arguments]


def say(text: str) -> None:
    """Print at once, so that the lines of the commands come in their place."""
    print(text, flush=True)


def run_demo(demo: Demo) -> None:
    """Run the commands that store a calculation and read it back."""
    demo.run("tables", "create")
    demo.run("inspect", CALCULATION)
    seconds = demo.run("store", CALCULATION, "--id", HAZ_SOL_ID, "--cluster", "local", "--workers", "2")
    curves = demo.curves_in(CALCULATION)
    demo.run("status", HAZ_SOL_ID)
    demo.run("verify", CALCULATION, "--id", HAZ_SOL_ID)
    demo.run("get", HAZ_SOL_ID, "--site", SITE, "--imt", IMT, "--agg", "mean", "--table")
    demo.run("plot", HAZ_SOL_ID, "--site", SITE, "-o", PLOT)
    say(f"\nStored {curves} items of curves in {seconds:.1f} s, {curves / seconds:.0f} a second, all verified.")
    say("Most of that time starts Prefect and Dask: `make bench` measures a calculation of a real size.")


def main() -> int:
    """Start the services, run the demo, stop the services; return the exit code."""
    try:
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hazard-store-demo-")))
            say("starting DynamoDB Local (in memory) and a Prefect server")
            database = stack.enter_context(DynamoDbLocal.start())
            server = stack.enter_context(PrefectServer.start(home=scratch / "server"))
            variables = {
                "HAZARD_STORE_ENDPOINT": database.endpoint,
                "HAZARD_STORE_STAGE": HAZ_SOL_ID,
                "PREFECT_API_URL": server.api_url,
                **LOCAL_CREDENTIALS,
            }
            say("".join(f"\nexport {name}={value}" for name, value in variables.items()))
            say(f"\nWhile this runs, the Prefect UI is at {server.ui_url}")
            own = {"PREFECT_HOME": str(scratch / "client"), "DO_NOT_TRACK": "1"}
            run_demo(Demo(_without_foreign_settings() | variables | own))
            say(f"The curves of site {SITE} are drawn in {PLOT}.")
    except LocalServiceError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as exc:
        print(f"error: the command above ended with exit code {exc.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    say("The database and the Prefect server of the demo have been stopped; `make up` starts some that stay.")
    return 0


def _without_foreign_settings() -> dict[str, str]:
    """Return the environment less what points at another store, account or Prefect server."""
    prefixes = ("HAZARD_STORE_", "NZSHM22_HAZARD_STORE_", "PREFECT_")
    names = ("AWS_PROFILE", "AWS_SESSION_TOKEN")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes) and name not in names}


if __name__ == "__main__":
    sys.exit(main())
