"""``tables``: make, drop and list the tables of a stage."""

from __future__ import annotations

import sys

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS
from hazard_store.cli.options import example, json_option
from hazard_store.cli.output import note, on_terminal, put, put_json, put_table
from hazard_store.errors import UsageError
from hazard_store.wording import count


@click.group(
    context_settings=CONTEXT_SETTINGS,
    invoke_without_command=True,
    no_args_is_help=False,
    epilog=example("HAZARD_STORE_STAGE=TEST hazard-store tables create"),
)
@click.pass_context
def tables(context: click.Context) -> None:
    """Make, drop or list the tables.

    They are those of the stage that HAZARD_STORE_STAGE names.
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("say what to do: tables create, tables drop or tables list", context)


@tables.command(context_settings=CONTEXT_SETTINGS, epilog=example("hazard-store tables create"))
def create() -> None:
    """Make the tables that are missing, of all layouts.

    They are billed by request.
    """
    from hazard_store.settings import Settings
    from hazard_store.storage.tables import create_tables

    settings = Settings.from_environment()
    made = create_tables(settings)
    for name in made:
        put(name)
    note(f"made {count(len(made), 'table')} of stage {settings.stage}" if made else "all tables were there already")


@tables.command(context_settings=CONTEXT_SETTINGS, epilog=example("hazard-store tables drop --yes"))
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(yes: bool) -> None:
    """Drop the tables with everything that is stored in them."""
    from hazard_store.settings import Settings
    from hazard_store.storage.tables import drop_tables, list_tables

    settings = Settings.from_environment()
    if not yes:
        present = [state for state in list_tables(settings) if state.is_there]
        if not present:
            note(f"stage {settings.stage} has no tables")
            return
        where = settings.endpoint or f"AWS {settings.region}"
        confirm(f"Drop {count(len(present), 'table')} of stage {settings.stage} at {where} with all they hold?")
    dropped = drop_tables(settings)
    for name in dropped:
        put(name)
    note(f"dropped {count(len(dropped), 'table')} of stage {settings.stage}")


@tables.command("list", context_settings=CONTEXT_SETTINGS, epilog=example("hazard-store tables list"))
@json_option
def list_(as_json: bool) -> None:
    """List the tables with the number of their items.

    AWS renews these counts every six hours.
    """
    from dataclasses import asdict

    from hazard_store.settings import Settings
    from hazard_store.storage.tables import list_tables

    states = list_tables(Settings.from_environment())
    if as_json:
        put_json({"tables": [asdict(state) for state in states]})
        return
    put_table(
        ("table", "status", "items", "bytes"),
        ((s.name, s.status, f"{s.items:,}", f"{s.size_bytes:,}") for s in states),
        numbers="llrr",
    )


def confirm(question: str) -> None:
    """Ask before something is lost; where nobody looks, ``yes |`` answers as well.

    Raises
    ------
    UsageError
        If the answer is no, or there is none.
    """
    if on_terminal(sys.stdin):
        agreed = click.confirm(question, err=True)
    else:
        answer = sys.stdin.readline().strip().lower()
        if not answer:
            raise UsageError(f"not confirmed, nothing was removed: {question} Add --yes")
        agreed = answer in ("y", "yes")
    if not agreed:
        raise UsageError("not confirmed, nothing was removed")
