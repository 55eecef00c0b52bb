"""DynamoDB Local on disk: fetched once with npm, checked, and kept in a cache folder outside the work tree.

Amazon publishes it on npm inside the package `amplify-dynamodb-simulator`. ``python -m hazard_store.local.fetch``
fetches it ahead of its first use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

from hazard_store.errors import LocalServiceError
from hazard_store.local.npm import Announce, NpmPackage, fetched

DYNAMODB_LOCAL_VERSION = "1.25.1"

_JAR = "DynamoDBLocal.jar"
_LIBRARIES = "DynamoDBLocal_lib"

_DYNAMODB_LOCAL = NpmPackage(
    spec="amplify-dynamodb-simulator@2.9.30",
    megabytes=57,
    sha512="xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ==",
    folder=PurePosixPath("package/emulator"),
    program=f"DynamoDB Local {DYNAMODB_LOCAL_VERSION}",
    remedy=f"or set DYNAMODB_LOCAL_HOME to a folder that holds {_JAR}",
)


def ensure_dynamodb_local(announce: Announce | None = None) -> Path:
    """Return the folder with DynamoDB Local, fetching it first where it is not there.

    Parameters
    ----------
    announce : callable, optional
        Told in one line when something is going to be fetched.

    Raises
    ------
    LocalServiceError
        It is not there and cannot be fetched.
    """
    named = os.environ.get("DYNAMODB_LOCAL_HOME")
    if not named:
        return fetched(_DYNAMODB_LOCAL, f"dynamodb-local-{DYNAMODB_LOCAL_VERSION}", announce)
    home = Path(named).expanduser().absolute()
    if not ((home / _JAR).is_file() and (home / _LIBRARIES).is_dir()):
        raise LocalServiceError(
            f"DYNAMODB_LOCAL_HOME is {named}, which does not hold {_JAR} and {_LIBRARIES}: "
            "name a folder that does, or unset it to have a copy fetched"
        )
    return home


def main() -> int:
    """Fetch DynamoDB Local where it is not there yet, and say so; return the exit code."""
    try:
        ensure_dynamodb_local(announce=print)
    except LocalServiceError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
