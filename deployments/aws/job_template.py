"""The work pool's base job template: prefect-aws's own, with our defaults.

``python -m deployments.aws.job_template`` writes it to `ecs-base-job-template.json` anew, after an upgrade of
prefect-aws. What belongs to a stack (cluster, roles, subnets, ...) is empty there; `filled` puts it in.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_aws.workers.ecs_worker import ECSWorker

from flows.fargate import DEFAULT_WORKERS
from hazard_store.fargate import SIZES

TEMPLATE = Path(__file__).with_name("ecs-base-job-template.json")

# Fargate waits so long at most between SIGTERM and SIGKILL; a flow that is stopped uses it to give its lease back and
# to take its cluster down. Without it ECS waits 30 s.
STOP_TIMEOUT_SECS = 120

# The disk of a task, for a flow fetches its calculation whole: Fargate gives 20 GiB, and 21 to 200 where it is asked.
DISK_GIB: Mapping[str, Any] = {
    "title": "Disk",
    "description": "GiB of a run's disk, which must hold its calculation, and the zip archive that it comes in.",
    "type": "integer",
    "minimum": 21,
    "maximum": 200,
    "default": 21,
}

# Of a flow that plans, checks the source and watches workers; `--cluster none` stores with it as well. The flow is not
# on Spot: its end would end the store.
DEFAULTS: Mapping[str, Any] = {
    "launch_type": "FARGATE",
    "cpu": 512,
    "memory": 2048,
    "container_name": "prefect",
    "configure_cloudwatch_logs": True,
    "cloudwatch_logs_prefix": "flow",
    # One family, which gets a revision when image, roles or secrets have changed, and none with every run.
    "match_latest_revision_in_family": True,
}


def base_job_template() -> dict[str, Any]:
    """Give prefect-aws's template with our defaults, for no stack in particular."""
    template: dict[str, Any] = copy.deepcopy(ECSWorker.get_default_base_job_template())
    definition = template["job_configuration"]["task_definition"]
    # The overrides of a run name it as well; in the definition it says of a task that was started by hand.
    definition["taskRoleArn"] = "{{ task_role_arn }}"
    definition["ephemeralStorage"] = {"sizeInGiB": "{{ disk_gib }}"}
    template["variables"]["properties"]["disk_gib"] = dict(DISK_GIB)
    definition["containerDefinitions"][0] |= {
        "cpu": "{{ cpu }}",
        "memory": "{{ memory }}",
        "essential": True,
        "stopTimeout": STOP_TIMEOUT_SECS,
    }
    return with_defaults(template, DEFAULTS)


def filled(template: Mapping[str, Any], outputs: Mapping[str, str]) -> dict[str, Any]:
    """Give the template with what a stack of `runs.yaml` says of itself as defaults.

    Parameters
    ----------
    outputs : mapping
        As `stack_outputs` gives them.
    """
    defaults: dict[str, Any] = {
        "image": outputs["Image"],
        "family": outputs["FlowFamily"],
        "cluster": outputs["ClusterArn"],
        "execution_role_arn": outputs["ExecutionRoleArn"],
        "task_role_arn": outputs["FlowRoleArn"],
        "vpc_id": outputs["VpcId"],
        "network_configuration": {
            "subnets": outputs["SubnetIds"].split(","),
            "securityGroups": [outputs["FlowSecurityGroup"]],
            "assignPublicIp": outputs["AssignPublicIp"],
        },
        "cloudwatch_logs_options": {"awslogs-group": outputs["FlowLogGroup"]},
        "env": environment(outputs),
        "labels": {"project": "hazard-store", "stage": outputs["Stage"]},
    }
    for variable, output in _SECRETS.items():
        if output in outputs:
            defaults[variable] = outputs[output]
    return with_defaults(template, defaults)


def environment(outputs: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of flow runs: where the store and the sources are, and where Dask clusters may start.

    The latter are dask-cloudprovider's own settings; `flows.fargate` makes clusters of them.
    """
    return {
        "HAZARD_STORE_STAGE": outputs["Stage"],
        "HAZARD_STORE_REGION": outputs["Region"],
        "HAZARD_STORE_SOURCE_PREFIXES": outputs["SourcesUri"],
        "AWS_DEFAULT_REGION": outputs["Region"],
        # A worker hands its own settings to its runs, as if they were at its place.
        "PREFECT_API_URL": outputs["PrefectApiUrl"],
        "PREFECT_HOME": "/home/hazard/.prefect",
        "DASK_CLOUDPROVIDER__ECS__CLUSTER_ARN": outputs["ClusterArn"],
        "DASK_CLOUDPROVIDER__ECS__EXECUTION_ROLE_ARN": outputs["ExecutionRoleArn"],
        "DASK_CLOUDPROVIDER__ECS__TASK_ROLE_ARN": outputs["WorkerRoleArn"],
        "DASK_CLOUDPROVIDER__ECS__CLOUDWATCH_LOGS_GROUP": outputs["DaskLogGroup"],
        "DASK_CLOUDPROVIDER__ECS__IMAGE": outputs["Image"],
        "DASK_CLOUDPROVIDER__ECS__VPC": outputs["VpcId"],
        # Dask reads values as Python literals.
        "DASK_CLOUDPROVIDER__ECS__SUBNETS": str(outputs["SubnetIds"].split(",")),
        "DASK_CLOUDPROVIDER__ECS__SECURITY_GROUPS": str([outputs["DaskSecurityGroup"]]),
        "DASK_CLOUDPROVIDER__ECS__FARGATE_USE_PRIVATE_IP": str(outputs["AssignPublicIp"] != "ENABLED"),
        # Written out, so that an operator finds them in the pool's form.
        "HAZARD_STORE_FARGATE_VCPU": f"{SIZES[0].vcpu:g}",
        "HAZARD_STORE_FARGATE_WORKERS": "{}-{}".format(*DEFAULT_WORKERS),
        "HAZARD_STORE_FARGATE_SECRETS": ",".join(
            f"{variable}={outputs[output]}" for variable, output in _WORKER_SECRETS.items() if output in outputs
        ),
    }


# Variables of Dask schedulers and workers, and the stack's outputs with the secrets that hold them.
_WORKER_SECRETS = {
    "PREFECT_API_KEY": "PrefectApiKeySecretArn",
    "PREFECT_API_AUTH_STRING": "PrefectAuthStringSecretArn",
}


_SECRETS = {
    "prefect_api_key_secret_arn": "PrefectApiKeySecretArn",
    "prefect_api_auth_string_secret_arn": "PrefectAuthStringSecretArn",
}


def with_defaults(template: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Give a copy of the template in which variables have these defaults.

    Raises
    ------
    KeyError
        The template has no such variable: prefect-aws has renamed it.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(template))
    for name, value in defaults.items():
        changed["variables"]["properties"][name]["default"] = value
    return changed


def main() -> None:
    """Write the template."""
    TEMPLATE.write_text(json.dumps(base_job_template(), indent=2) + "\n")


if __name__ == "__main__":
    main()
