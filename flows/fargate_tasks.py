"""The ECS side of a cluster on Fargate: its task definitions, and that nothing of it is left.

Clusters are told apart by their name: it is in the families of a cluster's two task definitions,
``dask-NAME-scheduler`` and ``dask-NAME-worker``, and what its tasks were started by.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from flows.fargate import FargateSettings
from hazard_store.errors import ClusterError
from hazard_store.fargate import SCHEDULER, WorkerSize
from hazard_store.storage.faults import REQUEST_ERRORS

Role = Literal["scheduler", "worker"]
ROLES: tuple[Role, ...] = ("scheduler", "worker")

# ECS answers within a second; an outage or a wrong endpoint keeps a run for less than a minute.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteTaskDefinitions.html
_MAX_DELETED_AT_ONCE = 10

# A run registers its definitions and starts its scheduler within two minutes; after an hour without a task, none comes.
ABANDONED_SECS = 3600.0


class EcsTasks:
    """Task definitions and tasks of the stage's clusters."""

    def __init__(self, settings: FargateSettings) -> None:
        self._settings = settings
        with self._errors():
            self._client: Any = boto3.Session(region_name=settings.region).client("ecs", config=_CONFIG)

    def register(self, name: str, variables: Mapping[str, str]) -> dict[Role, str]:
        """Register the task definitions of a cluster, and give their ARNs.

        dask-cloudprovider's own know no secrets, are never deleted, and are deregistered when Python ends, if at all.

        Raises
        ------
        ClusterError
            If ECS refuses or does not answer; then none is left.
        """
        sizes: dict[Role, WorkerSize] = {"scheduler": SCHEDULER, "worker": self._settings.size}
        with self._errors():
            self._require_cluster()
            try:
                return {role: self._register(name, role, sizes[role], variables) for role in ROLES}
            except BaseException:
                with suppress(ClusterError):
                    self.remove(name)
                raise

    def remove(self, name: str) -> None:
        """Take away all that there is of a cluster: first its definitions, so that no task starts any more.

        Raises
        ------
        ClusterError
            If ECS refuses or does not answer. What is left ends by itself (`flows/fargate_cluster.py`).
        """
        with self._errors():
            for role in ROLES:
                self._delete(_family(name, role))
            for task in self._tasks(name):
                self._stop(task)

    def remove_abandoned(self) -> None:
        """Take away the task definitions of runs that were killed: their tasks have ended by themselves.

        Raises
        ------
        ClusterError
            If ECS refuses or does not answer.
        """
        with self._errors():
            pages = self._client.get_paginator("list_task_definition_families").paginate(
                familyPrefix=f"dask-{self._settings.prefix}", status="ACTIVE"
            )
            for family in [family for page in pages for family in page["families"]]:
                if self._is_abandoned(family):
                    self._delete(family)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (*REQUEST_ERRORS, ValueError) as exc:
            # ValueError: botocore's for an endpoint that is no URL.
            raise ClusterError(
                f"no cluster on Fargate: ECS in {self._settings.region} refused or did not answer: {exc}. The run "
                "needs the permissions of the flow's role in deployments/aws/runs.yaml"
            ) from exc

    def _require_cluster(self) -> None:
        arn = self._settings.cluster_arn
        found = self._client.describe_clusters(clusters=[arn])["clusters"]
        if not any(cluster["status"] == "ACTIVE" for cluster in found):
            raise ClusterError(
                f"there is no ECS cluster {arn}: deploy runs.yaml, and renew the work pool (docs/aws.md)"
            )

    def _register(self, name: str, role: Role, size: WorkerSize, variables: Mapping[str, str]) -> str:
        settings = self._settings
        container = {
            # The name that dask-cloudprovider's RunTask gives the command to.
            "name": f"dask-{role}",
            "image": settings.image,
            "cpu": size.cpu_units,
            "memory": size.memory_mib,
            "essential": True,
            "environment": [{"name": key, "value": value} for key, value in sorted(variables.items())],
            "secrets": [{"name": key, "valueFrom": arn} for key, arn in sorted(settings.secrets.items())],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-region": settings.region,
                    "awslogs-group": settings.log_group,
                    "awslogs-stream-prefix": name,
                },
            },
        }
        # No tag createdBy: other users of dask-cloudprovider deregister what has it.
        tags = {"project": "hazard-store", "stage": settings.stage, "cluster": name}
        registered = self._client.register_task_definition(
            family=_family(name, role),
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            runtimePlatform={"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
            cpu=str(size.cpu_units),
            memory=str(size.memory_mib),
            executionRoleArn=settings.execution_role_arn,
            taskRoleArn=settings.task_role_arn,
            containerDefinitions=[container],
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )
        return str(registered["taskDefinition"]["taskDefinitionArn"])

    def _definitions(self, family: str) -> list[str]:
        pages = self._client.get_paginator("list_task_definitions").paginate(familyPrefix=family, status="ACTIVE")
        return [arn for page in pages for arn in page["taskDefinitionArns"]]

    def _tasks(self, name: str) -> list[str]:
        pages = self._client.get_paginator("list_tasks").paginate(cluster=self._settings.cluster_arn, startedBy=name)
        return [arn for page in pages for arn in page["taskArns"]]

    def _stop(self, task: str) -> None:
        try:
            self._client.stop_task(cluster=self._settings.cluster_arn, task=task, reason="the run has ended")
        except ClientError as exc:
            # It ended, and was forgotten, since it was listed.
            if exc.response["Error"]["Code"] != "InvalidParameterException":
                raise

    def _is_abandoned(self, family: str) -> bool:
        definitions = self._definitions(family)
        if not definitions:
            # Its run has just taken it away.
            return False
        # By its ARN, as there may be no active one of the family any more.
        described = self._client.describe_task_definition(taskDefinition=definitions[-1])["taskDefinition"]
        age_secs = time.time() - described["registeredAt"].timestamp()
        name = family.removeprefix("dask-").rpartition("-")[0]
        return age_secs > ABANDONED_SECS and not self._tasks(name)

    def _delete(self, family: str) -> None:
        definitions = self._definitions(family)
        for arn in definitions:
            self._client.deregister_task_definition(taskDefinition=arn)
        for some in _batches(definitions, _MAX_DELETED_AT_ONCE):
            self._client.delete_task_definitions(taskDefinitions=some)


def _family(name: str, role: Role) -> str:
    return f"dask-{name}-{role}"


def _batches(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))
