"""Child processes: waited for, explained when they fail, and gone when their parent is, however it ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hazard_store.errors import LocalServiceError
from hazard_store.local.process import LocalProcess, free_port, http_status, is_port_free

PARENT = """
import sys, time
from pathlib import Path
from hazard_store.local.process import LocalProcess
folder = Path(sys.argv[1])
child = LocalProcess("x", ["sleep", "60"], log_path=folder / "log", cwd=folder, detached=sys.argv[2] == "detached")
print(child.pid, flush=True)
if sys.argv[2] == "raises":
    raise RuntimeError
time.sleep(30)
"""


def start(tmp_path: Path, *command: str) -> LocalProcess:
    return LocalProcess("the service", command, log_path=tmp_path / "log", cwd=tmp_path)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has reaped yet does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def is_gone_within(pid: int, secs: float) -> bool:
    deadline = time.monotonic() + secs
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_stop_ends_it_and_may_be_repeated(tmp_path: Path) -> None:
    process = start(tmp_path, "sleep", "60")
    assert process.is_running
    process.stop()
    process.stop()
    assert not is_alive(process.pid)


def test_stop_ends_what_ignores_a_polite_request_and_its_children(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; wait; sleep 60")
    process.wait_until(lambda: bool(process.log_tail()), timeout_secs=10)
    child = int(process.log_tail())
    process.stop(grace_secs=0.3)
    assert not is_alive(process.pid)
    assert is_gone_within(child, 5)


def test_end_while_starting_is_told_with_the_log(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "echo first; echo; echo cannot bind; exit 3")
    with pytest.raises(LocalServiceError, match=r"the service ended with exit code 3 .*first \| cannot bind$"):
        process.wait_until(lambda: False, timeout_secs=10)


def test_answer_of_another_process_does_not_count(tmp_path: Path) -> None:
    process = start(tmp_path, "false")
    process._process.wait()
    with pytest.raises(LocalServiceError, match="exit code 1"):
        process.wait_until(lambda: True, timeout_secs=10)


def test_silence_is_told_in_bounded_time_and_ends_the_process(tmp_path: Path) -> None:
    process = start(tmp_path, "sleep", "60")
    with pytest.raises(LocalServiceError, match=r"did not answer within 0 s.*\(empty\)"):
        process.wait_until(lambda: False, timeout_secs=0.1)
    assert not is_alive(process.pid)


def test_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalServiceError, match="the service cannot be started with /no/such/program"):
        start(tmp_path, "/no/such/program")


@pytest.mark.parametrize("parent_ends", ["raises", "interrupted", "killed"])
def test_child_ends_with_its_parent(tmp_path: Path, parent_ends: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), parent_ends], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if parent_ends != "raises":
        parent.send_signal(signal.SIGINT if parent_ends == "interrupted" else signal.SIGKILL)
    parent.communicate(timeout=20)
    assert is_gone_within(child, 5)


def test_detached_child_outlives_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), "detached"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate(timeout=20)
    try:
        assert not is_gone_within(child, 0.5)
    finally:
        os.kill(child, signal.SIGKILL)


def test_free_port_passes_over_a_taken_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_port_free(port)
        assert free_port(port) > port
        assert is_port_free(free_port())


def test_http_status_of_a_silent_port() -> None:
    assert http_status(free_port(), "/") is None
