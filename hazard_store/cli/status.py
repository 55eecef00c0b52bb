"""``status``: what the ledger knows of what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS
from hazard_store.cli.options import example, json_option
from hazard_store.cli.output import note, put, put_fields, put_json, put_table
from hazard_store.wording import count, rerun_command

if TYPE_CHECKING:
    from hazard_store.ledger import CalculationRecord
    from hazard_store.standing import Standing


def mend_command(standing: Standing) -> str | None:
    """Write the command that stores what is not done."""
    return None if standing.is_complete else rerun_command(standing.record.haz_sol_id, standing.record.layout)


@click.command(
    context_settings=CONTEXT_SETTINGS, epilog=example("hazard-store status", "hazard-store status NZ-2026-A --json")
)
@click.argument("haz_sol_id", required=False, metavar="[ID]")
@json_option
def status(haz_sol_id: str | None, as_json: bool) -> None:
    """List what is stored, or how one calculation stands.

    With an ID: its chunks by part, errors, throughput, and the command that mends it.
    """
    from hazard_store.ledger import Ledger
    from hazard_store.names import require_stored_id
    from hazard_store.settings import Settings
    from hazard_store.standing import standing_of

    settings = Settings.from_environment()
    ledger = Ledger(settings)
    if haz_sol_id is None:
        _put_calculations(ledger.calculations(), as_json)
        return
    require_stored_id(haz_sol_id)
    ledger.require_calculation(haz_sol_id)
    standings = [standing_of(record, settings) for record in ledger.calculations(haz_sol_id)]
    if as_json:
        put_json({"haz_sol_id": haz_sol_id, "calculations": [standing_to_json(s) for s in standings]})
        return
    for number, standing in enumerate(standings):
        if number:
            put()
        _put_standing(standing)


def _put_calculations(records: list[CalculationRecord], as_json: bool) -> None:
    if as_json:
        put_json({"calculations": [record_to_json(record) for record in records]})
    elif not records:
        note("nothing is stored at this stage")
    else:
        put_table(
            ("id", "layout", "status", "items", "updated (UTC)", "source"),
            (
                (r.haz_sol_id, r.layout, r.status, f"{r.items:,}", r.updated[:16].replace("T", " "), r.source)
                for r in records
            ),
            numbers="lllrll",
        )


def record_to_json(record: CalculationRecord) -> dict[str, Any]:
    """Give what the ledger has of a calculation as such."""
    return {
        "haz_sol_id": record.haz_sol_id,
        "layout": record.layout,
        "status": record.status,
        "complete": record.status == "complete",
        "parts": list(record.parts),
        "items": record.items,
        "sites": record.n_sites,
        "source": record.source,
        "fingerprint": record.fingerprint,
        "run_id": record.run_id,
        "created": record.created,
        "updated": record.updated,
    }


def standing_to_json(standing: Standing) -> dict[str, Any]:
    """Give a calculation with its chunks."""
    from hazard_store.standing import STATES

    return record_to_json(standing.record) | {
        "complete": standing.is_complete,
        "chunks": {"total": len(standing.states)} | {state: len(standing.of(state)) for state in STATES},
        "parts_stored": {
            part: {state: len(standing.of(state, part)) for state in STATES}
            | {
                "items": standing.items(part),
                "wcu": standing.wcu(part),
                "items_per_sec": standing.items_per_sec(part),
            }
            for part in standing.record.parts
        },
        "failed": [{"chunk": c, "error": standing.chunks[c].error} for c in standing.of("failed")],
        "running": standing.of("running"),
        "missing": standing.of("missing"),
        "wcu": standing.wcu(),
        "items_per_sec": standing.items_per_sec(),
        "mend": mend_command(standing),
    }


def _open_status(record: CalculationRecord) -> str:
    """A record that says complete may be of chunks whose table has been dropped since."""
    return "incomplete" if record.status == "complete" else record.status


def _put_standing(standing: Standing) -> None:
    from hazard_store.standing import STATES

    record = standing.record
    put_fields(
        [
            ("id", record.haz_sol_id),
            ("layout", record.layout),
            ("status", "complete" if standing.is_complete else _open_status(record)),
            ("source", record.source),
            ("sites", f"{record.n_sites:,}"),
            ("parts", ", ".join(record.parts)),
            ("stored", f"{count(standing.items(), 'item')}, {standing.wcu():,.0f} WCU"),
            ("updated", f"{record.updated} (run {record.run_id})"),
        ]
    )
    put()
    put_table(
        ("part", "chunks", *STATES, "items", "WCU", "items/s"),
        (
            (
                part,
                str(sum(len(standing.of(state, part)) for state in STATES)),
                *(str(len(standing.of(state, part))) for state in STATES),
                f"{standing.items(part):,}",
                f"{standing.wcu(part):,.0f}",
                f"{standing.items_per_sec(part):,.0f}",
            )
            for part in record.parts
        ),
        numbers="lrrrrrrrr",
    )
    for chunk_id in standing.of("failed"):
        put(f"failed: {chunk_id}: {standing.chunks[chunk_id].error}")
    for chunk_id in standing.of("running"):
        put(f"running since {standing.chunks[chunk_id].started}: {chunk_id}")
    for chunk_id in standing.of("missing"):
        put(f"missing: {chunk_id}")
    if mend := mend_command(standing):
        alive = ", unless a run is under way" if standing.of("running") else ""
        put(f"mend it with: {mend}{alive}")
