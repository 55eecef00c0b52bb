"""Text of any origin made fit for a message, a log, a ledger and a terminal: one printable line without secrets."""

from __future__ import annotations

import re

# RFC 3986 has at most two slashes here, and a path made of a URL keeps one of them.
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2})[^/\s'\"]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2}[^\s?'\"]*\?)[^\s'\"]+", re.IGNORECASE)
_SIGNED = re.compile(
    r"(X-Amz-[A-Za-z-]+|Signature|AWSAccessKeyId|SecretAccessKey|SessionToken)=[^&\s'\"]+", re.IGNORECASE
)
# AWS refuses a wrong signature with the headers that it should have been made of, the session's token among them.
_NAMED = re.compile(
    r"(\b(?:x-amz-security-token|aws_?secret_?access_?key|aws_?session_?token)['\"]?\s*[:=]\s*['\"]?)[^&\s'\"]+",
    re.IGNORECASE,
)

# A message is for a person, and an item of the ledger has 400 KB.
MAX_MESSAGE_CHARS = 1_500


def one_line(text: str, max_chars: int | None = None) -> str:
    r"""Put a text on one line, a `?` for each sign that moves a cursor, turns the line or cannot be encoded.

    >>> one_line("a\n b\x1b[31m")
    'a b?[31m'
    """
    line = _printable(" ".join(text.split()))
    if max_chars is not None and len(line) > max_chars:
        return f"{line[: max_chars - 1]}…"
    return line


def _printable(line: str) -> str:
    return line if line.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in line)


def without_secrets(text: str) -> str:
    """Take users, passwords, queries and signatures out of the URLs in a text, and the keys that it names as such.

    >>> without_secrets("no answer from http://me:pw@host:8000/x?X-Amz-Signature=1f")
    'no answer from http://***@host:8000/x?***'
    """
    return _NAMED.sub(r"\1***", _SIGNED.sub(r"\1=***", _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))))


def to_message(text: str) -> str:
    """Make a text of any origin a message: one printable line of moderate length, without secrets."""
    # A text without end would cost time in each step before it is cut.
    return one_line(without_secrets(text[: 4 * MAX_MESSAGE_CHARS]), MAX_MESSAGE_CHARS)


def to_log(text: str) -> str:
    """Make a text of several lines, such as a traceback, fit for a log: its lines as they are, without secrets."""
    return "\n".join(map(_printable, without_secrets(text).split("\n")))


def holds_secrets(text: str) -> bool:
    """Whether a text is a URL with a user, a password, a query or a signature."""
    return without_secrets(text) != text
