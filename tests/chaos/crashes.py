"""Processes that die: the flow's, Dask's workers and scheduler, the Prefect server, all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.limited_dynamodb import LimitedDynamoDb
from hazard_store.jobs import StoreRequest
from hazard_store.ledger import Ledger
from hazard_store.local.process import HOST
from tests.chaos.arena import CURVES_PER_SITE, Arena, DoneChunks, until
from tests.chaos.processes import Command, RestartableServer, dask_cluster, environment_of
from tests.chaos.report import Row

N_SITES = 300
MAX_WCU = 350
RUN_SECS = 180.0
EXIT_DONE, EXIT_CHUNKS_FAILED, EXIT_REFUSED = 0, 1, 2
ENDINGS = {EXIT_DONE: "Completed", EXIT_CHUNKS_FAILED: "Failed, chunks named", EXIT_REFUSED: "Failed, with the reason"}

PROCESS_KILLED = "process killed again and again"
PROCESS_KILLED_UNDER_FAULTS = "process killed again and again, under faults"
# What needs no Prefect server, which others restart.
ALONE = (PROCESS_KILLED, PROCESS_KILLED_UNDER_FAULTS)


@dataclass
class Stage:
    """A calculation to store behind a proxy, by commands that can be killed."""

    arena: Arena
    row: Row
    proxy: LimitedDynamoDb
    request: StoreRequest
    environment: dict[str, str]
    done: DoneChunks
    commands: list[Command] = field(default_factory=list)

    def start(self, *words: str) -> Command:
        self.row.runs += 1
        said = [*words, "--max-wcu", str(MAX_WCU)]
        command = Command(
            ["store", self.request.source, "--id", self.request.haz_sol_id, *said],
            self.environment,
            self.arena.home / f"{self.request.haz_sol_id}.log",
        )
        self.commands.append(command)
        return command

    def wait_for_items(self, more: int, command: Command) -> bool:
        """Wait until so many more items were written; False if the command ended before."""
        wanted = self.proxy.counts()["items"] + more
        until(lambda: command.code is not None or self.proxy.counts()["items"] >= wanted, f"{more} more items")
        return command.code is None

    def end(self, command: Command) -> int:
        """Wait for a run's end, which is one of those that are promised."""
        code = command.end(RUN_SECS)
        self.row.endings[ENDINGS.get(code, f"exit {code}")] += 1
        self.row.expect(code in ENDINGS, f"exit {code}: {command.tail()}")
        if code == EXIT_CHUNKS_FAILED:
            failed = [one for one, record in self.arena.chunks(self.request).items() if record.status != "done"]
            said = command.log_path.read_text(errors="replace")
            self.row.expect(bool(failed) and all(one in said for one in failed), f"not named: {failed}")
        return code

    def finish(self, *words: str) -> None:
        """Run the same command until all is stored, at most three times, and audit it."""
        for _ in range(3):
            if self.end(self.start(*words)) == EXIT_DONE:
                break
        else:
            self.row.problems.append("the same command did not end what is left")
        self.audit()

    def audit(self) -> None:
        self.done.count(self.row)
        (record,) = Ledger(self.arena.direct).calculations(self.request.haz_sol_id)
        self.row.expect(record.status == "complete", f"the ledger says {record.status}")
        self.row.faults += sum(self.proxy.counts()["faults"].values())
        self.arena.audit(self.row, self.request)


@contextmanager
def stage(
    arena: Arena,
    row: Row,
    server: RestartableServer | None = None,
    n_sites: int = N_SITES,
    host: str = HOST,
    **faults: float,
) -> Iterator[Stage]:
    request = StoreRequest(str(arena.calculation(n_sites)), arena.new_id())
    with arena.proxy(host=host) as proxy:
        proxy.set_faults(**faults)
        environment = environment_of(arena.behind(proxy), arena.home, server.server if server else None)
        made = Stage(arena, row, proxy, request, environment, DoneChunks(arena, request))
        try:
            yield made
        finally:
            for command in made.commands:
                if command.code is None:
                    command.kill_all()


def killed_again_and_again(arena: Arena, row: Row, kills: int, **faults: float) -> None:
    """The storing process is killed in the middle; the same command resumes it, and is killed."""
    random = arena.random(row.scenario)
    # More than is written between the kills, whatever is written twice.
    with stage(arena, row, n_sites=max(60, 12 * kills), **faults) as at:
        while row.kills < kills:
            command = at.start("--cluster", "none")
            if not at.wait_for_items(random.randint(1, 10 * CURVES_PER_SITE), command):
                at.end(command)
                break
            at.done.look()
            command.kill()
            row.kills += 1
        row.expect(row.kills == kills, f"the store ended after {row.kills} kills")
        at.finish("--cluster", "none")


def local_workers_killed(arena: Arena, row: Row, server: RestartableServer, kills: int) -> None:
    """Workers of a local cluster are killed while they write; the others and their successors go on."""
    with stage(arena, row, server, n_sites=450) as at:
        command = at.start("--workers", "2")

        def kill(draw: Random) -> bool:
            victims = command.dask_workers()
            if victims:
                draw.choice(victims).kill()
            return bool(victims)

        _kill_workers(at, command, kills, kill)
    check_task_runs(row, server)


def remote_workers_killed(arena: Arena, row: Row, server: RestartableServer, kills: int) -> None:
    """Workers of a cluster elsewhere are killed and replaced."""
    with stage(arena, row, server, n_sites=450) as at, dask_cluster(at.environment) as cluster:
        command = at.start("--cluster", cluster.address)

        def kill(draw: Random) -> bool:
            cluster.replace_worker(draw.randrange(2))
            return True

        _kill_workers(at, command, kills, kill)
    check_task_runs(row, server)


def _kill_workers(at: Stage, command: Command, kills: int, kill: Callable[[Random], bool]) -> None:
    draw = at.arena.random(at.row.scenario)
    while at.row.kills < kills and at.wait_for_items(draw.randint(400, 900), command):
        at.done.look()
        at.row.kills += kill(draw)
    if at.end(command) == EXIT_DONE:
        at.audit()
    else:
        at.finish("--cluster", "none")


def scheduler_killed(arena: Arena, row: Row, server: RestartableServer) -> None:
    """The scheduler is killed: the run names what it could not store."""
    with stage(arena, row, server) as at:
        with dask_cluster(at.environment) as cluster:
            command = at.start("--cluster", cluster.address)
            at.wait_for_items(1_000, command)
            at.done.look()
            cluster.scheduler.kill()
            row.kills += 1
            code = at.end(command)
            row.expect(code == EXIT_CHUNKS_FAILED, f"exit {code}: {command.tail()}")
        at.finish("--cluster", "none")
    check_task_runs(row, server)


def flow_killed(arena: Arena, row: Row, server: RestartableServer, cluster_name: str) -> None:
    """The flow's process is killed; the same command goes on."""
    with stage(arena, row, server) as at:
        if cluster_name == "local":
            _kill_flow(at, "--workers", "2")
        else:
            with dask_cluster(at.environment) as cluster:
                _kill_flow(at, "--cluster", cluster.address)
    check_task_runs(row, server)


def _kill_flow(at: Stage, *words: str) -> None:
    command = at.start(*words)
    at.wait_for_items(1_000, command)
    at.done.look()
    command.kill()
    at.row.kills += 1
    at.finish(*words)


def server_restarted(arena: Arena, row: Row, server: RestartableServer) -> None:
    """The Prefect server is killed in the middle and started again: the run goes on or says why not."""
    with stage(arena, row, server) as at:
        command = at.start("--workers", "2")
        at.wait_for_items(1_000, command)
        at.done.look()
        server.restart()
        row.kills += 1
        if at.end(command) == EXIT_DONE:
            at.audit()
        else:
            at.finish("--workers", "2")
    check_task_runs(row, server)


def all_killed(arena: Arena, row: Row, server: RestartableServer) -> None:
    """Flow, workers, scheduler and Prefect server are killed at once, as when a machine is lost."""
    with stage(arena, row, server) as at:
        with dask_cluster(at.environment) as cluster:
            command = at.start("--cluster", cluster.address)
            at.wait_for_items(1_000, command)
            at.done.look()
            command.kill_all()
            cluster.kill()
            server.kill()
            row.kills += 1 + 3 + 1
        server.start_again()
        at.finish("--workers", "2")
    check_task_runs(row, server)


def check_task_runs(row: Row, server: RestartableServer) -> None:
    """No task run stays Running for ever."""
    unended = TaskRunFilter(
        state=TaskRunFilterState(
            type=TaskRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
        )
    )
    with (
        temporary_settings({PREFECT_API_URL: server.server.api_url}),
        get_client(sync_client=True) as client,
    ):
        try:
            until(lambda: not client.read_task_runs(task_run_filter=unended), "the end of all task runs", 20)
        except TimeoutError:
            left = client.read_task_runs(task_run_filter=unended)
            row.problems.append(f"task runs that never ended: {[(one.name, one.state_name) for one in left]}")
            for one in left:
                # So that the next scenario is not blamed for them.
                client.delete_task_run(one.id)


def scenarios(server: Callable[[], RestartableServer]) -> dict[str, Callable[[Arena, Row], Any]]:
    """All of them by name."""
    return {
        PROCESS_KILLED: lambda arena, row: killed_again_and_again(arena, row, 22),
        PROCESS_KILLED_UNDER_FAULTS: lambda arena, row: killed_again_and_again(
            arena, row, 8, internal_error=0.05, reset_midway=0.05, throttled_part=0.05
        ),
        "local workers killed": lambda arena, row: local_workers_killed(arena, row, server(), 8),
        "remote workers killed": lambda arena, row: remote_workers_killed(arena, row, server(), 8),
        "scheduler killed": lambda arena, row: scheduler_killed(arena, row, server()),
        "flow killed, local cluster": lambda arena, row: flow_killed(arena, row, server(), "local"),
        "flow killed, remote cluster": lambda arena, row: flow_killed(arena, row, server(), "remote"),
        "Prefect server restarted": lambda arena, row: server_restarted(arena, row, server()),
        "all killed": lambda arena, row: all_killed(arena, row, server()),
    }
