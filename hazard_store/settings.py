"""Where the store is: the environment variables of the contract, read once into a value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hazard_store.errors import UsageError
from hazard_store.texts import holds_secrets

DEFAULT_STAGE = "LOCAL"
DEFAULT_REGION = "us-east-1"

_REGION = re.compile("[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

# Older scripts of the team set these; they count where the new name is unset.
_LEGACY = {
    "HAZARD_STORE_STAGE": "NZSHM22_HAZARD_STORE_STAGE",
    "HAZARD_STORE_REGION": "NZSHM22_HAZARD_STORE_REGION",
    "HAZARD_STORE_WORKERS": "NZSHM22_HAZARD_STORE_NUM_WORKERS",
}


@dataclass(frozen=True)
class Settings:
    """Which DynamoDB, which tables, how many workers.

    Parameters
    ----------
    endpoint : str or None
        DynamoDB endpoint URL; None is AWS.
    stage : str
        Suffix of every table's name.
    region : str
    workers : int or None
        Parallel workers; None leaves the choice to the command.
    """

    endpoint: str | None = None
    stage: str = DEFAULT_STAGE
    region: str = DEFAULT_REGION
    workers: int | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read ``HAZARD_STORE_*``, and the older names where those are unset.

        Raises
        ------
        UsageError
            If the number of workers is not a positive whole number, the endpoint not a URL, or the region not a name.
        """

        def value(name: str) -> str | None:
            return environ.get(name) or environ.get(_LEGACY.get(name, name)) or None

        endpoint = value("HAZARD_STORE_ENDPOINT")
        if endpoint is not None and not _is_url(endpoint):
            raise UsageError(f"HAZARD_STORE_ENDPOINT must be a URL such as http://localhost:8000, not {endpoint!r}")
        if endpoint is not None and holds_secrets(endpoint):
            raise UsageError(
                f"HAZARD_STORE_ENDPOINT must be a URL without user, password or query, not {endpoint!r}: DynamoDB "
                "takes credentials from AWS_PROFILE or AWS_ACCESS_KEY_ID alone"
            )
        region = value("HAZARD_STORE_REGION") or DEFAULT_REGION
        if not _REGION.fullmatch(region):
            raise UsageError(f"HAZARD_STORE_REGION must be the name of an AWS region such as us-east-1, not {region!r}")
        workers = value("HAZARD_STORE_WORKERS")
        if workers is not None and (not workers.isdecimal() or int(workers) < 1):
            raise UsageError(f"HAZARD_STORE_WORKERS must be a whole number of at least 1, not {workers!r}")
        return cls(
            endpoint=endpoint,
            # The team's programs put the older variable into upper case; the new one is the suffix as it stands.
            stage=environ.get("HAZARD_STORE_STAGE") or (value("HAZARD_STORE_STAGE") or DEFAULT_STAGE).upper(),
            region=region,
            workers=int(workers) if workers else None,
        )


def _is_url(text: str) -> bool:
    """Whether a text names a host over HTTP, and a port if it has one."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
