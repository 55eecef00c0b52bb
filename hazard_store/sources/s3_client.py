"""The connections of this process to S3.

Credentials, endpoint and region are those of the AWS SDK's own chain, unless ``connect_with`` was told others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hazard_store.errors import UsageError

# s3fs asks again after each: with its growing pauses, and five seconds for each connection, half a minute in all.
RETRIES = 4

_options: dict[str, Any] = {}


def connect_with(options: Mapping[str, Any]) -> None:
    """Use these credentials and this endpoint in this process from now on, in place of the SDK's own.

    Parameters
    ----------
    options : mapping
        Of ``s3fs.S3FileSystem``: ``key``, ``secret``, ``token``, ``endpoint_url``, ``client_kwargs``.
    """
    if options != _options:
        _options.clear()
        _options.update(options)
        disconnect()


def disconnect() -> None:
    """Close the connections to S3; the next use makes new ones, with the credentials that there are then."""
    if filesystem.cache_info().currsize:
        old = filesystem()
        filesystem.cache_clear()
        if old._s3 is not None:
            old.close_session(old.loop, old._s3)


@lru_cache(maxsize=1)
def filesystem() -> Any:
    """Give this process's s3fs, made with the first use.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError as exc:
        raise UsageError("sources on S3 need one more package: pip install 'hazard-store[aws]'") from exc
    # A listing that is remembered would hide that an object changed.
    made = S3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={"retries": {"total_max_attempts": 1}},
        **_options,
    )
    made.retries = RETRIES
    return made
