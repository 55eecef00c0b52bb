"""An AWS of moto's for the modules that name its fixtures: a server, and the stacks deployed in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from deployments.aws.stack import stack_outputs

TEMPLATES = Path(__file__).resolve().parents[2] / "deployments" / "aws"
REGION = "us-east-1"
STAGE = "PROD"
BUCKET, PREFIX = "hazard-sources", "openquake/"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/hazard-store:0.1.0"
WORK_POOL = "test-aws"
RUNS_STACK = f"hazard-store-runs-{STAGE}"

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass(frozen=True)
class Aws:
    """Where moto answers, with what was deployed."""

    endpoint: str
    tables: dict[str, str]  # name -> type, of each stack's resources: logical id -> physical id
    image: dict[str, str]
    runs: dict[str, str]
    outputs: dict[str, str]

    @property
    def variables(self) -> dict[str, str]:
        return {**VARIABLES, "AWS_ENDPOINT_URL": self.endpoint}

    def client(self, service: str, **credentials: str) -> Any:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", **credentials}
        return boto3.client(service, region_name=REGION, endpoint_url=self.endpoint, **keys)

    def policies(self, role: str) -> list[dict[str, Any]]:
        """All policy documents of a role, given by its logical id in `runs.yaml`, with every reference resolved."""
        iam, name = self.client("iam"), self.runs[role]
        names = iam.list_role_policies(RoleName=name)["PolicyNames"]
        assert not iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        return [iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in names]


def deploy(cloudformation: Any, template: str, name: str, **parameters: str) -> dict[str, str]:
    """Deploy a template and give its resources: logical id -> physical id."""
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(TEMPLATES / template).read_text(),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    resources = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    """The three stacks in a moto of this module's own, with a bucket of sources and a default VPC."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        # All servers of a process share one account, in which another module may have left its stacks.
        urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")).close()
        with pytest.MonkeyPatch.context() as environment:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                environment.delenv(name)
            for name, value in {**VARIABLES, "AWS_ENDPOINT_URL": endpoint}.items():
                environment.setenv(name, value)
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            ec2, cloudformation = boto3.client("ec2"), boto3.client("cloudformation")
            vpc = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
            subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
            image = deploy(cloudformation, "image.yaml", "hazard-store-image")
            tables = deploy(cloudformation, "tables.yaml", f"hazard-store-tables-{STAGE}", Stage=STAGE)
            runs = deploy(
                cloudformation,
                "runs.yaml",
                RUNS_STACK,
                Stage=STAGE,
                SourcesBucket=BUCKET,
                SourcesPrefix=PREFIX,
                VpcId=vpc,
                SubnetIds=",".join(subnet["SubnetId"] for subnet in subnets[:2]),
                PrefectApiUrl="http://10.0.0.5:4200/api",
                PrefectAuth="api-key",
                PrefectWorkers="1",
                WorkPool=WORK_POOL,
                Image=IMAGE,
            )
            outputs = stack_outputs(RUNS_STACK)
        yield Aws(endpoint, tables, image, runs, outputs)
    finally:
        server.stop()
