"""Commands at once on one store, each in a process of its own: one waits or is refused, and what is stored is whole."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import pytest

from hazard_store import lease
from hazard_store.deletion import delete
from hazard_store.errors import LeaseHeldError, NotStoredError
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.meta import read_meta
from hazard_store.settings import Settings
from hazard_store.storing import store_in_process
from hazard_store.verification import MODES, Mode, verify
from tests.integration.fault_proxy import FaultProxy, fault_proxy
from tests.integration.processes import (
    LEASE_SECS,
    RENEW_SECS,
    STOP_SECS,
    Command,
    Ended,
    held_at_its_first_batch,
    run,
    store_command,
)
from tests.integration.test_delete import dump, is_empty

pytestmark = pytest.mark.timeout(600)

BUSY = "is storing or deleting"
in_two_layouts = pytest.mark.parametrize("layout", ["packed+solution", "list+location"])


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECS", RENEW_SECS)
    monkeypatch.setattr(lease, "LEASE_SECS", LEASE_SECS)
    monkeypatch.setattr(lease, "STOP_SECS", STOP_SECS)


@pytest.fixture
def own_proxy(dynamodb_endpoint: str) -> Iterator[FaultProxy]:
    """A proxy for the command that is held; the test and the others go to the database directly."""
    with fault_proxy(dynamodb_endpoint) as running:
        yield running


@pytest.fixture
def source(data_dir: Path) -> Path:
    return data_dir / "custom_ids.hdf5"


def store_here(source: Path, haz_sol_id: str, layout: str, settings: Settings) -> None:
    """What is there before anything happens at once: in this process, which has tried the file already."""
    encoding, partition = layout.split("+")
    request = StoreRequest(str(source), haz_sol_id, encoding=encoding, partition=partition)
    assert store_in_process(request, settings).complete


def with_halved_curves(source: Path, copy: Path) -> Path:
    """A copy in which each curve is another one, and still a curve: half of a poe is exact, and keeps their order."""
    shutil.copy(source, copy)
    with h5py.File(copy, "r+") as file:
        for name in ("hcurves-stats", "hcurves-rlzs"):
            assert (file[name][()].max(axis=-1) > 0).all()
            file[name][...] = file[name][()] / 2
    return copy


@in_two_layouts
def test_of_two_stores_of_one_calculation_the_second_is_refused(
    layout: str, own_proxy: FaultProxy, tables: Settings, source: Path
) -> None:
    with held_at_its_first_batch(own_proxy, *store_command(source, "ONE", layout)) as (first, gate):
        second = run(*store_command(source, "ONE", layout))
        assert (second.code, BUSY in second.err, second.err.count("\n")) == (2, True, 2), second.err
        gate.open()
        assert first.end().code == 0
    report = verify(str(source), "ONE")
    assert (report.ok, report.complete, report.checked_items) == (True, True, 85), report.summary


@pytest.mark.parametrize("layout", ["packed+location"])
def test_of_stores_that_start_at_the_same_moment_one_at_least_ends_and_the_result_is_whole(
    layout: str, tables: Settings, source: Path
) -> None:
    commands = [Command(*store_command(source, "ONE", layout)) for _ in range(4)]
    ended = [command.end() for command in commands]
    codes = sorted(one.code for one in ended)
    # A store that comes when another has just ended finds everything stored.
    assert codes[0] == 0
    assert set(codes) <= {0, 2}
    assert all(BUSY in one.err for one in ended if one.code == 2)
    report = verify(str(source), "ONE")
    assert (report.ok, report.complete, report.checked_items) == (True, True, 85), report.summary


@pytest.mark.parametrize("layout", ["packed+location", "list+location"])
def test_two_calculations_in_one_location_table_at_once_do_not_meet(
    layout: str, own_proxy: FaultProxy, tables: Settings, source: Path, tmp_path: Path
) -> None:
    # The same sites with other curves: nothing but the id keeps their keys apart.
    other = with_halved_curves(source, tmp_path / "halved.hdf5")
    with held_at_its_first_batch(own_proxy, *store_command(source, "ONE", layout)) as (first, gate):
        second = run(*store_command(other, "ONE-2", layout))
        assert second.code == 0, second.err
        third = Command(*store_command(source, "ONE-3", layout))
        gate.open()
        assert (first.end().code, third.end().code) == (0, 0)
    for haz_sol_id, file in (("ONE", source), ("ONE-2", other), ("ONE-3", source)):
        report = verify(str(file), haz_sol_id)
        assert (report.ok, report.complete, report.checked_items) == (True, True, 85), report.summary
    # A value of one under the id of the other would have been seen.
    assert verify(str(source), "ONE-2").different > 2_000
    before = [verify(str(file), name) for name, file in (("ONE-2", other), ("ONE-3", source))]
    delete("ONE")
    assert [verify(str(file), name) for name, file in (("ONE-2", other), ("ONE-3", source))] == before


@pytest.mark.parametrize("mode", MODES)
def test_a_verify_during_a_store_says_that_it_is_being_stored(
    mode: Mode, own_proxy: FaultProxy, tables: Settings, source: Path
) -> None:
    with held_at_its_first_batch(own_proxy, *store_command(source, "ONE")) as (first, gate):
        refused = run("verify", source, "--id", "ONE", "--mode", mode)
        assert (refused.code, refused.out, BUSY in refused.err) == (2, "", True), refused
        gate.open()
        assert first.end().code == 0
    assert run("verify", source, "--id", "ONE", "--mode", mode).code == 0


def test_a_verify_of_a_store_that_was_killed_says_what_is_missing(
    own_proxy: FaultProxy, tables: Settings, source: Path
) -> None:
    with held_at_its_first_batch(own_proxy, *store_command(source, "ONE")) as (first, _):
        first.kill()
    ended = run("verify", source, "--id", "ONE")
    assert (ended.code, "85 items missing" in ended.out) == (1, True), ended
    assert "waiting to see whether run" in ended.err
    assert run(*store_command(source, "ONE")).code == 0
    assert verify(str(source), "ONE").ok


@pytest.mark.parametrize(
    ("layout", "mode"), [*(("packed+solution", mode) for mode in MODES), ("list+location", "full")]
)
def test_a_store_or_delete_that_begins_during_a_verify_is_no_difference_of_the_store(
    layout: str, mode: Mode, tables: Settings, source: Path, data_dir: Path
) -> None:
    store_here(source, "ONE", layout, tables)
    begun: list[int] = []

    def once(*args: object) -> None:
        if not begun:
            begun.append(run(*args).code)

    def verify_while(*args: object) -> bool:
        begun.clear()
        report = verify(str(source), "ONE", mode=mode, curves=85, seed=1, on_progress=lambda done, total: once(*args))
        return report.ok

    # The same again: everything is skipped, or written as it was.
    assert verify_while(*store_command(source, "ONE", layout))
    assert begun == [0]
    # What is read after the first progress is gone.
    with pytest.raises(LeaseHeldError, match="verify it again"):
        verify_while("delete", "ONE", "--yes")
    assert begun == [0]


def test_a_delete_during_a_store_and_a_store_during_a_delete_are_refused(
    own_proxy: FaultProxy, tables: Settings, source: Path
) -> None:
    with held_at_its_first_batch(own_proxy, *store_command(source, "ONE")) as (store, gate):
        refused = run("delete", "ONE", "--yes")
        assert (refused.code, BUSY in refused.err) == (2, True), refused
        gate.open()
        assert store.end().code == 0
    assert verify(str(source), "ONE").ok
    with held_at_its_first_batch(own_proxy, "delete", "ONE", "--yes") as (deletion, gate):
        refused = run(*store_command(source, "ONE"))
        assert (refused.code, BUSY in refused.err) == (2, True), refused
        assert not read_meta("ONE", tables, LAYOUTS["packed+solution"]).complete
        gate.open()
        assert deletion.end().code == 0
    assert is_empty(dump(tables))
    assert run(*store_command(source, "ONE")).code == 0
    assert verify(str(source), "ONE").ok


WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem")


@in_two_layouts
def test_a_delete_that_is_killed_again_and_again_goes_on_where_it_was(
    layout: str, own_proxy: FaultProxy, tables: Settings, source: Path
) -> None:
    """SIGKILL at the first write of the first run, the second of the next, the fourth, until one comes to its end."""
    store_here(source, "ONE-2", layout, tables)
    neighbour = dump(tables)
    store_here(source, "ONE", layout, tables)
    kills = 0
    while True:
        command = KilledAt(own_proxy, 2**kills, "delete", "ONE", "--yes")
        ended = command.end()
        if not command.killed:
            break
        kills += 1
        assert kills < 10
        with suppress(NotStoredError):
            # Only the first one wrote nothing at all.
            assert read_meta("ONE", tables, LAYOUTS[layout]).complete == (kills == 1)
    assert ended.code == 0, ended.err
    assert kills >= 3
    assert dump(tables) == neighbour


class KilledAt:
    """A command that is killed when it is about to send its n-th write."""

    def __init__(self, proxy: FaultProxy, number: int, *args: object) -> None:
        self.killed = False
        self._left = number
        self._ready = threading.Event()
        proxy.rule = self._rule
        # The lease of a run that is dead for sure may be a short one.
        self._command = Command(*args, endpoint=proxy.endpoint, lease_secs=1.0)
        self._ready.set()

    def end(self) -> Ended:
        """Wait until it ended, by itself or killed."""
        return self._command.end()

    def _rule(self, operation: str, body: bytes) -> tuple[int, str] | None:
        # Renewals of the lease come when they come, and would make each run another one.
        if operation not in WRITES or b"#lease" in body:
            return None
        self._left -= 1
        if self._left > 0:
            return None
        self._ready.wait()
        self._command.process.kill()
        self.killed = True
        return 500, "InternalServerError"
