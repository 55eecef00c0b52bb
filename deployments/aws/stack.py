"""What a CloudFormation stack says of itself: its outputs, or one line on why they cannot be had."""

from __future__ import annotations

import os
import re
from typing import Any

import boto3
import botocore.exceptions as bc
from botocore.config import Config

from hazard_store.errors import CredentialsError, HazardStoreError, StoreUnreachableError, UsageError
from hazard_store.storage.faults import REQUEST_ERRORS, Fault, classify

# AWS answers within a second; with one retry this bounds how long a wrong endpoint keeps a command.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})

# CloudFormation says AccessDenied where DynamoDB says AccessDeniedException.
_DENIED = re.compile(r"AccessDenied|UnauthorizedOperation")


def stack_outputs(name: str, region: str | None = None) -> dict[str, str]:
    """Give the outputs of a stack that is deployed.

    Parameters
    ----------
    region : str, optional
        By default that of the AWS SDK: ``AWS_DEFAULT_REGION`` or the profile's.

    Raises
    ------
    UsageError
        There is no region, no such stack, or the stack is not deployed whole.
    CredentialsError
        There are no credentials, or they may not look at the stack.
    StoreUnreachableError
        AWS does not answer.
    """
    try:
        client: Any = boto3.Session(region_name=region).client("cloudformation", config=_CONFIG)
        region = client.meta.region_name
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    except (*REQUEST_ERRORS, ValueError) as exc:
        # ValueError: botocore's for an endpoint that is no URL.
        raise _translated(exc, name, region or os.environ.get("AWS_DEFAULT_REGION")) from exc
    if not re.fullmatch(r"(CREATE|UPDATE|UPDATE_ROLLBACK)_COMPLETE", stack["StackStatus"]):
        raise UsageError(f"stack {name} is {stack['StackStatus']} in {region}: its events tell why")
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}


def _translated(error: Exception, name: str, region: str | None) -> HazardStoreError:
    detail = " ".join(str(error).split())
    if isinstance(error, bc.NoRegionError):
        return UsageError("no AWS region: set AWS_DEFAULT_REGION, or give --region")
    if isinstance(error, bc.ProfileNotFound | bc.InvalidRegionError):
        return UsageError(detail)
    code = error.response["Error"]["Code"] if isinstance(error, bc.ClientError) else ""
    if code == "ValidationError":
        return UsageError(f"there is no stack {name} in {region}: deploy it first, or name its region. {detail}")
    fault = classify(error)
    if fault is Fault.CREDENTIALS or _DENIED.match(code):
        return CredentialsError(
            f"AWS credentials are missing or may not describe stack {name} in {region}: set AWS_PROFILE, or ask for "
            f"cloudformation:DescribeStacks. {detail}"
        )
    if fault is Fault.CONNECTION:
        return StoreUnreachableError(f"no answer from CloudFormation in {region}: {detail}")
    return UsageError(f"CloudFormation in {region} refused: {detail}")
