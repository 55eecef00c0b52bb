"""A child process that serves on a port: started, waited for, and never left behind."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hazard_store.errors import LocalServiceError

HOST = "127.0.0.1"

# Below the ranges from which Linux (32768 up) and macOS (49152 up) take ports for outgoing connections, so that
# nothing takes a port between the moment it was found free and the moment the service binds it.
_FREE_PORTS = range(20_000, 32_000)

_POLL_INTERVAL_SECS = 0.05
_LOG_TAIL_LINES = 5


class LocalProcess:
    """A service in a process (and process group) of its own.

    Unless it is detached it cannot outlive its parent: `stop` runs at exit, and a watchdog that waits for the end of
    a pipe from the parent kills the group even when the parent was killed with no chance to clean up.

    Parameters
    ----------
    name : str
        What error messages call it.
    command : sequence of str
        The program and its arguments.
    log_path : Path
        Takes what it prints.
    cwd : Path
        Where it runs.
    env : mapping, optional
        Its environment; this process's own by default.
    detached : bool
        Leave it running when this process ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_path
        try:
            with log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=None if env is None else dict(env),
                    start_new_session=True,
                )
        except OSError as exc:
            raise LocalServiceError(f"{name} cannot be started with {command[0]}: {exc}") from exc
        self._watchdog = None if detached else _start_watchdog(self.pid)
        if not detached:
            atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's as well."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_secs: float) -> None:
        """Wait until `is_ready()`; stop the process and raise with the end of its log if that does not come.

        Raises
        ------
        LocalServiceError
            The process ended, or was not ready in time.
        """
        try:
            problem = self._problem_before(is_ready, timeout_secs)
        except BaseException:
            self.stop()
            raise
        if problem is not None:
            tail = self.log_tail() or "(empty)"
            self.stop()
            raise LocalServiceError(f"{self.name} {problem}; the end of its log {self.log_path}: {tail}")

    def log_tail(self) -> str:
        """Return the last lines that it printed, joined to one."""
        lines = [line.strip() for line in self.log_path.read_text(errors="replace").splitlines()]
        # The frames of a Java stack trace would push its message out.
        return " | ".join([line for line in lines if line and not line.startswith("at ")][-_LOG_TAIL_LINES:])

    def _problem_before(self, is_ready: Callable[[], bool], timeout_secs: float) -> str | None:
        """Wait until `is_ready()` and return None, or return what came instead."""
        deadline = time.monotonic() + timeout_secs
        while True:
            ready = is_ready()
            # Asked after `is_ready`: when another process answers on this port, ours has died of it.
            if not self.is_running:
                return f"ended with exit code {self._process.returncode} while starting"
            if ready:
                return None
            if time.monotonic() > deadline:
                return f"did not answer within {timeout_secs:.0f} s"
            time.sleep(_POLL_INTERVAL_SECS)

    def stop(self, *, grace_secs: float = 10) -> None:
        """End the process and all that it started; a second call does nothing."""
        atexit.unregister(self.stop)
        if self._watchdog is not None:
            # First, so that it can never act on a process id that has passed to somebody else.
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if not self.is_running:
            return
        _signal_group(self.pid, signal.SIGTERM)
        try:
            self._process.wait(grace_secs)
        except subprocess.TimeoutExpired:
            _signal_group(self.pid, signal.SIGKILL)
            self._process.wait()


class LocalService:
    """What a service on a port of this machine has in common with the others; each has a `start` that makes one.

    Parameters
    ----------
    process : LocalProcess
        In which it runs.
    port : int
        Where it answers.
    """

    def __init__(self, process: LocalProcess, port: int) -> None:
        self._process = process
        self.port = port

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """The file that takes what it prints."""
        return self._process.log_path

    def stop(self) -> None:
        """End it and all that it started; a second call does nothing."""
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def free_port(preferred: int | None = None) -> int:
    """Return a port that nothing listens on: `preferred` or the next free one after it, or else any.

    Raises
    ------
    LocalServiceError
        No free port was found in 200 tries.
    """
    candidates = range(preferred, preferred + 200) if preferred else random.sample(_FREE_PORTS, 200)
    for port in candidates:
        if is_port_free(port):
            return port
    raise LocalServiceError(f"no free port was found from {min(candidates)} to {max(candidates)}")


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this port, on every address of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def http_status(port: int, path: str) -> int | None:
    """Return the status of a GET on this machine, past any proxy, or None where nothing answers within 2 seconds."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _start_watchdog(process_group: int) -> subprocess.Popen[bytes]:
    # `read` returns when the write end of the pipe closes, which the kernel does when this process ends, however.
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r line; kill -s KILL -- "-$1"', "watchdog", str(process_group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _signal_group(process_group: int, signal_number: int) -> None:
    # macOS answers with a PermissionError where a group has only dead members left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process_group, signal_number)
