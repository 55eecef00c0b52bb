"""``notify-batch``: an OpenQuake job says that its calculations are there."""

from __future__ import annotations

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS
from hazard_store.cli.options import example
from hazard_store.cli.output import note
from hazard_store.cli.runner import NOTIFY, load_runner


@click.command(
    "notify-batch",
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "oq engine --run job.ini && hazard-store notify-batch /data/openquake/night-12",
    ),
)
@click.argument("uri")
def notify_batch(uri: str) -> None:
    """Tell Prefect that the calculations of a batch are there.

    URI is the folder, or the one datastore, as the machine that stores it sees it. The event oq.batch.completed starts
    the deployment store-batch with it. PREFECT_API_URL names the server.
    """
    from hazard_store.batch.discovery import uri_of

    uri = uri_of(uri)
    event_id = load_runner(NOTIFY)(uri)
    note(f"told Prefect that {uri} is there to be stored (event {event_id})")
