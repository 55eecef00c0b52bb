"""The Prefect server that a set-up command speaks to, and one line where it does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from hazard_store.errors import LocalServiceError, UsageError


@contextmanager
def server_errors() -> Iterator[None]:
    """Translate what a client of the Prefect server raises.

    Raises
    ------
    UsageError
        No server is named: Prefect would start one for this process, and all that is made there would go with it.
    LocalServiceError
        It does not answer, or refuses.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise UsageError("no Prefect server: set PREFECT_API_URL, such as http://prefect.example.org:4200/api")
    try:
        yield
    except PrefectHTTPStatusError as exc:
        status = exc.response.status_code
        remedy = ": set PREFECT_API_KEY or PREFECT_API_AUTH_STRING" if status in (401, 403) else ""
        raise LocalServiceError(f"the Prefect server at {url} refused with HTTP {status}{remedy}") from exc
    except httpx.HTTPError as exc:
        raise LocalServiceError(f"no Prefect server answers at {url}: {type(exc).__name__} {exc}") from exc
