"""How a folder with calculations is called elsewhere, and what of its listing is a calculation by default."""

from __future__ import annotations

from pathlib import Path

from hazard_store.errors import UsageError
from hazard_store.texts import holds_secrets

DEFAULT_PATTERNS = ("*.hdf5", "*.zip")


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
