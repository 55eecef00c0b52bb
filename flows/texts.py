"""Text from files and users in Markdown, where it must stay text."""

from __future__ import annotations

import re

from hazard_store.texts import one_line, without_secrets

# All of ASCII but the comma, which has no meaning anywhere.
_PUNCTUATION = re.compile(r"([!-+\--/:-@\[-`{-~])")


def text_to_markdown(text: object) -> str:
    r"""Escape what Markdown or HTML would read as more than text: ``a|b <c> -> a\|b \<c\>``.

    Markdown takes a backslash before any ASCII punctuation as that character, links and table cells included. Line
    ends become spaces, so that a value stays in its cell or list item.
    """
    return _PUNCTUATION.sub(r"\\\1", one_line(without_secrets(str(text))))
