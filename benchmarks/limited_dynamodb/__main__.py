"""Run the proxy: ``python -m benchmarks.limited_dynamodb --target http://127.0.0.1:8000``.

Its first line is the address for ``HAZARD_STORE_ENDPOINT``, its second that of control requests, which answers also
while the store is gone. Both take ``GET /counts``, ``POST /faults`` and ``POST /reset``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import time

from benchmarks.limited_dynamodb.capacity import Limits
from benchmarks.limited_dynamodb.faults import FaultTable
from benchmarks.limited_dynamodb.server import HOST, Latency, Server
from benchmarks.limited_dynamodb.service import Service
from benchmarks.limited_dynamodb.upstream import Upstream

# A batch of `list` items is 60,000 small objects that die with their request and hold no cycles.
_GC_THRESHOLD = 500_000


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    defaults = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limited_dynamodb", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--target", help="URL of the database")
    parser.add_argument("--acknowledge", action="store_true", help="acknowledge writes of curves without storing them")
    parser.add_argument(
        "--stored-table",
        action="append",
        help="with --acknowledge and --target: tables that are stored all the same (pattern; *Meta* and *Ledger*)",
    )
    parser.add_argument("--partition-wcu", type=float, default=defaults.partition_wcu)
    parser.add_argument("--table-wcu", type=float, default=defaults.table_wcu)
    parser.add_argument("--burst-secs", type=float, default=defaults.burst_secs, help="the service keeps 300")
    parser.add_argument("--split-after-secs", type=float, default=defaults.split_after_secs, help="0 never splits")
    parser.add_argument("--billing", choices=["on-demand", "provisioned"], default="on-demand")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="median of the time added to each answer")
    parser.add_argument("--latency-sigma", type=float, default=0.3, help="of the logarithm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--host", default=HOST, help="address on which the store listens")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args(argv)
    if not arguments.target and not arguments.acknowledge:
        parser.error("give --target, --acknowledge, or both")
    return arguments


async def serve(arguments: argparse.Namespace) -> None:
    limits = Limits(
        arguments.partition_wcu, arguments.table_wcu, arguments.burst_secs, arguments.split_after_secs or math.inf
    )
    service = Service(
        limits,
        arguments.billing,
        Upstream(arguments.target) if arguments.target else None,
        arguments.acknowledge,
        arguments.stored_table or ["*Meta*", "*Ledger*"],
        time.monotonic,
    )
    faults = FaultTable(arguments.seed, time.monotonic)
    latency = Latency(arguments.latency_ms, arguments.latency_sigma, arguments.seed)
    port, control_port = await Server(service, faults, latency).start(arguments.port, arguments.host)
    print(f"http://{arguments.host}:{port}", flush=True)
    print(f"http://{HOST}:{control_port}", flush=True)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(parse_arguments()))
