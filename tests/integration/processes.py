"""Commands as processes of their own, against stores of their own: what runs at once here is really at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.fault_proxy import FaultProxy, Rule

# A dead run is known as one after this, and not after 20 s; the processes of a test and its own must agree on it.
RENEW_SECS, LEASE_SECS, STOP_SECS = 0.2, 2.5, 2.5
# A failed chunk is tried as often as ever, and sooner.
RETRY_DELAYS_SECS = (0.1, 0.1)

_PROGRAM = f"""
import sys
from hazard_store import lease, storing
lease.RENEW_SECS, lease.LEASE_SECS, lease.STOP_SECS = {RENEW_SECS}, {{lease_secs}}, {STOP_SECS}
storing.CHUNK_RETRY_DELAYS_SECS = {RETRY_DELAYS_SECS}
from hazard_store.cli import main
main(sys.argv[1:])
"""

WAIT_SECS = 180.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """``hazard-store`` in a process, with its own address of the store where one is given."""

    def __init__(self, *args: object, endpoint: str | None = None, lease_secs: float = LEASE_SECS) -> None:
        program = _PROGRAM.format(lease_secs=lease_secs)
        if endpoint is not None:
            program = f"import os; os.environ['HAZARD_STORE_ENDPOINT'] = {endpoint!r}\n{program}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> Ended:
        """Wait until it has ended."""
        out, err = self.process.communicate(timeout=WAIT_SECS)
        return Ended(self.process.returncode, out, err)

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self.process.kill()
        self.process.communicate(timeout=WAIT_SECS)


def run(*args: object, endpoint: str | None = None) -> Ended:
    """Run a command to its end."""
    return Command(*args, endpoint=endpoint).end()


def store_command(source: Path, haz_sol_id: str, layout: str = "packed+solution") -> tuple[object, ...]:
    """What stores a calculation in one process."""
    encoding, partition = layout.split("+")
    flags = ("--encoding", encoding, "--partition", partition, "--cluster", "none")
    return "store", source, "--id", haz_sol_id, *flags


class Gate:
    """A rule of a proxy that throttles all batch writes until it is opened: the command lives, but cannot go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def rule(self, operation: str, body: bytes) -> tuple[int, str] | None:
        if operation != "BatchWriteItem":
            return None
        self.reached.set()
        return None if self._open.is_set() else (400, "ProvisionedThroughputExceededException")

    def open(self) -> None:
        """Let everything pass."""
        self._open.set()


@contextmanager
def held_at_its_first_batch(proxy: FaultProxy, *args: object) -> Iterator[tuple[Command, Gate]]:
    """Run a command through a proxy, in the middle of whose writes the block begins; killed if it outlives it."""
    gate = Gate()
    rule: Rule = gate.rule
    proxy.rule = rule
    command = Command(*args, endpoint=proxy.endpoint)
    try:
        while not gate.reached.wait(0.05):
            assert command.process.poll() is None, command.end()
        yield command, gate
    finally:
        gate.open()
        if command.process.poll() is None:
            command.kill()
