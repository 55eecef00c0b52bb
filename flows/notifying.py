"""The event that says that an OpenQuake batch is there to be stored."""

from __future__ import annotations

import time
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from flows.artifacts import slug
from hazard_store.errors import HazardStoreError, UsageError

BATCH_COMPLETED = "oq.batch.completed"

# Events travel over a socket that takes them in silence; the server has them within a second or two.
DELIVERY_SECS = 20.0


def notify_batch(uri: str) -> UUID:
    """Emit ``oq.batch.completed``, and return its id once the server has it.

    Parameters
    ----------
    uri : str
        The folder of the batch, as the worker that is to store it sees it.

    Raises
    ------
    UsageError
        If no server is named.
    HazardStoreError
        If it does not answer, or did not take the event.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise UsageError("PREFECT_API_URL is not set: set it to the Prefect server's, http://HOST:4200/api")
    with get_client(sync_client=True) as client:
        if (trouble := client.api_healthcheck()) is not None:
            raise HazardStoreError(f"the Prefect server at {url} does not answer: {trouble}")
        event = emit_event(
            BATCH_COMPLETED,
            resource={"prefect.resource.id": f"oq.batch.{slug(uri)}", "prefect.resource.name": uri},
            payload={"uri": uri},
        )
        if event is None:
            raise HazardStoreError("Prefect's events are switched off here: unset PREFECT_API_SERVICES_EVENTS_ENABLED")
        EventsWorker.drain_all(timeout=DELIVERY_SECS)
        deadline = time.monotonic() + DELIVERY_SECS
        while not _is_known(client, event.id):
            if time.monotonic() > deadline:
                raise HazardStoreError(
                    f"the Prefect server at {url} did not take the event within {DELIVERY_SECS:g} s: run this again"
                )
            time.sleep(0.2)
    return event.id


def _is_known(client: SyncPrefectClient, event_id: UUID) -> bool:
    try:
        answer = client.request("POST", "/events/filter", json={"filter": {"id": {"id": [str(event_id)]}}, "limit": 1})
    except (httpx.HTTPError, PrefectHTTPStatusError) as exc:
        raise HazardStoreError(f"the Prefect server cannot say whether it took the event: {exc}") from exc
    return bool(answer.json()["events"])
