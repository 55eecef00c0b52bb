"""``plan``: what storing a calculation would take, by layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, EXIT_USAGE
from hazard_store.cli.inspecting import put_report
from hazard_store.cli.options import duration_secs, example, json_option, positive_number, source_options
from hazard_store.cli.output import error, put, put_json, put_table
from hazard_store.errors import UsageError
from hazard_store.wording import count, duration

if TYPE_CHECKING:
    from hazard_store.estimation import Estimate
    from hazard_store.fargate import FargateWish


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "hazard-store plan calc_12.hdf5",
        "hazard-store plan calc_12.hdf5 --workers 8 --max-wcu 4000 --json | jq .plan.layouts",
        "hazard-store plan calc_12.hdf5 --deadline 10m",
    ),
)
@click.argument("source")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes on this machine (default: one a core, or HAZARD_STORE_WORKERS).",
)
@click.option(
    "--max-wcu", type=positive_number, metavar="N", help="Write units per second that the run may use, all workers."
)
@click.option("--id", "haz_sol_id", metavar="ID", help="The id that it would have; its length counts in every item.")
@click.option(
    "--target",
    type=click.Choice(("aws", "local")),
    help="The database: AWS with its limits, or DynamoDB Local here (default: as HAZARD_STORE_ENDPOINT).",
)
@click.option(
    "--deadline",
    "deadline_secs",
    type=duration_secs,
    metavar="TIME",
    help="For --cluster fargate: how long the store may take, such as 90, 10m or 1h30m. Without it, the cheapest "
    "cluster is recommended that is not much slower than the fastest.",
)
@source_options
@json_option
@click.pass_context
def plan(
    context: click.Context,
    source: str,
    workers: int | None,
    max_wcu: float | None,
    haz_sol_id: str | None,
    target: str | None,
    deadline_secs: float | None,
    parent: str | None,
    sites: Any,
    trust_imt_order: bool,
    as_json: bool,
) -> None:
    """Say what storing a calculation takes: items, WCU, price, time.

    For AWS, it also recommends a cluster of workers on Fargate, of the size and number that the deadline asks for.

    No database is touched: a sample of the curves is encoded in every layout, and its items are measured.

    SOURCE is a datastore (calc_N.hdf5), a zip archive that holds one, s3://BUCKET/KEY of either, or the number of a
    calculation of this machine's engine. What cannot be stored is described without a plan; then the exit code is 2.
    """
    from hazard_store.estimation import TARGETS, estimate, target_of
    from hazard_store.fargate import FargateWish
    from hazard_store.names import haz_sol_id_from_text
    from hazard_store.oq.trial import open_tried
    from hazard_store.pacing import AWS
    from hazard_store.prices import FargatePrices, usd_per_million_wcu
    from hazard_store.settings import Settings

    settings = Settings.from_environment()
    price = usd_per_million_wcu()
    database = TARGETS[target] if target else target_of(settings)
    if deadline_secs is not None and database is not AWS:
        raise UsageError("--deadline is for a cluster on Fargate, which stores on AWS: add --target aws")
    on_fargate = FargateWish(FargatePrices.from_environment(), deadline_secs) if database is AWS else None
    name = Path(source).stem if haz_sol_id is None else haz_sol_id_from_text(haz_sol_id)
    with open_tried(source, parent=parent, sites=sites, trust_imt_order=trust_imt_order, strict=False) as calculation:
        document = calculation.describe()
        refusals, warnings, path = calculation.refusals, calculation.warnings, calculation.source
        found = None
        if not refusals:
            found = estimate(
                calculation,
                name,
                target=database,
                workers=workers or settings.workers,
                max_wcu=max_wcu,
                usd_per_million_wcu=price,
                on_fargate=on_fargate,
            )
    if as_json:
        put_json({**document, "plan": None if found is None else found.to_json()})
    elif found is None:
        put_report([("calculation", path)], document, [("storable", f"no: {'; '.join(refusals)}")])
    else:
        put_report([("calculation", path)], document, [("storable", "yes"), *(("warning", text) for text in warnings)])
        _put_plan(found)
    if refusals:
        error(f"{path}: {'; '.join(refusals)}")
        context.exit(EXIT_USAGE)


def _put_plan(found: Estimate) -> None:
    put()
    put_table(
        ("layout", "WCU", "WCU an item", "bytes an item", "USD", "time", "bound by"),
        (
            (
                name,
                f"{one.wcu_all:,.0f}",
                f"{one.wcu_per_item:.2f}",
                f"{one.item_bytes_mean:,.0f}",
                f"{one.usd:,.4f}",
                duration(one.seconds),
                one.bound_by,
            )
            for name, one in found.layouts.items()
        ),
        title=f"{count(sum(found.items.values()), 'item')} in {count(len(found.chunks), 'chunk')} with "
        f"{count(found.workers, 'worker')} at {found.usd_per_million_wcu:g} USD a million WCU",
        numbers="lrrrrrl",
    )
    put()
    put(f"measured on {count(found.sampled_items, 'item')}; meta and ledger take about {_bookkeeping(found)} more.")
    put("Assumed:")
    for text in found.assumptions:
        put(f"- {text}")
    if found.fargate is not None:
        _put_fargate(found, found.fargate)


def _put_fargate(found: Estimate, wish: FargateWish) -> None:
    from hazard_store.fargate import ASSUMPTIONS

    clusters = [(name, one.on_fargate, one.usd) for name, one in found.layouts.items() if one.on_fargate is not None]
    late = [name for name, cluster, _ in clusters if cluster.meets_deadline is False]
    limit = "" if wish.deadline_secs is None else f" within {duration(wish.deadline_secs)}"
    put()
    put_table(
        ("layout", "workers", "vCPU", "MiB", "time", "USD Spot", "USD on demand", "USD with WCU", "bound by"),
        (
            (
                name,
                f"{cluster.option.workers}",
                f"{cluster.option.size.vcpu:g}",
                f"{cluster.option.size.memory_mib:,}",
                duration(cluster.option.seconds),
                f"{cluster.option.usd_spot:,.4f}",
                f"{cluster.option.usd_on_demand:,.4f}",
                f"{cluster.option.usd_spot + wcu_usd:,.4f}",
                cluster.option.bound_by,
            )
            for name, cluster, wcu_usd in clusters
        ),
        title=f"recommended for --cluster fargate{limit}: {wish.rule}",
        numbers="lrrrrrrrl",
    )
    put()
    if late:
        put(f"The deadline is too short for {', '.join(late)}: these are the fastest clusters.")
    put("Assumed of Fargate:")
    for text in ASSUMPTIONS:
        put(f"- {text}")


def _bookkeeping(found: Estimate) -> str:
    units = max((one.bookkeeping_wcu for one in found.layouts.values()), default=0.0)
    return f"{units:,.0f} WCU"
