"""What else one would use, on the same curves and the same kind of store, each as its documentation says.

All write the V2 item of a realisation. DynamoDB Local takes so long for an item with 2,376 numbers that it hides what
its clients do; so all are measured a second time against an endpoint that acknowledges without storing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3

from benchmarks import flow_runs
from benchmarks.options import Options, medians, table
from benchmarks.stores import acknowledging_store, local_store
from hazard_store.names import rlz_to_text
from hazard_store.oq import Calculation, open_calculation
from hazard_store.settings import Settings
from hazard_store.storage.models import ImtValues, V2Rlzs, bind

NAME = "other_writers"
TITLE = "Against what else one would use"

BASELINE = "pynamodb `batch_write`"
CURVES = 120
# Sites of 16 curves. DynamoDB Local takes some 150 `list` curves a second, whoever sends them.
STORES: tuple[tuple[str, Callable[[], AbstractContextManager[Settings]], dict[str, int]], ...] = (
    ("DynamoDB Local", local_store, {"list": 150, "packed": 3_000}),
    ("acknowledging endpoint", acknowledging_store, {"list": 1_000, "packed": 3_000}),
)


def measure(options: Options) -> dict[str, Any]:
    """Give curves a second of each writer, on both stores."""
    path = options.calculation(CURVES // 12)
    found: dict[str, dict[str, float]] = {}
    for name, store, sites in STORES:
        measured = [_all(path, store, sites, options) for _ in range(options.repeat)]
        found[name] = medians(measured)
    return found


def _all(
    path: Path, store: Callable[[], AbstractContextManager[Settings]], sites: dict[str, int], options: Options
) -> dict[str, float]:
    found = {}
    for name, write in WRITERS.items():
        with store() as settings, open_calculation(path) as calculation:
            started = time.perf_counter()
            write(calculation, settings)
            found[name] = CURVES / (time.perf_counter() - started)
    for encoding, n_sites in sites.items():
        with store():
            run = flow_runs.store(options.calculation(n_sites), options.workers, encoding=encoding)
        found[f"the flow, `{encoding}`, {options.workers} workers"] = run.items_per_sec
    return found


def to_markdown(result: dict[str, Any]) -> str:
    rows = []
    for name in result["DynamoDB Local"]:
        row: list[object] = [name]
        for rates in result.values():
            row += [round(rates[name], 1), round(rates[name] / rates[BASELINE], 1)]
        rows.append(row)
    columns = ["writer"]
    for store in result:
        columns += [f"curves/s, {store}", "times pynamodb"]
    return (
        f"{CURVES} curves of 27 IMTs x 44 levels by each other writer, in one process. The flow stores those of "
        "150 sites (`list`, 2,400 curves; 1,000 on the acknowledging endpoint) or 3,000 (`packed`, 48,000); its time "
        f"has the start of its Dask cluster in it.\n\n{table(columns, rows)}"
    )


def _curves(calculation: Calculation) -> Iterator[tuple[int, int, Any]]:
    n_rlzs = calculation.number_of("realisations")
    for site in range(CURVES // n_rlzs):
        for rlz, curve in enumerate(calculation.read("realisations", site, site + 1)[0]):
            yield site, rlz, curve


def _with_pynamodb(calculation: Calculation, settings: Settings) -> None:
    """Models with nested lists, as the team had it."""
    now = datetime.now(tz=UTC)
    model = bind(V2Rlzs, settings)
    with model.batch_write() as batch:
        for site, rlz, curve in _curves(calculation):
            code, text = calculation.sites.codes[site], rlz_to_text(rlz)
            values = [
                ImtValues(imt=imt, lvls=levels.tolist(), vals=poes.tolist())
                for (imt, levels), poes in zip(calculation.imtls.items(), curve, strict=True)
            ]
            lat, lon = float(calculation.sites.lat[site]), float(calculation.sites.lon[site])
            batch.save(
                model("BENCH", f"{code}:{text}", loc=code, rlz=text, lat=lat, lon=lon, created=now, values=values)
            )


def _items(calculation: Calculation) -> Iterator[dict[str, Any]]:
    """The same items for libraries that take Decimals."""
    for site, rlz, curve in _curves(calculation):
        code, text = calculation.sites.codes[site], rlz_to_text(rlz)
        yield {
            "haz_sol_id": "BENCH",
            "loc_rlz_rk": f"{code}:{text}",
            "loc": code,
            "rlz": text,
            "lat": Decimal(str(calculation.sites.lat[site])),
            "lon": Decimal(str(calculation.sites.lon[site])),
            "created": 0,
            "version": 1,
            "values": [
                {
                    "imt": imt,
                    "lvls": [Decimal(str(level)) for level in levels.tolist()],
                    "vals": [Decimal(str(poe)) for poe in poes],
                }
                for (imt, levels), poes in zip(calculation.imtls.items(), curve, strict=True)
            ],
        }


def _with_boto3(calculation: Calculation, settings: Settings) -> None:
    resource = boto3.resource("dynamodb", region_name=settings.region, endpoint_url=settings.endpoint)
    with resource.Table(bind(V2Rlzs, settings).Meta.table_name).batch_writer() as batch:
        for item in _items(calculation):
            batch.put_item(Item=item)


def _with_awswrangler(calculation: Calculation, settings: Settings) -> None:
    # Installed for this section only.
    import awswrangler

    awswrangler.config.dynamodb_endpoint_url = settings.endpoint
    session = boto3.Session(region_name=settings.region)
    awswrangler.dynamodb.put_items(
        items=list(_items(calculation)), table_name=bind(V2Rlzs, settings).Meta.table_name, boto3_session=session
    )


WRITERS: dict[str, Callable[[Calculation, Settings], None]] = {
    BASELINE: _with_pynamodb,
    "boto3 `batch_writer`": _with_boto3,
    "`awswrangler.dynamodb.put_items`": _with_awswrangler,
}
