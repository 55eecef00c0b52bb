"""`--cluster fargate`: what a Dask cluster on AWS Fargate is made of, and its end with the run.

Flow runs of the ECS work pool have all of it in their environment (`deployments/aws/job_template.py`): where clusters
may start in dask-cloudprovider's own settings, their size in ours. Nothing here needs dask-cloudprovider.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask
from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.fargate import SIZES, WorkerSize
from hazard_store.planning import chunks_a_worker
from hazard_store.settings import Settings
from hazard_store.texts import holds_secrets

FARGATE = "fargate"

VCPU = "HAZARD_STORE_FARGATE_VCPU"
WORKERS = "HAZARD_STORE_FARGATE_WORKERS"
SECRETS = "HAZARD_STORE_FARGATE_SECRETS"

DEFAULT_WORKERS = (2, 8)

# Without each of these dask-cloudprovider would make one of its own: clusters, roles, groups that anybody may reach.
_REQUIRED = (
    "cluster_arn",
    "image",
    "execution_role_arn",
    "task_role_arn",
    "cloudwatch_logs_group",
    "vpc",
    "subnets",
    "security_groups",
)
_FOREIGN_DEFAULTS = {"image": "daskdev/dask:latest", "vpc": "default"}

# What the workers need of a run's environment. No secret is among it: task definitions can be read by many, and a task
# gets its credentials from its role.
_PASSED_PREFIXES = ("HAZARD_STORE_", "NZSHM22_HAZARD_STORE_", "AWS_ENDPOINT_URL")
_NOT_PASSED = (VCPU, WORKERS, SECRETS, "HAZARD_STORE_WORKERS")


@dataclass(frozen=True)
class FargateSettings:
    """Where a cluster starts, and how large it is.

    Attributes
    ----------
    public_ip : bool
        Whether tasks get a public address, by which they reach the Internet; nothing reaches them by it.
    min_workers, max_workers : int
        Where they differ, there are as many as there are chunks left to run.
    secrets : dict of str to str
        Variables of the containers, and the ARNs in AWS Secrets Manager that ECS takes their values from.
    """

    stage: str
    region: str
    cluster_arn: str
    image: str
    execution_role_arn: str
    task_role_arn: str
    log_group: str
    vpc: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    public_ip: bool
    size: WorkerSize
    min_workers: int
    max_workers: int
    secrets: dict[str, str]

    @classmethod
    def from_environment(cls, workers: int | None = None, environ: Mapping[str, str] = os.environ) -> FargateSettings:
        """Read dask-cloudprovider's settings and ours.

        Parameters
        ----------
        workers : int, optional
            This many, neither more nor less.

        Raises
        ------
        UsageError
            If something is missing or means nothing.
        """
        found = dask.config.collect_env(environ).get("cloudprovider", {}).get("ecs", {})
        missing = [name for name in _REQUIRED if found.get(name, "") in ("", [], _FOREIGN_DEFAULTS.get(name))]
        if missing:
            names = ", ".join(f"DASK_CLOUDPROVIDER__ECS__{name.upper()}" for name in missing)
            raise UsageError(
                f"--cluster fargate does not know where to start: set {names}. Flow runs of the work pool that "
                "deployments.aws.work_pool makes have them (docs/aws.md)"
            )
        arn = re.fullmatch(r"arn:[^:]+:ecs:([^:]+):\d+:cluster/.+", str(found["cluster_arn"]))
        if arn is None:
            raise UsageError(
                "DASK_CLOUDPROVIDER__ECS__CLUSTER_ARN must be arn:aws:ecs:REGION:ACCOUNT:cluster/NAME, not "
                f"{found['cluster_arn']!r}"
            )
        least, most = (workers, workers) if workers else _range(environ)
        return cls(
            stage=Settings.from_environment(environ).stage,
            region=arn[1],
            cluster_arn=found["cluster_arn"],
            image=found["image"],
            execution_role_arn=found["execution_role_arn"],
            task_role_arn=found["task_role_arn"],
            log_group=found["cloudwatch_logs_group"],
            vpc=found["vpc"],
            subnets=_texts(found, "subnets"),
            security_groups=_texts(found, "security_groups"),
            public_ip=not found.get("fargate_use_private_ip", False),
            size=_size(environ),
            min_workers=least,
            max_workers=most,
            secrets=_secrets(environ),
        )

    @property
    def chunks_a_worker(self) -> int:
        """How many chunks a worker stores at the same time, which is the number of its threads."""
        return chunks_a_worker(self.max_workers)

    def name_of(self, run: str) -> str:
        """Give the name of a run's cluster: roles may start no other (`runs.yaml`), and what is left is found by it."""
        return f"{self.prefix}{run}"

    @property
    def prefix(self) -> str:
        """What the names of all clusters of the stage begin with; no stage's name has an underscore."""
        return f"hazard-store-{self.stage}_"


def container_variables(dask_settings: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the environment of schedulers and workers.

    Parameters
    ----------
    dask_settings : mapping
        Of `dask.config`, by their dotted names.

    Raises
    ------
    UsageError
        If there is no Prefect server that they could report to, or if it asks for what they do not get.
    """
    api_url = PREFECT_API_URL.value()
    if not api_url or holds_secrets(api_url):
        raise UsageError(
            "--cluster fargate needs a Prefect server that the workers reach: set PREFECT_API_URL, without user and "
            "password in it"
        )
    given = _secrets(environ)
    for setting in (PREFECT_API_KEY, PREFECT_API_AUTH_STRING):
        if setting.value() and setting.name not in given:
            raise UsageError(
                f"the Prefect server asks for {setting.name}, which workers on Fargate get from AWS Secrets Manager: "
                f"set {SECRETS}={setting.name}=ARN to the secret that holds it"
            )
    region = Settings.from_environment(environ).region
    return {
        "AWS_DEFAULT_REGION": environ.get("AWS_DEFAULT_REGION") or region,
        "PREFECT_API_URL": api_url,
        **{_dask_variable(name): str(value) for name, value in dask_settings.items()},
        **{
            name: value
            for name, value in environ.items()
            if name.startswith(_PASSED_PREFIXES) and name not in _NOT_PASSED and not holds_secrets(value)
        },
    }


def end_cluster(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Stop what a run that was cancelled or killed left on Fargate, rather than wait until it ends by itself."""
    if flow_run.parameters.get("cluster") != FARGATE:
        return
    from flows.fargate_tasks import EcsTasks

    try:
        settings = FargateSettings.from_environment()
        EcsTasks(settings).remove(settings.name_of(flow_run.id.hex))
    except HazardStoreError as exc:
        flow_run_logger(flow_run, flow).warning("the Dask cluster of this run ends by itself: %s", exc)


def _dask_variable(name: str) -> str:
    """``distributed.admin.tick.interval -> DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL``."""
    return f"DASK_{name.upper().replace('.', '__').replace('-', '_')}"


def _texts(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Read a list, which Dask writes as a Python literal; one text alone is a list of it."""
    value = found[name]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise UsageError(
            f"DASK_CLOUDPROVIDER__ECS__{name.upper()} must be a list such as ['a-1', 'a-2'], not {value!r}"
        )
    return tuple(values)


def _size(environ: Mapping[str, str]) -> WorkerSize:
    text = environ.get(VCPU) or f"{SIZES[0].vcpu:g}"
    sizes = {f"{size.vcpu:g}": size for size in SIZES}
    try:
        return sizes[text]
    except KeyError:
        raise UsageError(f"{VCPU} must be {', '.join(sizes)} (vCPU of a worker), not {text!r}") from None


def _range(environ: Mapping[str, str]) -> tuple[int, int]:
    text = environ.get(WORKERS) or "{}-{}".format(*DEFAULT_WORKERS)
    match = re.fullmatch(r"([1-9]\d{0,3})(?:-([1-9]\d{0,3}))?", text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise UsageError(f"{WORKERS} must be a number of workers or a range such as 2-8, not {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _secrets(environ: Mapping[str, str]) -> dict[str, str]:
    text = environ.get(SECRETS, "")
    secrets = dict(pair.strip().partition("=")[::2] for pair in text.split(",") if pair.strip())
    for name, arn in secrets.items():
        if not name or not arn.startswith("arn:"):
            # Its text is not quoted: it may be the secret itself.
            raise UsageError(f"{SECRETS} must be NAME=ARN of a secret in AWS Secrets Manager, never the secret itself")
    return secrets
