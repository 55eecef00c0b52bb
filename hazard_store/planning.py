"""Splitting a calculation into chunks and blocks: arithmetic only, so that a loop and a cluster run one plan."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hazard_store.errors import UsageError
from hazard_store.names import CURVE_PARTS, ChunkId, CurvePart

# The unit of retry and of rerun. A Prefect task on Dask costs about 0.14 s (measured, see docs/architecture.md), and
# 6,000 packed items take some seconds, so the orchestration stays a few percent and a lost worker loses little.
# Changing it changes the chunk ids of calculations that are half stored: they would be stored once more.
ITEMS_PER_CHUNK = 6_000

# What a worker's reads hold in memory at the same time; the encoded form of a block is smaller than this (packed) or
# about four times it (list), and lives only until its batches are sent.
BLOCK_BYTES = 4 * 1024 * 1024

# Chunks that a run stores at the same time, each at another place of the sites (see `spread_chunks`). With fewer, most
# ranges into which DynamoDB splits a hash key would rest, or most bins.
CHUNKS_AT_ONCE = 8

_CHUNK_ID = re.compile(r"(stats|realisations):(\d{5,})-(\d{5,})")


@dataclass(frozen=True, order=True)
class Chunk:
    """A range of sites of one part: all their statistics, or all their realisations.

    Parameters
    ----------
    part : {'stats', 'realisations'}
    start, stop : int
        Sites ``start <= i < stop`` in the file's order.
    curves_per_site : int
        Statistics or realisations of each site.
    """

    part: CurvePart
    start: int
    stop: int
    curves_per_site: int

    @property
    def id(self) -> ChunkId:
        """Its name in the ledger and in ``rerun``, such as ``realisations:04000-06000``."""
        return ChunkId(f"{self.part}:{self.start:05d}-{self.stop:05d}")

    @property
    def items(self) -> int:
        """How many items it stores: one a site and statistic or realisation."""
        return (self.stop - self.start) * self.curves_per_site


@dataclass(frozen=True)
class Block:
    """What one read brings into memory: sites ``start:stop``, curves ``first:last`` of each."""

    start: int
    stop: int
    first: int
    last: int


def plan_chunks(n_sites: int, curves_per_site: Mapping[CurvePart, int]) -> list[Chunk]:
    """Split every curve part into chunks of about ``ITEMS_PER_CHUNK`` items, at least one site each.

    The plan depends on the calculation's shape alone, never on the number of workers, so that a run that died is
    resumed with the same chunks by any other.

    Parameters
    ----------
    n_sites : int
    curves_per_site : mapping of part to int
        Parts that are to be stored; a part with no curves gives no chunks.

    Examples
    --------
    >>> [c.id for c in plan_chunks(1_001, {"realisations": 12})]
    ['realisations:00000-00500', 'realisations:00500-01000', 'realisations:01000-01001']
    """
    chunks = []
    for part in CURVE_PARTS:
        per_site = curves_per_site.get(part, 0)
        if per_site:
            step = max(1, ITEMS_PER_CHUNK // per_site)
            chunks += [Chunk(part, i, min(i + step, n_sites), per_site) for i in range(0, n_sites, step)]
    return chunks


def chunks_a_worker(workers: int) -> int:
    """Give the chunks that each of so many workers stores at the same time.

    >>> [chunks_a_worker(workers) for workers in (1, 2, 3, 8, 100)]
    [8, 4, 3, 1, 1]
    """
    return math.ceil(CHUNKS_AT_ONCE / workers)


def spread_chunks(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Order the chunks of each part so that those stored at the same time are far apart, the same way each time.

    Neighbours on the map have neighbouring keys. Chunks that follow each other here lie in different halves of the
    sites, any four of them in different quarters, and so on: where DynamoDB splits a range
    of keys that is written much, both halves go on being written, and hash keys of places do not meet.

    Examples
    --------
    >>> [chunk.start for chunk in spread_chunks(plan_chunks(4_000, {"realisations": 12}))]
    [0, 2000, 1000, 3000, 500, 2500, 1500, 3500]
    """
    spread = []
    for part in CURVE_PARTS:
        mine = [chunk for chunk in chunks if chunk.part == part]
        spread += [mine[place] for place in spread_order(len(mine))]
    return spread


@lru_cache(maxsize=1_024)
def spread_order(n: int) -> tuple[int, ...]:
    """Order 0 to n - 1 so that those that follow each other are far apart (van der Corput's sequence).

    >>> spread_order(6)
    (0, 4, 2, 1, 5, 3)
    """
    n_bits = max(n - 1, 0).bit_length()
    places = (int(f"{i:0{n_bits}b}"[::-1], 2) for i in range(1 << n_bits))
    return tuple(place for place in places if place < n)


def split_into_blocks(chunk: Chunk, curve_bytes: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Split a chunk into blocks of at most `block_bytes` in file order; one curve is the least.

    Parameters
    ----------
    curve_bytes : int
        Bytes of one site's one curve over all IMTs.
    """
    per_block = max(1, block_bytes // curve_bytes)
    if per_block >= chunk.curves_per_site:
        step = per_block // chunk.curves_per_site
        for start in range(chunk.start, chunk.stop, step):
            yield Block(start, min(start + step, chunk.stop), 0, chunk.curves_per_site)
    else:
        for site in range(chunk.start, chunk.stop):
            for first in range(0, chunk.curves_per_site, per_block):
                yield Block(site, site + 1, first, min(first + per_block, chunk.curves_per_site))


def select_chunks(plan: Sequence[Chunk], wanted: Sequence[str]) -> list[Chunk]:
    """Pick the chunks that `wanted` names: an id, or a part for all of its chunks.

    Raises
    ------
    UsageError
        If a name is not of that form, or names no chunk of the plan.
    """
    picked: set[Chunk] = set()
    for name in wanted:
        if name in CURVE_PARTS:
            found = [chunk for chunk in plan if chunk.part == name]
        elif (match := _CHUNK_ID.fullmatch(name)) is not None:
            # A range may span several chunks: it names those that it covers whole.
            part, start, stop = match[1], int(match[2]), int(match[3])
            found = [c for c in plan if c.part == part and start <= c.start and c.stop <= stop]
        else:
            raise UsageError(
                f"unknown chunk {name!r}: give an id such as {plan[0].id if plan else 'stats:00000-01000'}"
            )
        if not found:
            raise UsageError(f"this calculation has no chunk {name!r}; `hazard-store status ID` lists them")
        picked.update(found)
    return [chunk for chunk in plan if chunk in picked]
