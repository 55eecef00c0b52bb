"""Files and folders of this machine."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hazard_store.errors import NotADatastoreError, SourceChangedError, UsageError
from hazard_store.sources.base import Listing, SourceFile, SourceStamp
from hazard_store.sources.prefixes import require_allowed
from hazard_store.texts import one_line

# The engine writes beside calc_12.hdf5 what it needs while it runs.
_TEMPORARY = "*_tmp.hdf5"

# Of a path that may be longer than any message, so that the reason still stands behind it.
MAX_SHOWN_CHARS = 300


@dataclass(frozen=True)
class LocalFile:
    """A regular file of this machine; `path` is absolute."""

    path: Path

    @classmethod
    def resolve(cls, text: str) -> LocalFile:
        """Find the file of a path, or of the number of a calculation in the engine's data folder.

        Raises
        ------
        NotADatastoreError
            If there is no such file, or it is not a regular file.
        UsageError
            If it lies outside the folders that the operator allows.
        """
        try:
            path = _path_of(text)
            # Before anything else is told of it, that it exists included.
            require_allowed(path)
            mode = path.stat().st_mode
        except (OSError, ValueError, RuntimeError) as exc:
            # RuntimeError: a home folder that is not there, or links in a circle.
            reason = exc.strerror if isinstance(exc, OSError) else one_line(str(exc))
            raise NotADatastoreError(
                f"no such file or not readable ({reason}); check the path", source=one_line(text, MAX_SHOWN_CHARS)
            ) from exc
        if stat.S_ISDIR(mode):
            raise NotADatastoreError(
                "is a folder; give the calc_N.hdf5 file, or the zip archive that holds it", source=text
            )
        if not stat.S_ISREG(mode):
            raise NotADatastoreError(
                "is not a regular file; give the calc_N.hdf5 file, or its zip archive", source=text
            )
        return cls(path.absolute())

    @property
    def name(self) -> str:
        """Its absolute path."""
        return str(self.path)

    def stamp(self) -> SourceStamp:
        """Return its size and modification time; see ``Source``."""
        try:
            return _stamp(self.path.stat())
        except OSError as exc:
            raise SourceChangedError(
                f"is no longer there ({one_line(str(exc))}); put the file back, then run again", source=self.name
            ) from exc

    def open(self, *, chunked: bool = False) -> IO[bytes]:
        """Open it; see ``Source``."""
        try:
            return self.path.open("rb")
        except OSError as exc:
            raise NotADatastoreError(
                f"cannot be read ({one_line(str(exc))}); check its permissions", source=self.name
            ) from exc


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine, or one file in place of it; `path` is absolute."""

    path: Path

    @classmethod
    def resolve(cls, text: str) -> LocalFolder:
        """Check the folder that a user names.

        Raises
        ------
        UsageError
            If it is empty, not there, the root of the file system, or outside what the operator allows.
        """
        if not text:
            raise UsageError("the prefix is empty: give the folder that the calculations lie in")
        try:
            path = Path(text).expanduser().absolute()
            real = path.resolve()
            require_allowed(path)
            found = path.exists()
        except (OSError, ValueError, RuntimeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else one_line(str(exc))
            raise UsageError(f"the folder {one_line(text, MAX_SHOWN_CHARS)} cannot be read: {reason}") from exc
        if real == real.parent:
            raise UsageError(f"{text!r} is the whole machine: give the folder that the calculations lie in")
        if not found:
            raise UsageError(f"there is no folder {path}: does this machine see it under that name?")
        return cls(path)

    @property
    def name(self) -> str:
        """Its absolute path."""
        return str(self.path)

    def listing(self, patterns: Sequence[str]) -> Listing:
        """List its files; see ``Folder``. Links to folders are not followed."""
        try:
            if not self.path.is_dir():
                return Listing((SourceFile(self.name, self.path.name, _stamp(self.path.stat())),))
            os.scandir(self.path).close()
        except OSError as exc:
            raise UsageError(f"the folder {self.path} cannot be read: {exc.strerror}") from exc
        unreadable: list[str] = []
        files = sorted(self._walk(self.path, patterns, unreadable), key=lambda file: file.name)
        return Listing(tuple(files), tuple(unreadable))

    def _walk(self, folder: Path, patterns: Sequence[str], unreadable: list[str]) -> Iterator[SourceFile]:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._walk(Path(entry.path), patterns, unreadable)
                        continue
                    name = Path(entry.path).relative_to(self.path).as_posix()
                    if not matches(name, patterns):
                        continue
                    try:
                        if entry.is_file():
                            yield SourceFile(entry.path, name, _stamp(entry.stat()))
                    except FileNotFoundError:
                        # Deleted, or renamed to its final name, since the folder was opened: the next look sees it.
                        continue
        except OSError as exc:
            unreadable.append(f"{folder}: {exc.strerror}")

    def has(self, path: str) -> bool:
        """Whether a path is one in this folder; see ``Folder``."""
        return Path(path).is_relative_to(self.path)

    def read_text(self, name: str) -> str:
        """Return the text of one of its files; see ``Folder``."""
        path = self.path / name
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
            raise UsageError(f"{path} cannot be read: {reason}") from exc


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a relative name is one of a calculation.

    Parameters
    ----------
    patterns : sequence of str
        Shell patterns, of the file's own name, or with a ``/`` of its path within the folder: ``calc_*.hdf5``,
        ``2026-*/calc_*.zip``. Temporary files of the engine, and names that begin with a dot, match none.

    Examples
    --------
    >>> matches("night/calc_7.hdf5", ["*.hdf5"]), matches("night/calc_7_tmp.hdf5", ["*.hdf5"])
    (True, False)
    """
    last = name.rpartition("/")[2]
    if fnmatch.fnmatchcase(last, _TEMPORARY) or any(part.startswith(".") for part in name.split("/")):
        return False
    return any(fnmatch.fnmatchcase(name if "/" in pattern else last, pattern) for pattern in patterns)


def _path_of(text: str) -> Path:
    path = Path(text).expanduser()
    if not (text.isascii() and text.isdigit()) or path.exists():
        return path
    folder = Path(os.environ.get("OQ_DATADIR") or "~/oqdata").expanduser()
    path = folder / f"calc_{int(text)}.hdf5"
    if not path.exists():
        raise NotADatastoreError(
            f"no such file, and calculation {text} is not in the engine's data folder as {path}; "
            "give a path, or set OQ_DATADIR",
            source=text,
        )
    return path


def _stamp(status: os.stat_result) -> SourceStamp:
    return SourceStamp(size=status.st_size, mtime_ns=status.st_mtime_ns)
