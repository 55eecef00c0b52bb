"""The local services, kept running: ``python -m deployments.local.stack up|down|status`` (`make up`, `make down`).

`up` starts a DynamoDB with its tables on disk, a Prefect server with its UI and a worker, makes the tables and the
deployments of `prefect.yaml`, and prints how to use them. What runs is written to `.state/stack.json` of the checkout,
from which `down` stops exactly that. The data stays for the next `up`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deployments.local.prefect_worker import PrefectWorker, deploy_all
from hazard_store.errors import LocalServiceError
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.local.process import HOST, free_port

DEFAULT_STATE_DIR = Path(__file__).resolve().parents[2] / ".state"

_DATABASE = "database"
_PREFECT = "prefect"
_WORKER = "worker"
_USUAL_PORTS = {_DATABASE: 8000, _PREFECT: 4200, _WORKER: 8180}
_STOP_TIMEOUT_SECS = 15
_CHILDREN_GRACE_SECS = 5
_SAME_START_SECS = 1.0
"""Two readings of one process's start time differ by less; a process that inherited its id started much later."""


@dataclass(frozen=True)
class Service:
    """A process that `up` started."""

    name: str
    pid: int
    started: float  # seconds since the epoch, as the operating system tells it
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    def process(self) -> psutil.Process | None:
        """Return the process, or None where it has ended and its id is free or somebody else's."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_SECS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Stack:
    """The local services whose state and data are in one folder."""

    def __init__(self, state_dir: Path = DEFAULT_STATE_DIR) -> None:
        self.state_dir = state_dir.absolute()
        self._state_path = self.state_dir / "stack.json"
        self.environment_path = self.state_dir / "env.sh"

    def running(self) -> dict[str, Service]:
        """Return the services that run, by name."""
        try:
            recorded = [Service(**fields) for fields in json.loads(self._state_path.read_text())]
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as exc:
            raise LocalServiceError(f"{self._state_path} cannot be read: stop what it names and delete it") from exc
        return {service.name: service for service in recorded if service.process() is not None}

    def up(self) -> dict[str, Service]:
        """Start what does not run yet; return all services by name."""
        with self._lock():
            services = self.running()
            if {_DATABASE, _PREFECT} - services.keys() and (worker := services.pop(_WORKER, None)):
                # What is missing comes back on a port that this worker may not know.
                _stop(worker)
            starters: dict[str, Callable[[int, dict[str, Service]], int]] = {
                _DATABASE: self._start_database,
                _PREFECT: self._start_prefect,
                _WORKER: self._start_worker,
            }
            for name, start in starters.items():
                if name not in services:
                    port = free_port(_USUAL_PORTS[name])
                    pid = start(port, services)
                    services[name] = Service(name, pid, psutil.Process(pid).create_time(), port)
                    # After each one, so that `down` finds what runs when the next one fails.
                    self._write_state(services)
            deploy_all(_api_url(services), self.state_dir / _WORKER)
            self.environment_path.write_text(environment_script(services))
            return services

    def down(self) -> list[Service]:
        """Stop the services that `up` started; return those that were running."""
        with self._lock():
            # The worker first: what it runs uses the others.
            services = list(reversed(self.running().values()))
            for service in services:
                _stop(service)
            self._state_path.unlink(missing_ok=True)
            self.environment_path.unlink(missing_ok=True)
            return services

    def _start_database(self, port: int, services: dict[str, Service]) -> int:
        work_dir = self.state_dir / f"{_DATABASE}-run"
        shutil.rmtree(work_dir, ignore_errors=True)
        return DynamoDbLocal.start(port, self.state_dir / _DATABASE, detached=True, work_dir=work_dir).pid

    def _start_prefect(self, port: int, services: dict[str, Service]) -> int:
        return PrefectServer.start(home=self.state_dir / _PREFECT, port=port, detached=True).pid

    def _start_worker(self, port: int, services: dict[str, Service]) -> int:
        _make_tables(services)
        return PrefectWorker.start(
            api_url=_api_url(services),
            home=self.state_dir / _WORKER,
            variables=_store_variables(services),
            port=port,
            detached=True,
        ).pid

    def _write_state(self, services: dict[str, Service]) -> None:
        new = self._state_path.with_suffix(".new")
        new.write_text(json.dumps([asdict(service) for service in services.values()], indent=1))
        new.replace(self._state_path)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalServiceError("another `make up` or `make down` is at work here: wait for it") from None
            yield


def _api_url(services: dict[str, Service]) -> str:
    return f"{services[_PREFECT].url}/api"


def _store_variables(services: dict[str, Service]) -> dict[str, str]:
    """Return what points hazard-store and the AWS SDK at the local database."""
    return {"HAZARD_STORE_ENDPOINT": services[_DATABASE].url, **LOCAL_CREDENTIALS}


def _make_tables(services: dict[str, Service]) -> None:
    """Make the tables of the stage that the worker's runs use, so that a form works at once."""
    done = subprocess.run(
        [sys.executable, "-m", "hazard_store", "tables", "create"],
        env={**os.environ, **_store_variables(services)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalServiceError(f"the tables were not made: {done.stdout.strip()}")


def environment_script(services: dict[str, Service]) -> str:
    """Return the shell lines that point hazard-store, the AWS SDK and Prefect at these services."""
    variables = {**_store_variables(services), "PREFECT_API_URL": _api_url(services)}
    return "".join(f"export {name}={value}\n" for name, value in variables.items())


def _stop(service: Service) -> None:
    process = service.process()
    if process is None:
        return
    # A run that the worker executes may lead a group of its own.
    children = process.children(recursive=True)
    # Each service leads a process group of its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT_SECS)
    except psutil.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGKILL)
        process.wait(_STOP_TIMEOUT_SECS)
    for child in psutil.wait_procs(children, _CHILDREN_GRACE_SECS)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _describe(stack: Stack, services: dict[str, Service]) -> str:
    lines = []
    if database := services.get(_DATABASE):
        lines.append(
            f"DynamoDB Local  {database.url}  (process {database.pid}; tables kept in {stack.state_dir / _DATABASE})"
        )
    if prefect := services.get(_PREFECT):
        lines.append(
            f"Prefect UI      {prefect.url}  (process {prefect.pid}; runs kept in {stack.state_dir / _PREFECT})"
        )
    if worker := services.get(_WORKER):
        log = stack.state_dir / _WORKER / "worker.log"
        lines.append(f"Prefect worker  runs the deployments of prefect.yaml  (process {worker.pid}; its log is {log})")
    return "\n".join(lines) or "nothing runs: make up starts the local services"


def _how_to_use(stack: Stack, services: dict[str, Service]) -> str:
    return (
        "\nTo use them, run these lines in your shell, or `. "
        f"{os.path.relpath(stack.environment_path)}`\n"
        "(DynamoDB Local takes any credentials, but the AWS SDK wants to be given some):\n\n"
        f"{environment_script(services)}\n"
        f"Store a calculation from a form: {services[_PREFECT].url}/v2/deployments (docs/operating.md), or with\n"
        "`prefect deployment run store_hazard/store-hazard -p source=FILE -p haz_sol_id=ID`.\n"
        "`make down` stops them and keeps their data."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local.stack", description="The local services.")
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE_DIR, help="folder of their state and data")
    options = parser.parse_args(arguments)
    stack = Stack(options.state)
    try:
        if options.command == "up":
            services = stack.up()
            print(_describe(stack, services))
            print(_how_to_use(stack, services))
        elif options.command == "down":
            stopped = stack.down()
            print("stopped: " + (", ".join(f"{s.name} (process {s.pid})" for s in stopped) or "nothing was running"))
        else:
            print(_describe(stack, stack.running()))
    except LocalServiceError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
