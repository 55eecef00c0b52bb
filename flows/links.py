"""Links into the Prefect UI: plain functions, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


def prefilled_run_url(ui_url: str, deployment_id: object, parameters: Mapping[str, Any]) -> str:
    """Give the link that opens a deployment's *Custom run* with its form filled in; nothing runs before *Submit*.

    The UI's own *Run* menu makes such links: the route reads a query parameter ``parameters``, a JSON object. Under
    ``/v2`` it is the form of Prefect's default UI, whichever UI its reader came from.

    Parameters
    ----------
    ui_url : str
        Where a browser finds the UI, without ``/v2``; empty for a link that is relative to the page it stands on.
    parameters : mapping
        What JSON can say. Those that are left out have the form's defaults.

    Examples
    --------
    >>> prefilled_run_url("http://127.0.0.1:4200", "1b56", {"haz_sol_id": "A"})
    'http://127.0.0.1:4200/v2/deployments/deployment/1b56/run?parameters=%7B%22haz_sol_id%22%3A%22A%22%7D'
    """
    text = json.dumps(dict(parameters), separators=(",", ":"))
    path = f"/v2/deployments/deployment/{quote(str(deployment_id), safe='')}/run"
    return f"{ui_url.rstrip('/')}{path}?parameters={quote(text, safe='')}"
