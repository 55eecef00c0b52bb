"""A datastore's HDF5 file, open for reading."""

from __future__ import annotations

from dataclasses import dataclass

import h5py

from hazard_store.errors import NotADatastoreError, UnfinishedError
from hazard_store.sources.content import Content
from hazard_store.texts import one_line


@dataclass
class OpenedFile:
    """An HDF5 file, and the content that it is read from."""

    file: h5py.File
    content: Content

    @classmethod
    def of(cls, content: Content) -> OpenedFile:
        """Open a content, read only and without locks; it is closed if that fails.

        Raises
        ------
        NotADatastoreError
            If it cannot be read as HDF5.
        """
        try:
            if content.stream is not None:
                return cls(h5py.File(content.stream, "r"), content)
            # Without locking=False a read-only or NFS mount, or an engine that still has the file open, refuses.
            return cls(h5py.File(content.source.path, "r", locking=False), content)
        except (OSError, RuntimeError, ValueError) as exc:
            content.close()
            text = one_line(str(exc))
            if "truncated" in text:
                raise UnfinishedError(
                    f"is truncated or still being written ({text}); copy the datastore again", source=content.shown
                ) from exc
            raise NotADatastoreError(
                f"cannot be opened as HDF5 ({text}); copy the datastore again", source=content.shown
            ) from exc

    def close(self) -> None:
        """Close the file, and give back what its content holds."""
        self.file.close()
        self.content.close()
