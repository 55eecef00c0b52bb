"""``python -m deployments.aws.blocks``: the prefect-aws blocks of a stage, registered from the environment.

Flows on AWS have their roles, so the blocks hold a region, a bucket and nothing secret. Keys go into them only where
they are asked for (``--store-keys``): a Prefect server keeps them encrypted, but gives them to all who may read blocks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import click
from prefect_aws import AwsCredentials, S3Bucket
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from deployments.aws.server import server_errors
from hazard_store.cli.entry import CONTEXT_SETTINGS, run
from hazard_store.errors import UsageError

CREDENTIALS_BLOCK = "hazard-store"
BUCKET_BLOCK = "hazard-store-sources"

SOURCES_VARIABLE = "HAZARD_STORE_SOURCE_PREFIXES"


def credentials_block(environ: Mapping[str, str], *, store_keys: bool) -> AwsCredentials:
    """Make the block of region and endpoint, and of the keys where they shall be stored.

    Raises
    ------
    UsageError
        There is no region, or keys are asked for and there are none.
    """
    region = environ.get("HAZARD_STORE_REGION") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise UsageError("no AWS region: set HAZARD_STORE_REGION or AWS_DEFAULT_REGION")
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    block = AwsCredentials(region_name=region, aws_client_parameters=AwsClientParameters(endpoint_url=endpoint))
    if store_keys:
        try:
            block.aws_access_key_id = environ["AWS_ACCESS_KEY_ID"]
            block.aws_secret_access_key = SecretStr(environ["AWS_SECRET_ACCESS_KEY"])
        except KeyError as exc:
            raise UsageError(f"--store-keys stores AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set {exc}") from exc
        block.aws_session_token = environ.get("AWS_SESSION_TOKEN")
    return block


def bucket_block(environ: Mapping[str, str], credentials: AwsCredentials) -> S3Bucket:
    """Make the block of the sources' bucket and folder.

    Raises
    ------
    UsageError
        The environment names no bucket, or several.
    """
    named = [prefix.strip() for prefix in environ.get(SOURCES_VARIABLE, "").split(",")]
    places = [urlsplit(prefix) for prefix in named if prefix.startswith("s3://")]
    if len(places) != 1 or not places[0].netloc:
        raise UsageError(f"{SOURCES_VARIABLE} must name one s3://BUCKET/PREFIX/, not {', '.join(named) or 'nothing'}")
    (place,) = places
    return S3Bucket(bucket_name=place.netloc, bucket_folder=place.path.strip("/"), credentials=credentials)


@click.command(context_settings=CONTEXT_SETTINGS)
@click.option("--store-keys", is_flag=True, help="Store the keys of the environment on the Prefect server.")
def command(store_keys: bool) -> None:
    """Register the blocks, or bring them up to date."""
    credentials = credentials_block(os.environ, store_keys=store_keys)
    bucket = bucket_block(os.environ, credentials)
    with server_errors():
        # In this order: of credentials that are saved the bucket's block keeps a reference, of others a copy.
        credentials.save(CREDENTIALS_BLOCK, overwrite=True)
        bucket.save(BUCKET_BLOCK, overwrite=True)
    click.echo(f"aws-credentials/{CREDENTIALS_BLOCK}: {credentials.region_name}, {'keys' if store_keys else 'no keys'}")
    click.echo(f"s3-bucket/{BUCKET_BLOCK}: s3://{bucket.bucket_name}/{bucket.bucket_folder}")


if __name__ == "__main__":
    sys.exit(run(command, "blocks"))
