"""What can go wrong, as one tree.

::

    HazardStoreError
    ├── UsageError                  an argument that means nothing: unknown IMT, stat, layout, chunk, a bad id
    ├── SourceError                 the calculation cannot be read, or not rightly
    │   ├── NotADatastoreError      not a file, not HDF5, a bad zip, HDF5 that OpenQuake did not write
    │   │   └── UnfinishedError     empty or truncated: perhaps still being written
    │   ├── NotStorableError        an OpenQuake file whose curves are missing, unfinished or cannot be trusted
    │   └── SourceChangedError      the file changed while it was being stored, or is not the one that was planned
    ├── StorageError                DynamoDB said no
    │   ├── TableMissingError       with the command that makes it
    │   ├── StoreUnreachableError   no answer from the endpoint within a bounded time
    │   ├── CredentialsError        none, expired or refused
    │   ├── UnacknowledgedError     items that were not acknowledged before the deadline; carries their keys
    │   └── CorruptItemError        a stored item that does not decode
    ├── LedgerError                 the ledger contradicts what is asked
    │   ├── NotStoredError          nothing is stored under this id
    │   ├── LeaseHeldError          another run is storing or deleting the same calculation
    │   └── LeaseLostError          this run was cancelled, is dead, or was taken for it: it must not write any more
    ├── ClusterError                a Dask cluster on AWS does not come up, or cannot be asked for
    └── LocalServiceError           the local database or its tools (Java, npm) cannot be had

Every message is one line that a user can act on: what is wrong, where, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence

from hazard_store.texts import to_message


class HazardStoreError(Exception):
    """Base of all errors that this library raises on purpose.

    Messages quote files, forms and foreign exceptions. Here, and nowhere else, they become one printable line
    without secrets, so that they may go to a terminal, a log, an artifact and the ledger.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(to_message(message))


class UsageError(HazardStoreError):
    """An argument that means nothing here."""


class SourceError(HazardStoreError):
    """The calculation cannot be read, or not rightly.

    Parameters
    ----------
    message : str
        What is wrong and what to do about it.
    source : str
        The file or archive it is about.
    """

    def __init__(self, message: str, *, source: str) -> None:
        super().__init__(f"{source}: {message}")
        self.reason = to_message(message)
        self.source = source

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between Dask processes without this.
        return (_rebuild_source_error, (type(self), self.reason, self.source))


def _rebuild_source_error(cls: type[SourceError], reason: str, source: str) -> SourceError:
    return cls(reason, source=source)


class NotADatastoreError(SourceError):
    """Not a file, not HDF5, truncated, a bad zip, or HDF5 that OpenQuake did not write."""


class UnfinishedError(NotADatastoreError):
    """Empty or truncated: still being written or copied, or broken off."""


class NotStorableError(SourceError):
    """An OpenQuake file whose curves are missing, unfinished or cannot be trusted."""


class SourceChangedError(SourceError):
    """The file changed while it was being stored, or is not the one that was planned."""


class StorageError(HazardStoreError):
    """DynamoDB refused, failed, or holds something unexpected."""


class TableMissingError(StorageError):
    """A table that the layout needs does not exist."""


class StoreUnreachableError(StorageError):
    """The endpoint did not answer within a bounded time."""


class CredentialsError(StorageError):
    """Credentials are missing, expired or refused."""


class UnacknowledgedError(StorageError):
    """Items that DynamoDB did not acknowledge before the deadline.

    Parameters
    ----------
    message : str
        What happened, the last error included.
    keys : sequence of (str, str)
        Hash and range key of each item that is left.
    """

    def __init__(self, message: str, keys: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.keys))


class CorruptItemError(StorageError):
    """A stored item that does not decode."""


class StoreChangedError(StorageError):
    """A calculation was stored or deleted while it was read."""


class LedgerError(HazardStoreError):
    """The ledger contradicts what is asked."""


class NotStoredError(LedgerError):
    """Nothing is stored under this id."""


class LeaseHeldError(LedgerError):
    """Another run is storing or deleting the same calculation."""


class LeaseLostError(LedgerError):
    """The run has no lease of the calculation any more, and so must not write."""


class ClusterError(HazardStoreError):
    """A Dask cluster on AWS does not come up, or cannot be asked for."""


class LocalServiceError(HazardStoreError):
    """The local database or one of its tools cannot be had."""
