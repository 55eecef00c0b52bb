"""A network that is cut between Dask's workers and their scheduler, which is in a network namespace of its own.

Two pairs of virtual interfaces lead there: workers come by one, the flow by the other. Cutting the first leaves workers
that write, with nobody to tell, and a flow that sees its workers gone.
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

from tests.chaos.arena import Arena, until
from tests.chaos.crashes import EXIT_DONE, check_task_runs, stage
from tests.chaos.processes import DaskCluster, RestartableServer
from tests.chaos.report import Row

# Of the addresses for tests of network devices (RFC 2544), two networks that are hardly anybody's; it is checked.
WORKERS_SIDE, FLOW_SIDE = "198.18.77", "198.19.77"

# Dask gives an unanswered connection up after this; by default 30 s, and it takes no less than 11.
TCP_TIMEOUT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}


def why_not() -> str:
    """Say what namespaces lack here; empty if nothing."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (package iproute2)"
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    taken = [network for network in (WORKERS_SIDE, FLOW_SIDE) if f"{network}." in routes]
    return f"this machine uses {' and '.join(taken)}.0/24 itself" if taken else ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class FarSide:
    """A namespace with two ways to it."""

    def __init__(self, stack: ExitStack) -> None:
        self.name = f"chaos-{uuid.uuid4().hex[:6]}"
        _ip("netns", "add", self.name)
        stack.callback(_ip, "netns", "delete", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        self._to_workers = self._connect(stack, WORKERS_SIDE)
        self._connect(stack, FLOW_SIDE)

    def _connect(self, stack: ExitStack, network: str) -> str:
        here, there = (f"ch{uuid.uuid4().hex[:8]}" for _ in range(2))
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        stack.callback(_ip, "link", "delete", here)
        _ip("address", "add", f"{network}.1/24", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", self.name, "address", "add", f"{network}.2/24", "dev", there)
        _ip("-n", self.name, "link", "set", there, "up")
        return here

    def cut(self) -> None:
        """Let nothing pass between workers and scheduler."""
        _ip("link", "set", self._to_workers, "down")

    def heal(self) -> None:
        _ip("link", "set", self._to_workers, "up")


class FarCluster(DaskCluster):
    """A scheduler in a namespace, and workers on this side of it."""

    def __init__(self, far: FarSide, environment: dict[str, str]) -> None:
        self._far = far
        super().__init__(environment | TCP_TIMEOUT)

    @property
    def address(self) -> str:
        """Where the flow finds the scheduler."""
        return f"tcp://{FLOW_SIDE}.2:{self._port}"

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        words = ("scheduler", "--host", "0.0.0.0", "--port", str(self._port), "--no-dashboard")
        return self._start(*words, before=("ip", "netns", "exec", self._far.name))

    def start_worker(self) -> subprocess.Popen[bytes]:
        address = f"tcp://{WORKERS_SIDE}.2:{self._port}"
        words = ("worker", address, "--host", f"{WORKERS_SIDE}.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        return self._start(*words)


@contextmanager
def far_cluster(far: FarSide, environment: dict[str, str]) -> Iterator[FarCluster]:
    cluster = FarCluster(far, environment)
    try:
        yield cluster
    finally:
        cluster.kill()


def network_cut(arena: Arena, row: Row, server: RestartableServer) -> None:
    """The scheduler loses all workers; when the network is healed, others take their place, and the run goes on."""
    if reason := why_not():
        row.skipped = reason
        return
    with ExitStack() as stack:
        far = FarSide(stack)
        at = stack.enter_context(stage(arena, row, server, n_sites=600))
        cluster = stack.enter_context(far_cluster(far, at.environment | TCP_TIMEOUT))
        command = at.start("--cluster", cluster.address)
        at.wait_for_items(1_000, command)
        at.done.look()
        far.cut()
        row.kills += 1
        with Client(cluster.address, set_as_default=False, timeout=60) as client:
            until(lambda: not client.scheduler_info(n_workers=-1)["workers"], "the loss of all workers", 60)
        far.heal()
        for number in range(len(cluster.workers)):
            cluster.replace_worker(number)
        if at.end(command) == EXIT_DONE:
            at.audit()
        else:
            at.finish("--cluster", cluster.address)
    check_task_runs(row, server)


def scenarios(server: Callable[[], RestartableServer]) -> dict[str, Callable[[Arena, Row], Any]]:
    """All of them by name."""
    return {"network cut between workers and scheduler": lambda arena, row: network_cut(arena, row, server())}
