"""The calculations under a folder: names, sizes and times, no file opened."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hazard_store.errors import UsageError
from hazard_store.oq import SourceStamp
from hazard_store.oq.prefixes import require_allowed
from hazard_store.texts import holds_secrets

DEFAULT_PATTERNS = ("*.hdf5", "*.zip")

# The engine writes beside calc_12.hdf5 what it needs while it runs.
_TEMPORARY = "*_tmp.hdf5"


@dataclass(frozen=True)
class SourceFile:
    """A file that may be a calculation.

    Attributes
    ----------
    path : str
        Absolute.
    name : str
        Relative to the folder of the batch, with ``/`` between its parts.
    stamp : SourceStamp
        Its size and time when it was listed.
    """

    path: str
    name: str
    stamp: SourceStamp


@dataclass(frozen=True)
class Listing:
    """What lies under a folder: files sorted by name, and the folders in it that could not be read, with the reason."""

    files: tuple[SourceFile, ...]
    unreadable: tuple[str, ...] = ()


def folder_of(prefix: str) -> Path:
    """Check the folder, or the one file, that a batch is to be found under.

    Raises
    ------
    UsageError
        If it is empty, not there, the root of the file system, or outside what the operator allows.
    """
    text = prefix.strip().removeprefix("file://")
    if not text:
        raise UsageError("the prefix is empty: give the folder that the calculations lie in")
    if "://" in text:
        raise UsageError(f"{prefix!r} is no folder of this machine: give a path")
    path = Path(text).expanduser().absolute()
    if (real := path.resolve()) == real.parent:
        raise UsageError(f"{prefix!r} is the whole machine: give the folder that the calculations lie in")
    require_allowed(path)
    if not path.exists():
        raise UsageError(f"there is no folder {path}: does this machine see it under that name?")
    return path


def uri_of(text: str) -> str:
    """Give the name under which another machine is told of a folder: absolute, and there if it is of this machine.

    Raises
    ------
    UsageError
        If it is empty, a URL with a secret, or a relative path of nothing that is here.
    """
    if not text.strip():
        raise UsageError("the folder is empty: give the one that the calculations lie in")
    if "://" in text:
        if holds_secrets(text):
            raise UsageError(
                f"{text} is a URL with a user, a password or a signature, which the event would show to all"
            )
        return text
    path = Path(text).expanduser()
    if not path.exists() and not path.is_absolute():
        raise UsageError(f"there is no folder {text} here: give its whole path, as the machine that stores it sees it")
    return str(path.absolute())


def find_sources(folder: Path, patterns: Sequence[str] = DEFAULT_PATTERNS) -> Listing:
    """List the files under a folder that match a pattern.

    Parameters
    ----------
    folder : Path
        As ``folder_of`` gives it; of a file, that file is the list.
    patterns : sequence of str
        Shell patterns, of the file's own name, or with a ``/`` of its path within the folder: ``calc_*.hdf5``,
        ``2026-*/calc_*.zip``. Names that begin with a dot and temporary files of the engine are never listed.

    Raises
    ------
    UsageError
        If the folder itself cannot be read.
    """
    try:
        if not folder.is_dir():
            return Listing((SourceFile(str(folder), folder.name, _stamp(folder.stat())),))
        os.scandir(folder).close()
    except OSError as exc:
        raise UsageError(f"the folder {folder} cannot be read: {exc.strerror}") from exc
    unreadable: list[str] = []
    files = sorted(_walk(folder, folder, patterns, unreadable), key=lambda file: file.name)
    return Listing(tuple(files), tuple(unreadable))


def _walk(folder: Path, root: Path, patterns: Sequence[str], unreadable: list[str]) -> Iterator[SourceFile]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), root, patterns, unreadable)
                    continue
                name = Path(entry.path).relative_to(root).as_posix()
                if not matches(name, patterns):
                    continue
                try:
                    if entry.is_file():
                        yield SourceFile(entry.path, name, _stamp(entry.stat()))
                except FileNotFoundError:
                    # Deleted, or renamed to its final name, since the folder was opened: the next look sees it right.
                    continue
    except OSError as exc:
        unreadable.append(f"{folder}: {exc.strerror}")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a relative name is one of a calculation.

    >>> matches("night/calc_7.hdf5", ["*.hdf5"]), matches("night/calc_7_tmp.hdf5", ["*.hdf5"])
    (True, False)
    """
    last = name.rpartition("/")[2]
    if fnmatch.fnmatchcase(last, _TEMPORARY):
        return False
    return any(fnmatch.fnmatchcase(name if "/" in pattern else last, pattern) for pattern in patterns)


def _stamp(status: os.stat_result) -> SourceStamp:
    return SourceStamp(size=status.st_size, mtime_ns=status.st_mtime_ns)


def restamped(file: SourceFile) -> SourceFile | None:
    """Give a file as it is now; None if it is gone."""
    try:
        return replace(file, stamp=_stamp(os.stat(file.path)))
    except OSError:
        return None
