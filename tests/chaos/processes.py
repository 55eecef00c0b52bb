"""The processes of a store: commands, Dask schedulers and workers, a Prefect server; each can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from distributed import Client

from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.local.process import HOST, free_port
from hazard_store.settings import Settings
from tests.chaos.arena import until

ROOT = Path(__file__).parents[2]


class Command:
    """A ``hazard-store`` command in a process group of its own."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log_path: Path) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.quick", *words],
                cwd=ROOT,
                env=dict(environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def end(self, timeout_secs: float) -> int:
        """Wait for its end; what does not end is killed, and that is an error."""
        try:
            return self._process.wait(timeout_secs)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise TimeoutError(f"the command did not end within {timeout_secs:g} s: {self.tail()}") from None

    def kill(self) -> None:
        """Kill the process alone."""
        self._process.kill()
        self._process.wait()

    def kill_all(self) -> None:
        """Kill it with all that it started."""
        family = [self._process.pid, *(child.pid for child in self.children())]
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def dask_workers(self) -> list[psutil.Process]:
        """The workers of its local cluster, which look like the process that they are forked from."""
        children = self.children()
        forked = [one for one in children if "multiprocessing.forkserver" in " ".join(_words_of(one))]
        # Where they are not forked, Python starts them by this name.
        spawned = [one for one in children if "spawn_main" in " ".join(_words_of(one))]
        return spawned + [one for one in forked if _parent_of(one) in forked]

    def tail(self, chars: int = 600) -> str:
        return self.log_path.read_text(errors="replace")[-chars:]


def _words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _parent_of(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.NoSuchProcess:
        return None


def environment_of(settings: Settings, home: Path, server: PrefectServer | None = None) -> dict[str, str]:
    """Give the environment of a command that stores behind a proxy and reports to a server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    kept |= {
        "HAZARD_STORE_ENDPOINT": str(settings.endpoint),
        "HAZARD_STORE_STAGE": settings.stage,
        "PREFECT_HOME": str(home / "prefect-client"),
        "DO_NOT_TRACK": "1",
        **LOCAL_CREDENTIALS,
    }
    return kept | ({"PREFECT_API_URL": server.api_url} if server is not None else {})


class DaskCluster:
    """A scheduler and workers, each a process of its own as on machines of their own; workers are replaced."""

    def __init__(self, environment: Mapping[str, str], workers: int = 2) -> None:
        self._environment = dict(environment) | {"DASK_LOGGING__DISTRIBUTED": "error"}
        self._port = free_port()
        self.scheduler = self.start_scheduler()
        self.workers = [self.start_worker() for _ in range(workers)]
        self.wait_for_workers()

    @property
    def address(self) -> str:
        """Where a flow finds the scheduler."""
        return f"tcp://{HOST}:{self._port}"

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        return self._start("scheduler", "--host", HOST, "--port", str(self._port), "--no-dashboard")

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "4", "--no-nanny", "--no-dashboard")

    def replace_worker(self, number: int) -> None:
        """Kill a worker; another one takes its place."""
        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self.start_worker()

    def wait_for_workers(self) -> None:
        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=60)

    def kill(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _start(self, *words: str, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "dask", *words],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def dask_cluster(environment: Mapping[str, str]) -> Iterator[DaskCluster]:
    cluster = DaskCluster(environment)
    try:
        yield cluster
    finally:
        cluster.kill()


class RestartableServer:
    """A Prefect server that can be killed, and started again on its port with its database."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.server = PrefectServer.start(home=home)

    def kill(self) -> None:
        process = psutil.Process(self.server.pid)
        for one in (process, *process.children(recursive=True)):
            one.kill()
        until(lambda: not psutil.pid_exists(self.server.pid) or process.status() == psutil.STATUS_ZOMBIE, "its end")
        self.server.stop()

    def start_again(self) -> None:
        self.server = PrefectServer.start(home=self._home, port=self.server.port)

    def restart(self) -> None:
        self.kill()
        self.start_again()
