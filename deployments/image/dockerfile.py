"""Reads the Dockerfile: its instructions in order, as far as ours uses the language."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from hazard_store.errors import UsageError


@dataclass(frozen=True)
class Instruction:
    """One of them, with its continued lines joined: ``RUN``, ``apt-get update && ...``."""

    keyword: str
    argument: str

    @property
    def flags(self) -> dict[str, str]:
        """``--chmod=755 a b`` has ``{"chmod": "755"}``."""
        words = shlex.split(self.argument)
        return dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)

    @property
    def words(self) -> list[str]:
        """What follows the flags."""
        return [word for word in shlex.split(self.argument) if not word.startswith("--")]

    @property
    def command(self) -> list[str]:
        """The JSON list of a ``CMD``, alone or in a ``HEALTHCHECK``."""
        command: list[str] = json.loads(self.argument[self.argument.index("[") :])
        return command


def read_dockerfile(path: Path) -> list[Instruction]:
    """Give the instructions of a Dockerfile in their order.

    Raises
    ------
    UsageError
        A line is none.
    """
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    instructions = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = re.fullmatch(r"([A-Z]+)\s+(.+)", line.strip())
        if match is None:
            raise UsageError(f"{path}: not an instruction: {line}")
        instructions.append(Instruction(*match.groups()))
    return instructions


def context_files(root: Path, source: str) -> list[Path]:
    """Give the files of a ``COPY`` source, less what `.dockerignore` keeps out of the build.

    Our `.dockerignore` keeps everything out but the paths after ``!``, and then folders of a name, ``**/NAME``.

    Raises
    ------
    UsageError
        There is none: Docker's build would fail here as well.
    """
    patterns = (root / ".dockerignore").read_text().splitlines()
    allowed = [root / pattern[1:] for pattern in patterns if pattern.startswith("!")]
    ignored = {pattern.removeprefix("**/") for pattern in patterns if pattern.startswith("**/")}
    place = root / source
    found = [
        path
        for path in ([place] if place.is_file() else sorted(place.rglob("*")))
        if path.is_file()
        and any(path.is_relative_to(base) for base in allowed)
        and not ignored.intersection(path.relative_to(root).parts)
    ]
    if not found:
        raise UsageError(f"COPY {source}: no such file, or .dockerignore keeps it out")
    return found
