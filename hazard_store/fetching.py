"""From a selection to curves: which requests get it with the least reading, and the rows in stored order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from hazard_store.errors import CorruptItemError
from hazard_store.meta import Meta
from hazard_store.names import CurvePart
from hazard_store.rows import CurveRow
from hazard_store.selection import Selection
from hazard_store.settings import Settings
from hazard_store.storage.reader import MAX_GET_KEYS, Reader
from hazard_store.stored import Place, StoredCurves, StoredItem

# Requests under way at once. A reader's threads share one core with the decoding of what they read.
CONNECTIONS = 8

# What the curves that are read ahead of the caller hold in memory.
WINDOW_BYTES = 64 * 1024 * 1024

# Items decoded at once; that many encoded ones wait in memory.
_DECODE_ITEMS = 1_024

_Curves = dict[tuple[str, str], npt.NDArray[np.float32]]


def fetch_rows(
    meta: Meta, selection: Selection, reader: Reader, settings: Settings, window_bytes: int | None = WINDOW_BYTES
) -> Iterator[CurveRow]:
    """Read curves in stored order: site by site, statistics before realisations, IMT by IMT.

    Curves that are not stored are left out if the meta says that the calculation is not complete.

    Parameters
    ----------
    window_bytes : int or None
        Bound of what is read ahead; None for a caller who keeps everything in memory anyway.

    Raises
    ------
    CorruptItemError
        If an item does not decode, or one of a complete calculation is missing.
    """
    imtls = list(meta.imtls.items())
    n_values = sum(len(levels) for _, levels in imtls)
    site_bytes = 4 * n_values * sum(map(len, selection.kinds.values()))
    step = len(selection.sites) if window_bytes is None else max(1, window_bytes // max(1, site_bytes))
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="reader") as pool:
        for first in range(0, len(selection.sites), max(1, step)):
            window = selection.sites[first : first + step]
            places = [place_of(meta, site) for site in window]
            found: dict[CurvePart, _Curves] = {}
            for part, kinds in selection.kinds.items():
                stored = StoredCurves(meta.haz_sol_id, meta.layout, part, settings, reader)
                found[part] = _fetch(meta, stored, places, kinds, pool)
            for site, place in zip(window, places, strict=True):
                for part, kinds in selection.kinds.items():
                    for kind in kinds:
                        # Taken out, so that a curve's memory goes with its last row.
                        poes = found[part].pop((place.code, kind), None)
                        if poes is None:
                            continue
                        for number in selection.imts:
                            yield _row(meta, site, part, kind, *imtls[number], poes[number])


def place_of(meta: Meta, site: int) -> Place:
    """What the keys of a site are made of."""
    return Place(meta.codes[site], float(meta.lat[site]), float(meta.lon[site]))


def decode(meta: Meta, stored: StoredCurves, items: Sequence[StoredItem]) -> list[npt.NDArray[np.float32]]:
    """Decode items, shape (n_imts, n_levels) each, in the order of the meta.

    Raises
    ------
    CorruptItemError
        Naming the item's table and key.
    """
    decoded = []
    for item, poes in zip(items, meta.layout.encoding.decode([i.attributes for i in items], meta.imtls), strict=True):
        if isinstance(poes, CorruptItemError):
            raise CorruptItemError(f"{stored.table} {item.hash_key!r} {item.range_key!r}: {poes}") from poes
        decoded.append(poes)
    return decoded


def _fetch(
    meta: Meta, stored: StoredCurves, places: Sequence[Place], kinds: Sequence[str], pool: ThreadPoolExecutor
) -> _Curves:
    """Read the curves of some sites with the fewest requests that read nothing else.

    Some of the kinds: exactly their keys. All of them: a query for each site, or, for most sites of a calculation that
    has a hash key to itself, one query for all of them.
    """
    wanted = {(place.code, kind) for place in places for kind in kinds}

    parts: Iterable[Iterable[StoredItem]]
    if len(kinds) < len(meta.kinds(stored.part)):
        keys = (stored.key(place, kind) for place in places for kind in kinds)
        batches = list(iter(lambda: list(islice(keys, MAX_GET_KEYS)), []))
        parts = pool.map(stored.of_keys, batches)
    elif len(places) > max(1, len(meta.codes) // 2) and not stored.is_by_bin:
        parts = [stored.everything(places)]
    else:
        parts = pool.map(stored.of_site, places)
    items = (item for item in chain.from_iterable(parts) if (item.code, item.kind) in wanted)
    found: _Curves = {}
    # Many items decode in little more time than one.
    for batch in iter(lambda: list(islice(items, _DECODE_ITEMS)), []):
        found.update(zip(((i.code, i.kind) for i in batch), decode(meta, stored, batch), strict=True))
    if meta.complete and len(found) < len(wanted):
        place, kind = next((p, k) for p in places for k in kinds if (p.code, k) not in found)
        hash_key, range_key = stored.key(place, kind)
        raise CorruptItemError(
            f"{stored.table} has no item {hash_key!r} {range_key!r} ({len(wanted) - len(found):,} missing), although "
            f"the meta of {meta.haz_sol_id} says that it is complete: `hazard-store verify` tells what is lost"
        )
    return found


def _row(
    meta: Meta,
    site: int,
    part: CurvePart,
    kind: str,
    imt: str,
    levels: npt.NDArray[np.float64],
    poes: npt.NDArray[np.float32],
) -> CurveRow:
    return CurveRow(
        haz_sol_id=meta.haz_sol_id,
        site=meta.codes[site],
        lat=float(meta.lat[site]),
        lon=float(meta.lon[site]),
        vs30=float(meta.vs30[site]),
        agg=kind if part == "stats" else None,
        rlz=int(kind) if part == "realisations" else None,
        imt=imt,
        levels=levels,
        poes=poes,
    )
