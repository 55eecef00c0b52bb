"""What else one would use, on the same curves and the same kind of store, each as its documentation says.

All write the V2 item of a realisation. DynamoDB Local takes so long for an item with 2,376 numbers that it hides what
its clients do; so all are measured a second time against an endpoint that acknowledges without storing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3

from benchmarks import flow_runs
from benchmarks.options import Options, medians, table
from benchmarks.sections import bare_loop
from benchmarks.stores import acknowledging_store, local_store
from hazard_store.layouts import LAYOUTS
from hazard_store.names import rlz_to_text
from hazard_store.oq import Calculation, open_calculation
from hazard_store.settings import Settings
from hazard_store.storage.models import ImtValues, V2Rlzs, bind

NAME = "other_writers"
TITLE = "Against what else one would use"

BASELINE = "pynamodb `batch_write`"
CURVES = 120
READY_BODIES = "ready `list` bodies, nothing else, 2 processes"
LOCAL, ACKNOWLEDGING = "DynamoDB Local", "acknowledging endpoint"
ACKNOWLEDGED_SITES = {"list": 800, "packed": 3_000}


def measure(options: Options) -> dict[str, Any]:
    """Give curves a second of each writer, on both stores."""
    path = options.calculation(CURVES // 12)
    return {
        LOCAL: medians([_on_local_store(path, options, number) for number in range(options.repeat)]),
        ACKNOWLEDGING: options.medians(lambda: _on_acknowledging_endpoint(path, options)),
    }


def _on_local_store(path: Path, options: Options, repetition: int) -> dict[str, float]:
    found = {}
    for name, write in WRITERS.items():
        # A fresh one for each: Java runs the faster the longer it has run.
        with local_store() as settings:
            found[name] = _rate(write, path, settings)
    with local_store() as settings:
        found[READY_BODIES] = _ready_bodies_rate(options, settings)
    for encoding in flow_runs.LOCAL_SITES:
        found[_flow(encoding, options)] = flow_runs.on_local_store(options, encoding, repetition).items_per_sec
    return found


def _on_acknowledging_endpoint(path: Path, options: Options) -> dict[str, float]:
    with acknowledging_store() as settings:
        found = {name: _rate(write, path, settings) for name, write in WRITERS.items()}
        found[READY_BODIES] = _ready_bodies_rate(options, settings)
        for encoding, n_sites in ACKNOWLEDGED_SITES.items():
            run = flow_runs.store(options.calculation(n_sites), options.workers, encoding=encoding)
            found[_flow(encoding, options)] = run.items_per_sec
    return found


def _rate(write: Callable[[Calculation, Settings], None], path: Path, settings: Settings) -> float:
    with open_calculation(path) as calculation:
        started = time.perf_counter()
        write(calculation, settings)
        return CURVES / (time.perf_counter() - started)


def _ready_bodies_rate(options: Options, settings: Settings) -> float:
    """What the store takes: the flow's own requests for `list`, made beforehand."""
    path = options.calculation(flow_runs.LOCAL_SITES["list"])
    loop = bare_loop.send_prebuilt(path, settings, 2, LAYOUTS["list+solution"])
    return loop.items / loop.seconds


def _flow(encoding: str, options: Options) -> str:
    return f"the flow, `{encoding}`, {options.workers} workers"


def to_markdown(result: dict[str, Any]) -> str:
    rows = []
    for name in result[LOCAL]:
        row: list[object] = [name]
        for rates in result.values():
            row += [round(rates[name], 1), round(rates[name] / rates[BASELINE], 1)]
        rows.append(row)
    columns = ["writer"]
    for store in result:
        columns += [f"curves/s, {store}", "times pynamodb"]
    n_list, n_acknowledged = (16 * sites["list"] for sites in (flow_runs.LOCAL_SITES, ACKNOWLEDGED_SITES))
    n_packed = 16 * flow_runs.LOCAL_SITES["packed"]
    return (
        f"{CURVES} curves of 27 IMTs x 44 levels by each other writer, in one process. The flow stores {n_list:,} by "
        f"`list` ({n_acknowledged:,} on the acknowledging endpoint) or {n_packed:,} by `packed`; its time has the "
        f"start of its Dask cluster in it.\n\n{table(columns, rows)}"
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
