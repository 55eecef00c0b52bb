"""Credentials and endpoint of sources on S3 from a block of the Prefect server, where a block is named."""

from __future__ import annotations

import os
from typing import Any

from hazard_store.errors import CredentialsError
from hazard_store.sources.s3_client import connect_with

VARIABLE = "HAZARD_STORE_S3_CREDENTIALS_BLOCK"
"""Name of an ``AwsCredentials`` block; unset leaves it to the AWS SDK's own chain."""


def use_credentials_block() -> None:
    """Read sources in this process with the credentials of the block that the environment names.

    The block is asked for anew by each run and task, so that its keys may be changed meanwhile. They stay in this
    process: neither a job nor a log has them.

    Raises
    ------
    CredentialsError
        If there is no such block.
    """
    if not (name := os.environ.get(VARIABLE)):
        return
    # Loads boto3 and more, and is not needed where workers have a role.
    from prefect_aws import AwsCredentials

    try:
        # The types allow for a coroutine, which is what an asynchronous caller would get.
        block: Any = AwsCredentials.load(name)
    except ValueError as exc:
        raise CredentialsError(
            f"there is no block aws-credentials/{name} on the Prefect server, which {VARIABLE} names: "
            "register it with `python -m deployments.aws.blocks`"
        ) from exc
    secret = block.aws_secret_access_key
    options = {
        "key": block.aws_access_key_id,
        "secret": secret.get_secret_value() if secret is not None else None,
        "token": block.aws_session_token,
        "endpoint_url": block.aws_client_parameters.endpoint_url,
        "client_kwargs": {"region_name": block.region_name} if block.region_name else {},
    }
    connect_with({name: value for name, value in options.items() if value})
