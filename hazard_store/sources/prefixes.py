"""Where sources may be read from: the folders and URL prefixes that the operator allows."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hazard_store.errors import UsageError

PREFIXES_VARIABLE = "HAZARD_STORE_SOURCE_PREFIXES"
"""Folders and URL prefixes, with commas between them, that sources may be read from; unset allows all that the process
can read."""


def require_allowed(source: str | Path) -> None:
    """Refuse what lies outside ``HAZARD_STORE_SOURCE_PREFIXES``, where that is set.

    Parameters
    ----------
    source : Path or str
        A path, of which links are followed; a text with ``://`` is a URL.

    Raises
    ------
    UsageError
        If it does.
    """
    allowed = [prefix.strip() for prefix in os.environ.get(PREFIXES_VARIABLE, "").split(",") if prefix.strip()]
    if allowed and not any(is_inside(source, prefix) for prefix in allowed):
        raise UsageError(
            f"{source} lies outside the folders that may be read here ({', '.join(allowed)}): "
            f"move it there, or have {PREFIXES_VARIABLE} changed"
        )


def is_inside(source: str | Path, prefix: str) -> bool:
    """Whether a source lies in a folder or under a URL prefix, compared by whole parts: ``/data2`` is not in ``/data``.

    >>> is_inside("s3://bucket/runs/1.hdf5", "s3://bucket/runs"), is_inside("s3://bucket/runs2/1.hdf5", "s3://bucket/runs")
    (True, False)
    """
    is_url = isinstance(source, str) and "://" in source
    if is_url != ("://" in prefix):
        return False
    if not is_url:
        return Path(source).expanduser().resolve().is_relative_to(Path(prefix).expanduser().resolve())
    there, allowed = urlsplit(str(source)), urlsplit(prefix)
    parts, first = _parts(there.path), _parts(allowed.path)
    # A client or server may take `..` for the folder above, and so may what it was written as.
    return (
        (there.scheme, there.netloc) == (allowed.scheme, allowed.netloc)
        and not {"..", "."} & set(parts)
        and parts[: len(first)] == first
    )


def _parts(path: str) -> list[str]:
    return [part for part in unquote(path).split("/") if part]
