"""A network that is cut between Dask's workers and their scheduler, in a network namespace.

The workers are on the far side of two pairs of virtual interfaces: by one they reach the scheduler, by the other the
store. Cutting the first leaves them writing, with nobody to tell.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from distributed import Client

from hazard_store.local.process import free_port
from tests.chaos.arena import Arena, until
from tests.chaos.crashes import EXIT_DONE, check_task_runs, stage
from tests.chaos.processes import ROOT, RestartableServer
from tests.chaos.report import Row

# Addresses of documentation (RFC 5737): of nobody's network.
SCHEDULER_SIDE, STORE_SIDE = "192.0.2", "198.51.100"

# Dask gives an unanswered connection up after this; by default 30 s.
TCP_TIMEOUT_SECS = 5.0


def why_not() -> str:
    """Say what namespaces lack here; empty if nothing."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (package iproute2)"
    return ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class FarSide:
    """A namespace with two ways back to this machine."""

    def __init__(self, stack: ExitStack) -> None:
        self.name = f"chaos-{uuid.uuid4().hex[:6]}"
        _ip("netns", "add", self.name)
        stack.callback(_ip, "netns", "delete", self.name)
        self._here = self._connect(stack, SCHEDULER_SIDE)
        self._connect(stack, STORE_SIDE)

    def _connect(self, stack: ExitStack, network: str) -> str:
        here, there = (f"ch{uuid.uuid4().hex[:8]}" for _ in range(2))
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        stack.callback(_ip, "link", "delete", here)
        _ip("address", "add", f"{network}.1/24", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", self.name, "address", "add", f"{network}.2/24", "dev", there)
        _ip("-n", self.name, "link", "set", there, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        return here

    def cut(self) -> None:
        """Let nothing pass between workers and scheduler."""
        _ip("link", "set", self._here, "down")

    def heal(self) -> None:
        _ip("link", "set", self._here, "up")


@contextmanager
def far_cluster(far: FarSide, environment: dict[str, str]) -> Iterator[str]:
    """A scheduler here, and two workers with nannies on the far side."""
    environment = environment | {
        "DASK_LOGGING__DISTRIBUTED": "error",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{TCP_TIMEOUT_SECS:g}s",
    }
    port = str(free_port())
    address = f"tcp://{SCHEDULER_SIDE}.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", f"{SCHEDULER_SIDE}.1", "--port", port, "--no-dashboard"]
    worker = ["ip", "netns", "exec", far.name, *dask, "worker", address, "--host", f"{SCHEDULER_SIDE}.2"]
    worker += ["--nthreads", "1", "--no-dashboard"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(words, cwd=ROOT, env=environment, **quiet) for words in (scheduler, worker, worker)]
    try:
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def network_cut(arena: Arena, row: Row, server: RestartableServer) -> None:
    """The scheduler loses all workers, and finds them again when the network is healed."""
    if reason := why_not():
        row.skipped = reason
        return
    with ExitStack() as stack:
        far = FarSide(stack)
        at = stack.enter_context(stage(arena, row, server, n_sites=600, host=f"{STORE_SIDE}.1"))
        address = stack.enter_context(far_cluster(far, at.environment))
        command = at.start("--cluster", address)
        at.wait_for_items(1_000, command)
        at.done.look()
        far.cut()
        row.kills += 1
        with Client(address, set_as_default=False) as client:
            until(lambda: not client.scheduler_info(n_workers=-1)["workers"], "the loss of all workers", 60)
        far.heal()
        if at.end(command) == EXIT_DONE:
            at.audit()
        else:
            at.finish("--cluster", "none")
    check_task_runs(row, server)


def scenarios(server: Callable[[], RestartableServer]) -> dict[str, Callable[[Arena, Row], Any]]:
    """All of them by name."""
    return {"network cut between workers and scheduler": lambda arena, row: network_cut(arena, row, server())}
