"""The command line: ``hazard-store``, and the drop-ins ``store_hazard`` and ``get_hazard`` beside it.

Modules here import click and each other alone; what takes long to load (numpy, pandas, botocore, matplotlib, rich) is
imported by the commands that need it, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from hazard_store.cli.checking import delete, verify
from hazard_store.cli.entry import CONTEXT_SETTINGS, run
from hazard_store.cli.inspecting import inspect
from hazard_store.cli.notifying import notify_batch
from hazard_store.cli.options import example
from hazard_store.cli.planning import plan
from hazard_store.cli.plotting import plot
from hazard_store.cli.reading import get, meta
from hazard_store.cli.rerunning import rerun
from hazard_store.cli.status import status
from hazard_store.cli.storing import store
from hazard_store.cli.tables import tables

__all__ = ["app", "main"]


@click.group(
    context_settings=CONTEXT_SETTINGS,
    invoke_without_command=True,
    no_args_is_help=False,
    epilog=example(
        "hazard-store tables create",
        "hazard-store store calc_12.hdf5 --id NZ-2026-A",
        "hazard-store get NZ-2026-A --near -41.3,174.8 --imt PGA --agg mean",
    ),
)
@click.version_option(package_name="hazard-store", message="hazard-store %(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """Load OpenQuake hazard curves into DynamoDB, and read them back.

    HAZARD_STORE_ENDPOINT is the URL of the database (unset: AWS), HAZARD_STORE_STAGE the suffix of its tables (default
    LOCAL), HAZARD_STORE_REGION the AWS region; credentials are found as the AWS SDK finds them.

    Exit codes: 0 done; 1 some chunks failed, or stored values differ; 2 bad input or usage.
    """
    if context.invoked_subcommand is None:
        raise click.UsageError(f"name a command: {', '.join(sorted(app.commands))}", context)


for _command in (tables, inspect, plan, store, status, rerun, verify, delete, get, meta, plot, notify_batch):
    app.add_command(_command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``hazard-store`` and end the process with its exit code."""
    sys.exit(run(app, "hazard-store", args))
