"""A sample of a calculation's curves, encoded as a store does it: what an item costs in write units and in time."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hazard_store.chunks import created_epoch_secs, kinds_of
from hazard_store.digest import curves_digest
from hazard_store.item_sizes import body_size, write_units
from hazard_store.layouts import CurveBlock, EncodedItem, Layout
from hazard_store.names import CurvePart
from hazard_store.oq import Calculation
from hazard_store.planning import BLOCK_BYTES
from hazard_store.storage.sender import MAX_BATCH_ITEMS, items_to_body

# Curves of a part that are read as its sample, and of its realisations how many of one site; the rest of the sample are
# other sites. With fewer curves in all, the sample is all of them.
MAX_SAMPLED_ITEMS = 2_400
MAX_KINDS_OF_A_SITE = 16

# A layout is done with the sample when it has measured so many items and bytes: of `list` items, which are large and
# alike, fewer tell as much.
MIN_MEASURED_ITEMS = 600
MIN_MEASURED_BYTES = 8_000_000

_SEED = 1


@dataclass(frozen=True)
class Measured:
    """Means of the items of one part in one layout.

    Attributes
    ----------
    items : int
        How many were measured.
    wcu, item_bytes, numbers, cpu_secs : float
        Of one item: write units, bytes as DynamoDB counts them, numbers in it, and processor time to read, encode and
        frame it.
    encoding_cpu_secs, encoding_wall_secs : float
        Of the whole sample: on a machine that is busy otherwise, the second is longer.
    """

    items: int
    wcu: float
    item_bytes: float
    numbers: float
    cpu_secs: float
    encoding_cpu_secs: float
    encoding_wall_secs: float


def sample(
    calculation: Calculation, haz_sol_id: str, part: CurvePart, n_sites: int, max_items: int
) -> tuple[list[CurveBlock], float]:
    """Read curves from all over a part: one place in each of many equal stretches of sites and of realisations.

    Returns
    -------
    blocks, reading_secs
        The sites of the blocks are in no order, so that the first items alone are a sample as well; the processor time
        that it took to read a curve.
    """
    kinds = kinds_of(calculation, part)
    window = min(len(kinds), MAX_KINDS_OF_A_SITE)
    n_sampled = min(n_sites, max(1, max_items // window))
    if n_sites * len(kinds) <= max_items:
        n_sampled, window = n_sites, len(kinds)
    rng = np.random.default_rng(_SEED)
    edges = np.linspace(0, n_sites, n_sampled + 1).astype(int)
    sites = rng.integers(edges[:-1], edges[1:])
    firsts = rng.permutation(np.linspace(0, len(kinds) - window, n_sampled).round().astype(int))
    levels = np.array(list(calculation.imtls.values()), np.float64)
    n_blocks = max(1, math.ceil(n_sampled * window * 4 * levels.size / BLOCK_BYTES))
    began = time.process_time()
    curves = [
        calculation.read(part, site, site + 1, first, first + window)[0]
        for site, first in zip(sites.tolist(), firsts.tolist(), strict=True)
    ]
    reading_secs = (time.process_time() - began) / (n_sampled * window)
    blocks = []
    order = rng.permutation(n_sampled)
    for number in range(n_blocks):
        picked = order[number::n_blocks]
        mine = sites[picked]
        blocks.append(
            CurveBlock(
                part=part,
                haz_sol_id=haz_sol_id,
                codes=[calculation.sites.codes[site] for site in mine],
                lat=calculation.sites.lat[mine],
                lon=calculation.sites.lon[mine],
                # Ordinals of realisations are equally long; of statistics, all are taken.
                kinds=kinds[:window],
                imts=tuple(calculation.imtls),
                levels=levels,
                poes=np.array([curves[place] for place in picked], np.float32),
                created=created_epoch_secs(calculation.date),
            )
        )
    return blocks, reading_secs


def measure(layout: Layout, blocks: Sequence[CurveBlock], reading_secs: float) -> Measured:
    """Encode a sample as a store does, and measure the items."""
    items: list[EncodedItem] = []
    n_bytes = 0
    began, began_at = time.process_time(), time.perf_counter()
    for block in blocks:
        curves_digest(block.codes, block.kinds, block.poes)
        for item in layout.encoding.encode(block, layout.partition):
            items.append(item)
            n_bytes += len(item.body)
            if len(items) >= MIN_MEASURED_ITEMS and n_bytes >= MIN_MEASURED_BYTES:
                break
        else:
            continue
        break
    for start in range(0, len(items), MAX_BATCH_ITEMS):
        # What is signed is hashed first.
        hashlib.sha256(items_to_body("table", items[start : start + MAX_BATCH_ITEMS])).digest()
    cpu_secs, wall_secs = time.process_time() - began, time.perf_counter() - began_at
    sizes = [body_size(item.body) for item in items]
    return Measured(
        items=len(items),
        wcu=sum(map(write_units, sizes)) / len(sizes),
        item_bytes=sum(sizes) / len(sizes),
        numbers=sum(item.body.count(b'{"N":') for item in items) / len(items),
        cpu_secs=reading_secs + cpu_secs / len(items),
        encoding_cpu_secs=cpu_secs,
        encoding_wall_secs=wall_secs,
    )
