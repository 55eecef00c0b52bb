"""What the flows say in Markdown and check in their forms, as far as that needs no Prefect."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.texts import text_to_markdown
from hazard_store.errors import UsageError
from hazard_store.names import HAZ_SOL_ID_PATTERN, haz_sol_id_from_text

FORM_PATTERN = re.compile(f"^{HAZ_SOL_ID_PATTERN}$")


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("plain, text", "plain, text"),
        ("a|b", r"a\|b"),
        ("<script>alert(1)</script>", r"\<script\>alert\(1\)\<\/script\>"),
        ("`code` [link](http://x.y)", r"\`code\` \[link\]\(http\:\/\/x\.y\)"),
        ("two\nlines\r\n| a row |", r"two lines \| a row \|"),
        ("Wānaka", "Wānaka"),
        (0.25, r"0\.25"),
    ],
)
def test_a_value_stays_text(text: object, markdown: str) -> None:
    assert text_to_markdown(text) == markdown


@given(st.text())
def test_no_sign_of_markdown_stands_unescaped(text: str) -> None:
    # Every backslash escapes the sign behind it; what is left when these pairs are gone has no sign but the comma.
    left = re.sub(r"\\[!-/:-@\[-`{-~]", "", text_to_markdown(text))
    assert not re.search(r"[!-+\--/:-@\[-`{-~]", left)
    assert "\n" not in left


@given(st.text(max_size=5) | st.from_regex(HAZ_SOL_ID_PATTERN, fullmatch=True))
def test_the_form_takes_the_ids_that_the_library_takes(text: str) -> None:
    try:
        haz_sol_id_from_text(text)
        taken = True
    except UsageError:
        taken = False
    # In Python `$` also matches before a line end; the library looks once more.
    assert taken == (FORM_PATTERN.match(text) is not None and not text.endswith("\n"))
