"""One look under a folder: what is there, what of it is stored, and, file by file, what the rest is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hazard_store.batch.discovery import DEFAULT_PATTERNS
from hazard_store.batch.examination import NAMING, Examination, Examinations, examine
from hazard_store.batch.naming import DEFAULT_TEMPLATE, check_template, name_files, read_manifest
from hazard_store.batch.sorting import Finding, Sorter, Wanted
from hazard_store.errors import NotADatastoreError, SourceChangedError, SourceError, UsageError
from hazard_store.ledger import Ledger
from hazard_store.names import HazSolId
from hazard_store.settings import Settings
from hazard_store.sources import Folder, SourceFile, folder_of, source_of


@dataclass(frozen=True)
class Batch:
    """Where the calculations are, what they are called, and how they are to be stored.

    Parameters
    ----------
    settle_secs : float
        A file that changed since less than this is watched for so long, and left out if it changes again.
    """

    folder: Folder
    wanted: Wanted
    patterns: tuple[str, ...] = DEFAULT_PATTERNS
    template: str = DEFAULT_TEMPLATE
    manifest: dict[str, str] | None = None
    settle_secs: float = 30.0

    @classmethod
    def of(
        cls,
        prefix: str,
        wanted: Wanted,
        *,
        patterns: tuple[str, ...],
        template: str,
        manifest: str | None,
        settle_secs: float,
    ) -> Batch:
        """Check what a user named.

        Raises
        ------
        UsageError
            If the folder, the template or the manifest cannot be used.
        """
        folder = folder_of(prefix)
        check_template(template)
        entries = read_manifest(folder, manifest) if manifest else None
        return cls(folder, wanted, patterns, template, entries, settle_secs)


class Look:
    """What one look has found: decided at once in `findings`, and `unread`, the files that have to be read first.

    Parameters
    ----------
    batch : Batch
    settings : Settings
    """

    def __init__(self, batch: Batch, settings: Settings) -> None:
        self._batch = batch
        self._memory = Examinations(settings)
        listing = batch.folder.listing(batch.patterns)
        self.unreadable = listing.unreadable
        examined = self._memory.all()
        self._sorter = Sorter(batch.wanted, Ledger(settings).calculations(), examined)
        self.findings: list[Finding] = []
        self.unread: list[tuple[SourceFile, HazSolId]] = []
        named = name_files(listing.files, batch.template, batch.manifest)
        for file in listing.files:
            name = named[file.name]
            if (finding := self._sorter.at_sight(file, name)) is not None:
                self.findings.append(finding)
            elif not isinstance(name, UsageError):
                self.unread.append((file, name))
        there = {file.path for file in listing.files}
        self._gone = [path for path in examined if path not in there and batch.folder.has(path) and _is_gone(path)]

    def settle(self, now: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Watch the files that changed of late, and leave out those that still do.

        Parameters
        ----------
        now : float
            Seconds since the epoch. A file server's clock may differ, so no file is watched for longer than
            ``settle_secs``, and one that did not change in the meantime has settled.
        """
        ages = [now - file.stamp.mtime_ns / 1e9 for file, _ in self.unread]
        wait_secs = self._batch.settle_secs - min(ages, default=self._batch.settle_secs)
        if wait_secs > 0:
            sleep(min(wait_secs, self._batch.settle_secs))
        settled = []
        for file, haz_sol_id in self.unread:
            if not _has_changed(file):
                settled.append((file, haz_sol_id))
            else:
                self.findings.append(Finding(file, haz_sol_id, "being written"))
        self.unread = settled

    def read(self, file: SourceFile, haz_sol_id: HazSolId) -> tuple[Finding, Examination]:
        """Read a file to its end, and remember what it is."""
        options = self._batch.wanted.options
        try:
            found = examine(file, options)
        except SourceError as exc:
            unread = self._sorter.unread(file, exc.reason)
            is_news = not self._sorter.has_said(unread)
            if is_news:
                self._memory.save(unread)
            return Finding(file, haz_sol_id, "failed", exc.reason, is_news=is_news), unread
        found = self._sorter.with_failures(found)
        if _has_changed(file):
            return Finding(file, haz_sol_id, "being written"), found
        finding = self._sorter.as_examined(file, haz_sol_id, found)
        self._memory.save(found)
        return finding, found

    def remember_failure(self, failed: Finding, found: Examination) -> Finding:
        """Count a store that failed; the last attempt gives the file up, which is said with it."""
        found = replace(found, attempts=found.attempts + 1, reason=failed.reason)
        self._memory.save(found)
        return self._sorter.after_failure(failed, found)

    def remember_names(self) -> None:
        """Note which files have no id, so that it is said once, and forget what is gone."""
        for finding in self.findings:
            if finding.haz_sol_id is None and finding.is_news:
                self._memory.save(Examination.of(finding.file, "refused", NAMING, reason=finding.reason))
        for path in self._gone:
            self._memory.forget(path)


def _has_changed(file: SourceFile) -> bool:
    try:
        return source_of(file.path).stamp() != file.stamp
    except (NotADatastoreError, SourceChangedError):
        return True
    except SourceError:
        # Whoever reads it says what forbids that.
        return False


def _is_gone(path: str) -> bool:
    try:
        source_of(path)
    except SourceError:
        return True
    return False
