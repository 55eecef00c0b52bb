"""Is a file a finished calculation? Asked once for each content, in a process of its own, and remembered.

A process of its own, because a damaged file can make the HDF5 library loop or crash, and the other files of the batch
must not notice: ``python -m hazard_store.batch.examination SITES TRUST [--given] SOURCE`` prints a verdict as JSON.
Remembered in the ledger, because a batch that looks every five minutes must neither read nor report an aborted
calculation a hundred thousand times.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

from hazard_store.errors import HazardStoreError, NotADatastoreError, UnfinishedError
from hazard_store.jobs import SiteCodes
from hazard_store.ledger import now_text
from hazard_store.oq.calculation import calculation_in
from hazard_store.settings import Settings
from hazard_store.sources import SourceFile, SourceStamp
from hazard_store.sources.content import content_of, named_content
from hazard_store.storage.faults import translated
from hazard_store.storage.models import LedgerEntry, bind

Verdict = Literal["ready", "unfinished", "refused"]

# No id may hold a `#`, so this hash key is nobody's.
_EXAMINED = "#examined"

# In place of a reader's name: the file has no id, and was not read.
NAMING = "naming"

# In place of a reader's name: the bytes of the file could not be had. What forbids it may be mended by the next run,
# which tries again.
ACCESS = "access"

# To load the library on a busy machine, and to read a file from a slow share.
START_SECS = 120.0
SLOWEST_BYTES_PER_SEC = 5e6


@dataclass(frozen=True)
class Examination:
    """What a file was found to be.

    Attributes
    ----------
    fingerprint : str or None
        Of a file that is ready.
    reason : str or None
        Of one that is not.
    attempts : int
        Stores of this very content that failed since.
    reader : str
        What it was read with, version and options: another reader may find otherwise.
    """

    path: str
    size: int
    mtime_ns: int
    verdict: Verdict
    reader: str
    etag: str = ""
    fingerprint: str | None = None
    reason: str | None = None
    attempts: int = 0
    updated: str = ""

    @classmethod
    def of(cls, file: SourceFile, verdict: Verdict, reader: str, **told: Any) -> Examination:
        """Say what a file was found to be."""
        return cls(path=file.path, verdict=verdict, reader=reader, **asdict(file.stamp), **told)

    @property
    def stamp(self) -> SourceStamp:
        """Of the file when it was examined."""
        return SourceStamp(self.size, self.mtime_ns, self.etag)


@dataclass(frozen=True)
class ReaderOptions:
    """How the calculations of a batch are read."""

    sites: SiteCodes = "auto"
    trust_imt_order: bool = False

    @property
    def name(self) -> str:
        """Of the reader with these options."""
        trust = "trusting" if self.trust_imt_order else "careful"
        return f"{version('hazard-store')}/{self.sites}/{trust}"


class Examinations:
    """What is remembered, in the ledger's table."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model = bind(LedgerEntry, settings)

    def all(self) -> dict[str, Examination]:
        """Everything, by path."""
        with translated(self._settings):
            entries = list(self._model.query(_EXAMINED, consistent_read=True))
        known = set(Examination.__dataclass_fields__)
        found = (Examination(**{k: v for k, v in entry.record.items() if k in known}) for entry in entries)
        return {one.path: one for one in found}

    def save(self, one: Examination) -> None:
        """Remember one."""
        one = replace(one, updated=now_text())
        with translated(self._settings):
            self._model(
                haz_sol_id=_EXAMINED,
                entry=_entry(one.path),
                status=one.verdict,
                fingerprint=one.fingerprint or "none",
                record=asdict(one),
            ).save()

    def forget(self, path: str) -> None:
        """Forget one, whose file is gone."""
        with translated(self._settings):
            self._model(haz_sol_id=_EXAMINED, entry=_entry(path)).delete()


def examine(file: SourceFile, options: ReaderOptions) -> Examination:
    """Read a file to its end in a process of its own, and say what it is.

    A process that crashes or does not end is a verdict as well: the file is refused.

    Raises
    ------
    SourceError, StorageError
        If its bytes cannot be had now, which says nothing of the file.
    """
    try:
        content = content_of(file.path)
    except UnfinishedError as exc:
        return Examination.of(file, "unfinished", options.name, reason=exc.reason)
    except NotADatastoreError as exc:
        return Examination.of(file, "refused", options.name, reason=exc.reason)
    words, given = content.as_input()
    command = [sys.executable, "-m", __spec__.name, options.sites, str(int(options.trust_imt_order)), *words, file.path]
    patience_secs = START_SECS + file.stamp.size / SLOWEST_BYTES_PER_SEC
    told: dict[str, Any]
    try:
        done = subprocess.run(command, stdin=given, capture_output=True, text=True, timeout=patience_secs, check=False)
        told = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        told = {"verdict": "refused", "reason": f"reading it did not end within {patience_secs:.0f} s: is it damaged?"}
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        told = {"verdict": "refused", "reason": f"reading it crashed ({lines[-1]}): is it damaged?"}
    finally:
        content.close()
    return Examination.of(file, reader=options.name, **told)


def read_verdict(named: Sequence[str], options: ReaderOptions) -> dict[str, str | None]:
    """Read a file in this process: its verdict with the fingerprint, or with the reason."""
    try:
        with calculation_in(
            named_content(named), sites=options.sites, trust_imt_order=options.trust_imt_order, strict=False
        ) as calculation:
            refusals = calculation.examine()
            if refusals:
                verdict: Verdict = "unfinished" if calculation.is_unfinished else "refused"
                return {"verdict": verdict, "reason": refusals[0]}
            return {"verdict": "ready", "fingerprint": calculation.fingerprint}
    except UnfinishedError as exc:
        return {"verdict": "unfinished", "reason": exc.reason}
    except HazardStoreError as exc:
        return {"verdict": "refused", "reason": getattr(exc, "reason", str(exc))}


def main(arguments: Sequence[str]) -> None:
    """Print the verdict on one file."""
    sites, trust, *named = arguments
    options = ReaderOptions("normalised" if sites == "normalised" else "auto", trust == "1")
    print(json.dumps(read_verdict(named, options)))


def _entry(path: str) -> str:
    # A range key holds 1,024 bytes, a path may be longer.
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
