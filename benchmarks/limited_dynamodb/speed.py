"""How fast the proxy itself is: ``python -m benchmarks.limited_dynamodb.speed``.

A client that does next to nothing sends ready batches over some connections; limits are out of reach, nothing is
stored. Printed: items a second, and the CPU time of the proxy for each and at the pace of real loads.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import psutil

from benchmarks.limited_dynamodb.process import LimitedDynamoDb, limited_dynamodb
from benchmarks.synthetic import curves, imt_names
from hazard_store.layouts import LAYOUTS, CurveBlock
from hazard_store.local.dynamodb import DynamoDbLocal
from hazard_store.settings import Settings
from hazard_store.storage.sender import MAX_BATCH_ITEMS, items_to_body
from hazard_store.storage.tables import create_tables

HEADERS = {
    "X-Amz-Target": "DynamoDB_20120810.BatchWriteItem",
    "Content-Type": "application/x-amz-json-1.0",
    "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, "
    "SignedHeaders=host, Signature=none",
}
STAGE = "SPEED"
N_KINDS = 5


def bodies(layout_name: str, count: int) -> Iterator[bytes]:
    """Ready batches of the real encodings, 27 IMTs x 44 levels an item."""
    layout = LAYOUTS[layout_name]
    imts, levels = imt_names(27), np.round(np.geomspace(1e-4, 5, 44), 7)
    rng = np.random.default_rng(1)
    sites = MAX_BATCH_ITEMS // N_KINDS
    for batch in range(count):
        lat, lon = -40 + 0.001 * batch + 0.05 * np.arange(sites), np.full(sites, 175.0)
        block = CurveBlock(
            part="stats",
            haz_sol_id="SPEED",
            codes=[f"[{a:.3f}~{o:.3f}]" for a, o in zip(lat, lon, strict=True)],
            lat=lat,
            lon=lon,
            kinds=["mean", "0.1", "0.5", "0.9", "std"],
            imts=imts,
            levels=np.tile(levels, (27, 1)),
            poes=curves(rng, sites, N_KINDS, 27, levels),
            created=0,
        )
        table = f"{layout.table_base('stats')}-{STAGE}"
        yield items_to_body(table, layout.encoding.encode(block, layout.partition))


def send(store: LimitedDynamoDb, batches: list[bytes], connections: int, secs: float, per_sec: float | None) -> float:
    """Send batches over and over for so long; gives requests a second."""
    port = int(store.endpoint.rpartition(":")[2])
    numbers = itertools.count()
    started = time.monotonic()
    done = [0] * connections

    def run(connection: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.monotonic() - started < secs:
            number = next(numbers)
            if per_sec is not None:
                time.sleep(max(0.0, started + number / per_sec - time.monotonic()))
            client.request("POST", "/", batches[number % len(batches)], HEADERS)
            answer = client.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(body.decode())
            done[connection] += 1
        client.close()

    threads = [threading.Thread(target=run, args=(connection,)) for connection in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - started)


def report(name: str, target: str | None, batches: list[bytes], arguments: argparse.Namespace) -> None:
    limits = {"partition_wcu": 1e9, "table_wcu": 1e9}
    with limited_dynamodb(target, latency_ms=arguments.latency_ms, **limits) as store:
        process = psutil.Process(store.pid)
        for pace in (None, arguments.items_per_sec / MAX_BATCH_ITEMS):
            cpu_before = sum(process.cpu_times()[:2])
            started = time.monotonic()
            rate = send(store, batches, arguments.connections, arguments.secs, pace)
            cpu_secs = sum(process.cpu_times()[:2]) - cpu_before
            seconds = time.monotonic() - started
            print(
                f"{name}, {'as fast as it goes' if pace is None else 'at a set pace'}: {rate:,.0f} requests/s, "
                f"{rate * MAX_BATCH_ITEMS:,.0f} items/s, CPU {cpu_secs / seconds:.0%} of a core, "
                f"{cpu_secs / (rate * seconds) * 1e3:.2f} ms a request, {process.memory_info().rss / 2**20:.0f} MB"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secs", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--items-per-sec", type=float, default=3_000.0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--store", action="store_true", help="in DynamoDB Local, instead of only acknowledging")
    arguments = parser.parse_args()
    with DynamoDbLocal.start() if arguments.store else nullcontext() as database:
        if database is not None:
            create_tables(Settings(endpoint=database.endpoint, stage=STAGE))
        for layout_name in ("packed+solution", "list+solution"):
            batches = list(bodies(layout_name, 40))
            print(f"{layout_name}: {len(batches[0]) / MAX_BATCH_ITEMS:,.0f} bytes an item as sent")
            report(layout_name, database and database.endpoint, batches, arguments)


if __name__ == "__main__":
    main()
