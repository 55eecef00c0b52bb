"""Processor time and write units of a curve, and where the time goes.

One process does what a worker does with a chunk, step by step, against an endpoint that acknowledges without storing;
then the whole of it at once, through the sender with its threads. Write units are those of real curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.options import Options, medians, table
from benchmarks.stores import acknowledging_store
from hazard_store import chunks
from hazard_store.digest import curves_digest
from hazard_store.item_sizes import body_size, write_units
from hazard_store.layouts import LAYOUTS, CurveBlock, EncodedItem, Layout
from hazard_store.oq import Calculation, open_calculation
from hazard_store.planning import Chunk
from hazard_store.settings import Settings
from hazard_store.storage.connection import ReadyBodyClient
from hazard_store.storage.control import WriteControl
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.models import table_name
from hazard_store.storage.rate import RateController
from hazard_store.storage.sender import MAX_BATCH_ITEMS, Sender, items_to_body
from hazard_store.storage.spreading import spread

NAME = "worker_cost"
TITLE = "What a curve costs a worker"

REAL_CURVES = Path(__file__).parents[1] / "data" / "real_curves_27x44.npz"
HAZ_SOL_ID = "AN-ID-OF-20-LETTERS-"
ITEMS = {"packed": 12_000, "list": 1_200}
BARS_US = {"packed": 80, "list": 300}
N_RLZS = 12
WHOLE = "all at once"

# The machine's noise is larger than what single measurements tell.
MIN_ROUNDS = 3

T = TypeVar("T")


def measure(options: Options) -> dict[str, Any]:
    """Give microseconds an item by encoding and step, and write units by real calculation and part."""
    rounds = max(MIN_ROUNDS, options.repeat)
    micros = {encoding: medians([_steps(options, encoding) for _ in range(rounds)]) for encoding in ITEMS}
    return {"us_per_item": micros, "wcu": wcu_of_real_curves()}


def to_markdown(result: dict[str, Any]) -> str:
    micros = result["us_per_item"]
    steps = table(
        ("step", *(f"`{encoding}`, us" for encoding in micros)),
        [(step, *(round(by_step[step], 1) for by_step in micros.values())) for step in micros["packed"]],
    )
    units = table(
        ("real curves", "statistics, WCU", "realisations, WCU"),
        [
            (name, round(by_part["stats"], 2), round(by_part["realisations"], 2))
            for name, by_part in result["wcu"].items()
        ],
    )
    bars = " and ".join(f"{us} for `{encoding}`" for encoding, us in BARS_US.items())
    return (
        f"Processor time of one item of 27 IMTs x 44 levels; the aim is {bars}.\n\n{steps}\n\n"
        f"Write units of one `packed` item; the aim is 2.0.\n\n{units}"
    )


def _steps(options: Options, encoding: str) -> dict[str, float]:
    layout, items = LAYOUTS[f"{encoding}+solution"], ITEMS[encoding]
    chunk = Chunk("realisations", 0, items // N_RLZS, N_RLZS)
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        started = time.process_time()
        result = work()
        found[name] = (time.process_time() - started) / items * 1e6
        return result

    with acknowledging_store() as settings, open_calculation(options.calculation(items // N_RLZS)) as calculation:
        name = table_name(layout.table_base("realisations"), settings)
        client = ReadyBodyClient(settings)
        # What is made once in a process is no part of an item's cost.
        _store(calculation, replace(chunk, stop=2), layout, name, settings)
        blocks = timed("read", lambda: list(_blocks(calculation, chunk)))
        timed("digest", lambda: [curves_digest(block.codes, block.kinds, block.poes) for block in blocks])
        encoded = timed("encode", lambda: [item for block in blocks for item in _encode(block, layout)])
        bodies = timed("frame", lambda: list(ready_bodies(name, encoded)))
        timed("sign and send", lambda: [client.batch_write(body) for body in bodies])
        timed(WHOLE, lambda: _store(calculation, chunk, layout, name, settings))
    return found


def _blocks(calculation: Calculation, chunk: Chunk) -> Iterator[CurveBlock]:
    return chunks.read_blocks(calculation, HAZ_SOL_ID, chunk, Metrics())


def _encode(block: CurveBlock, layout: Layout) -> Iterator[EncodedItem]:
    return spread(layout.encoding.encode(block, layout.partition))


def ready_bodies(table_: str, items: list[EncodedItem]) -> Iterator[bytes]:
    """Frame items as requests."""
    for start in range(0, len(items), MAX_BATCH_ITEMS):
        yield items_to_body(table_, items[start : start + MAX_BATCH_ITEMS])


class _Unpaced(RateController):
    """Waits for nothing: there is no limit to be found."""

    def take(self, units: float, sleep: object = None) -> float:
        return 0.0


def _store(calculation: Calculation, chunk: Chunk, layout: Layout, table_: str, settings: Settings) -> None:
    """Do what ``hazard_store.chunks`` does with a chunk, but for the ledger's entries."""
    with Sender(table_, settings, control=WriteControl(rate=_Unpaced())) as sender:
        for block in _blocks(calculation, chunk):
            curves_digest(block.codes, block.kinds, block.poes)
            for item in _encode(block, layout):
                sender.put(item)


def wcu_of_real_curves() -> dict[str, dict[str, float]]:
    """Give the mean write units of `packed` items, by calculation and part; curves of five real calculations."""
    found: dict[str, dict[str, float]] = {}
    with np.load(REAL_CURVES) as arrays:
        for name in arrays.files:
            calculation, _, part = name.rpartition("/")
            if part == "levels":
                continue
            units = _units(arrays[name], arrays[f"{calculation}/levels"])
            found.setdefault(calculation, {})[part] = float(np.mean(units))
    return found


def _units(poes: np.ndarray[Any, np.dtype[np.float32]], levels: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
    layout = LAYOUTS["packed+solution"]
    one = np.zeros(1)
    block = CurveBlock(
        part="realisations",
        haz_sol_id=HAZ_SOL_ID,
        codes=["[-41.500~175.250]"],
        lat=one,
        lon=one,
        kinds=[f"{rlz:05d}" for rlz in range(len(poes))],
        imts=[str(imt) for imt in range(len(levels))],
        levels=levels,
        poes=poes[None],
        created=0,
    )
    return [write_units(body_size(item.body)) for item in layout.encoding.encode(block, layout.partition)]
