"""``python -m deployments.aws.work_pool --stack hazard-store-runs-PROD``: the work pool of a stack, made or renewed.

It reads the stack's outputs (`runs.yaml`), fills them into `ecs-base-job-template.json`, and gives that to the Prefect
server of ``PREFECT_API_URL``. Run it again whenever the stack has changed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from deployments.aws.job_template import TEMPLATE, filled
from deployments.aws.server import server_errors
from deployments.aws.stack import stack_outputs
from hazard_store.cli.entry import CONTEXT_SETTINGS, run
from hazard_store.errors import UsageError

WORKER_TYPE = "ecs"


def put_work_pool(name: str, template: dict[str, Any]) -> bool:
    """Make the work pool, or give an existing one this template; whether it is new.

    Raises
    ------
    UsageError
        There is a pool of another type under this name, or no Prefect server.
    """
    with server_errors(), get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type=WORKER_TYPE, base_job_template=template))
            return True
        if pool.type != WORKER_TYPE:
            raise UsageError(
                f"work pool {name} is of type {pool.type}: delete it with `prefect work-pool delete {name}`, "
                "which stops what waits in it, or use another Prefect server"
            )
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
        return False


@click.command(context_settings=CONTEXT_SETTINGS)
@click.option("--stack", required=True, help="Name of the stack of runs.yaml.")
@click.option("--region", help="Region of the stack; by default the AWS SDK's.")
@click.option("--dry-run", is_flag=True, help="Print the template, and make nothing.")
def command(stack: str, region: str | None, dry_run: bool) -> None:
    """Make the ECS work pool of a stack, or bring it up to date."""
    outputs = stack_outputs(stack, region)
    try:
        template = filled(json.loads(TEMPLATE.read_text()), outputs)
    except KeyError as exc:
        raise UsageError(f"stack {stack} has no output {exc}: deploy the present deployments/aws/runs.yaml") from exc
    if dry_run:
        click.echo(json.dumps(template, indent=2))
        return
    name = outputs["WorkPool"]
    made = put_work_pool(name, template)
    click.echo(f"work pool {name} {'made' if made else 'brought up to date'}: {outputs['Image']}")


if __name__ == "__main__":
    sys.exit(run(command, "work_pool"))
