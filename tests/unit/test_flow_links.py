"""Links into the Prefect UI: what the form reads back from them is what was put in."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.links import prefilled_run_url

UI = "http://127.0.0.1:4200"
DEPLOYMENT = UUID("1b564e83-a411-4627-b93e-70cf9cf39421")

VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=3)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_the_form_reads_back_what_was_put_in(parameters: dict[str, Any]) -> None:
    url = prefilled_run_url(UI, DEPLOYMENT, parameters)
    assert url.isascii()
    (once,) = parse_qs(urlsplit(url).query)["parameters"]
    assert json.loads(once) == parameters


@pytest.mark.parametrize(
    ("ui_url", "start"),
    [(UI, UI), (f"{UI}/", UI), ("https://a.example.org/prefect", "https://a.example.org/prefect"), ("", "")],
)
def test_the_form_of_the_deployment(ui_url: str, start: str) -> None:
    url = prefilled_run_url(ui_url, DEPLOYMENT, {})
    assert url == f"{start}/v2/deployments/deployment/{DEPLOYMENT}/run?parameters=%7B%7D"


def test_nothing_in_it_ends_a_link_in_markdown() -> None:
    url = prefilled_run_url(UI, DEPLOYMENT, {"haz_sol_id": "a b)](c|<d>`\"'\n", "chunks": ["stats:00000-00005"]})
    assert not set(url) & set(" ()[]<>|`\"'\n")
