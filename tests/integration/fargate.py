"""Fargate for moto, which runs no containers: its tasks become processes here, each at an address of its own.

A task's process gets what a container gets: the command of RunTask, the environment of its task definition, and nothing
of the run's. Addresses are of the loopback network, so that scheduler and workers reach each other, and of a part of it
that no other test run on this machine has: schedulers all listen on the same port.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.core.responses import BaseResponse
from moto.ecs import models
from moto.moto_api import state_manager

from hazard_store.local.dynamodb import LOCAL_CREDENTIALS
from tests.integration.aws import REGION

ACCOUNT = "123456789012"
CHECKOUT = Path(__file__).resolve().parents[2]
LOOK_SECS = 0.05
SCHEDULER_PORT = 8786

# Of the image: dask-scheduler and dask-worker, and what they start.
_PATH = os.pathsep.join((str(CHECKOUT / "deployments" / "image"), str(Path(sys.executable).parent), os.environ["PATH"]))


@dataclass
class Container:
    """A task with its process, and what it was started with."""

    task: Any
    definition: Any
    process: subprocess.Popen[bytes] | None = None

    @property
    def role(self) -> str:
        return str(self.definition.container_definitions[0]["name"])

    @property
    def command(self) -> list[str]:
        (override,) = self.task.overrides["containerOverrides"]
        return list(override["command"])

    @property
    def variables(self) -> dict[str, str]:
        return {pair["name"]: pair["value"] for pair in self.definition.container_definitions[0]["environment"]}

    @property
    def address(self) -> str:
        (details,) = [one["details"] for one in self.task.attachments]
        return next(str(detail["value"]) for detail in details if detail["name"] == "privateIPv4Address")

    @property
    def ended(self) -> bool:
        return self.task.desired_status == "STOPPED" and (self.process is None or self.process.poll() is not None)


class FakeFargate:
    """Starts what moto was asked to run, and stops what moto was asked to stop.

    Attributes
    ----------
    broken : dict of str to str
        Roles whose containers cannot be started, with ECS's reason; an empty one for those that never do anything.
    blind_looks : int
        How often DescribeTasks still knows of no task, as on AWS for a while after RunTask.
    sent : set of str
        Every action that moto was asked for, as policies name them: ``ecs:RunTask``.
    """

    def __init__(self, home: Path) -> None:
        self.broken: dict[str, str] = {}
        self.blind_looks = 0
        self.containers: list[Container] = []
        self.sent: set[str] = set()
        self._home = home
        self.backend = models.ecs_backends[ACCOUNT][REGION]
        self._over = threading.Event()
        # Tasks of earlier tests, which moto keeps.
        self._known = {id(task) for task in self._tasks()}

    def workers(self) -> list[Container]:
        return [one for one in self.containers if one.role == "dask-worker"]

    def living(self) -> list[Container]:
        return [one for one in self.containers if not one.ended]

    def reclaim(self, container: Container) -> None:
        """Take a Spot task away, without the two minutes of warning."""
        assert container.process is not None
        container.process.kill()

    def stop(self, container: Container, reason: str = "Essential container in task exited") -> None:
        container.task.stopped_reason = reason
        container.task.desired_status = container.task.last_status = "STOPPED"

    def definitions(self) -> list[str]:
        """The active task definitions of Dask clusters."""
        return [arn for arn in self.backend.list_task_definitions(None) if "/dask-" in arn]

    def run(self) -> None:
        """Look after the tasks until it is over."""
        while not self._over.wait(LOOK_SECS):
            for task in self._tasks():
                if id(task) not in self._known and task.attachments:
                    self._known.add(id(task))
                    self._start(task)
            for one in self.containers:
                self._follow(one)

    def end(self) -> None:
        self._over.set()
        for one in self.containers:
            if one.process is not None:
                one.process.kill()
                one.process.wait()

    def _tasks(self) -> list[Any]:
        found = [task for tasks in list(self.backend.tasks.values()) for task in list(tasks.values())]
        return [task for task in found if "/dask-" in task.task_definition_arn]

    def _start(self, task: Any) -> None:
        definition = self.backend.describe_task_definition(task.task_definition_arn)
        container = Container(task, definition)
        self.containers.append(container)
        if container.role in self.broken:
            if self.broken[container.role]:
                self.stop(container, self.broken[container.role])
            return
        # What the image sets, and what the container gets from its task's role.
        image = {"PATH": _PATH, "PREFECT_HOME": str(self._home), "DO_NOT_TRACK": "1", **LOCAL_CREDENTIALS}
        if "PYTHONPATH" in os.environ:
            image["PYTHONPATH"] = os.environ["PYTHONPATH"]
        with (self._home / f"{container.role}-{container.address}.log").open("wb") as log:
            container.process = subprocess.Popen(
                [*container.command, "--host", container.address],
                cwd=self._home,
                env={**image, **container.variables},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def _follow(self, one: Container) -> None:
        if one.process is None or one.process.poll() is not None:
            if one.process is not None and one.task.desired_status != "STOPPED":
                self.stop(one)
        elif one.task.desired_status == "STOPPED":
            one.process.terminate()


def _addresses() -> Iterator[str]:
    """Those of a /16 at random; one whose scheduler port is taken is another test run's."""
    network = f"127.{random.randint(1, 254)}"
    for number in itertools.count():
        address = f"{network}.{number // 250}.{number % 250 + 2}"
        with socket.socket() as probe:
            if probe.connect_ex((address, SCHEDULER_PORT)):
                yield address


@contextmanager
def fake_fargate(home: Path) -> Iterator[FakeFargate]:
    """Run it beside the moto of this process."""
    fargate = FakeFargate(home)
    addresses = _addresses()
    answer = BaseResponse.call_action

    def call_action(response: BaseResponse) -> Any:
        fargate.sent.add(f"{response.service_name}:{response._get_action()}")
        return answer(response)

    look = models.EC2ContainerServiceBackend.describe_tasks

    def describe_tasks(backend: Any, cluster: str, tasks: list[str]) -> list[Any]:
        if fargate.blind_looks:
            fargate.blind_looks -= 1
            return []
        return list(look(backend, cluster, tasks))

    thread = threading.Thread(target=fargate.run, name="fake-fargate", daemon=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "random_private_ip", lambda: next(addresses))
        patched.setattr(BaseResponse, "call_action", call_action)
        patched.setattr(models.EC2ContainerServiceBackend, "describe_tasks", describe_tasks)
        # moto does not note when a definition was registered: not before this.
        patched.setattr(models.TaskDefinition, "registered_at", datetime.now(UTC), raising=False)
        # Tasks stay RUNNING until they are stopped; moto would let them end after they were looked at.
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 1_000_000})
        thread.start()
        try:
            yield fargate
        finally:
            fargate.end()
            thread.join()
            state_manager.unset_transition("ecs::task")
