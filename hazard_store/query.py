"""Reading curves back: a few keys when a few are asked for, never a scan, every poe to the last bit as it was stored.

>>> frame = curves("MY-ID", sites=["WLG"], imts=["PGA"], aggs=["mean"])  # doctest: +SKIP
>>> to_xarray(frame).sel(site="WLG", imt="PGA", kind="mean")  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hazard_store import meta as meta_room
from hazard_store import v2_fetching
from hazard_store.errors import NotStoredError, StoreChangedError, TableMissingError, UsageError
from hazard_store.fetching import WINDOW_BYTES, fetch_rows
from hazard_store.layouts import Layout
from hazard_store.ledger import CalculationRecord, Ledger
from hazard_store.meta import Meta
from hazard_store.names import require_stored_id, rlz_to_text
from hazard_store.rows import CurveRow
from hazard_store.selection import SitesLike, select
from hazard_store.settings import Settings
from hazard_store.storage.reader import Reader

__all__ = ["CurveRow", "curves", "iter_curves", "list_calculations", "read_meta", "to_xarray"]

COLUMNS = tuple(field.name for field in fields(CurveRow))


def curves(
    haz_sol_id: str,
    *,
    sites: SitesLike | None = None,
    near: tuple[float, float] | None = None,
    imts: str | Iterable[str] | None = None,
    aggs: str | Iterable[str] | None = None,
    rlzs: int | Iterable[int] | None = None,
    layout: Layout | None = None,
    settings: Settings | None = None,
) -> pd.DataFrame:
    """Read curves into a frame, one row a site, statistic or realisation, and IMT, in stored order.

    Parameters
    ----------
    sites : codes, Series of codes, or DataFrame, optional
        Site codes; or a frame with columns ``lat`` and ``lon``, each row answered by its nearest site. None for all.
    near : (float, float), optional
        Latitude and longitude in degrees, answered by the nearest site along the great circle.
    imts, aggs, rlzs : optional
        With neither `aggs` nor `rlzs`: everything that is stored of both. An empty sequence is nothing.
    layout : Layout, optional
        By default one in which the calculation is complete.
    settings : Settings, optional
        By default those of the environment.

    Returns
    -------
    DataFrame
        Columns ``haz_sol_id``, ``site``, ``lat``, ``lon``, ``vs30`` (m/s), ``agg`` (None for realisations), ``rlz``
        (nullable Int64), ``imt``, ``levels`` (float64 arrays in the IMT's unit) and ``poes`` (float32 arrays).
        ``attrs`` holds ``complete`` (None where an old program stored it, which left no such word), ``requests`` and
        ``read_units``, what the curves cost to read.

    Raises
    ------
    UsageError
        If a site, IMT, statistic or realisation is unknown; nothing was read then but the meta.
    NotStoredError
        If nothing is stored under the id.
    CorruptItemError
        If a stored item does not decode, or a complete calculation lacks one.
    StoreChangedError
        If a complete calculation was stored anew or deleted meanwhile: read it again.
    """
    answer = _ask(haz_sol_id, sites, near, imts, aggs, rlzs, layout, settings, window_bytes=None)
    frame = rows_to_frame(answer.rows)
    frame.attrs |= {
        "complete": answer.complete,
        "requests": answer.reader.requests,
        "read_units": answer.reader.read_units,
    }
    return frame


def iter_curves(
    haz_sol_id: str,
    *,
    sites: SitesLike | None = None,
    near: tuple[float, float] | None = None,
    imts: str | Iterable[str] | None = None,
    aggs: str | Iterable[str] | None = None,
    rlzs: int | Iterable[int] | None = None,
    layout: Layout | None = None,
    settings: Settings | None = None,
) -> Iterator[CurveRow]:
    """Read curves one by one, in stored order and in bounded memory; parameters and errors are those of ``curves``."""
    return _ask(haz_sol_id, sites, near, imts, aggs, rlzs, layout, settings, window_bytes=WINDOW_BYTES).rows


def read_meta(haz_sol_id: str, *, layout: Layout | None = None, settings: Settings | None = None) -> Meta:
    """Read a calculation's meta: sites, levels, logic tree, and whether it is complete.

    Raises
    ------
    NotStoredError
        If there is none; an old program's calculation has none of ours.
    """
    require_stored_id(haz_sol_id)
    return meta_room.read_meta(haz_sol_id, settings or Settings.from_environment(), layout)


def list_calculations(*, settings: Settings | None = None) -> list[CalculationRecord]:
    """Give what the ledger has of every calculation and layout, sorted by id and layout."""
    return Ledger(settings or Settings.from_environment()).calculations()


@dataclass(frozen=True)
class _Answer:
    complete: bool | None
    rows: Iterator[CurveRow]
    reader: Reader


def _ask(
    haz_sol_id: str,
    sites: SitesLike | None,
    near: tuple[float, float] | None,
    imts: str | Iterable[str] | None,
    aggs: str | Iterable[str] | None,
    rlzs: int | Iterable[int] | None,
    layout: Layout | None,
    settings: Settings | None,
    window_bytes: int | None,
) -> _Answer:
    """Read the meta and check the question; the curves are read as the rows are taken."""
    require_stored_id(haz_sol_id)
    settings = settings or Settings.from_environment()
    reader = Reader(settings)
    began = time.monotonic()
    wanted: dict[str, Any] = {"sites": sites, "near": near, "imts": imts, "aggs": aggs, "rlzs": rlzs}
    try:
        meta = meta_room.read_meta(haz_sol_id, settings, layout)
    except (NotStoredError, TableMissingError):
        # Tables that old programs filled hold no meta of ours, and perhaps no such table stands beside them.
        old = v2_fetching.find_calculation(haz_sol_id, settings) if layout is None or layout.is_v2 else None
        if old is None:
            raise
        return _Answer(None, v2_fetching.fetch_rows(old, reader, settings, **wanted), reader)
    rows = fetch_rows(meta, select(meta, **wanted), reader, settings, window_bytes)
    return _Answer(meta.complete, _of_one_content(rows, meta, settings, began), reader)


def _of_one_content(rows: Iterator[CurveRow], meta: Meta, settings: Settings, began: float) -> Iterator[CurveRow]:
    """Give the rows, and raise behind the last one if the curves may be of two contents."""
    yield from rows
    if not meta.complete or time.monotonic() - began < meta_room.QUIET_SECS:
        return
    if not meta_room.still_stands(meta, settings):
        raise StoreChangedError(
            f"{meta.haz_sol_id!r} was stored or deleted while it was read, so that its curves may be of before and "
            "after: read it again"
        )


def rows_to_frame(rows: Iterable[CurveRow]) -> pd.DataFrame:
    """Put rows into a frame with the columns of ``curves``."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row in rows:
        for name, values in columns.items():
            values.append(getattr(row, name))
    frame = pd.DataFrame(
        {
            # None stays None only in a column of objects, and equally long arrays stay arrays.
            "agg": pd.Series(columns["agg"], dtype=object),
            "rlz": pd.array(columns["rlz"], dtype="Int64"),
            "levels": _objects(columns["levels"]),
            "poes": _objects(columns["poes"]),
            **{name: np.array(columns[name], np.float64) for name in ("lat", "lon", "vs30")},
            **{name: pd.Series(columns[name], dtype=str) for name in ("haz_sol_id", "site", "imt")},
        }
    )
    return frame[list(COLUMNS)]


def _objects(values: list[Any]) -> pd.Series:
    array = np.empty(len(values), object)
    array[:] = values
    return pd.Series(array, dtype=object)


def to_xarray(frame: pd.DataFrame) -> xr.DataArray:
    """Turn a frame of ``curves`` into an array.

    Parameters
    ----------
    frame : DataFrame
        Curves of one calculation.

    Returns
    -------
    DataArray
        Dimensions ``site``, ``kind`` (``mean``, ``0.1``, ... or ``00007`` for a realisation), ``imt`` and ``level``
        (its index), float32, NaN where the frame has no curve. Beside them stand ``lat``, ``lon`` and ``vs30`` by site,
        ``agg`` and ``rlz`` (-1 for a statistic) by kind, and ``levels`` by IMT and level.

    Raises
    ------
    UsageError
        If the frame holds several calculations: their levels need not agree.
    """
    ids = frame["haz_sol_id"].unique()
    if len(ids) > 1:
        raise UsageError(f"an array holds one calculation, this frame holds {', '.join(ids)}: select one by haz_sol_id")
    is_rlz = frame["rlz"].notna().to_numpy()
    rlzs = frame["rlz"].fillna(-1).to_numpy(np.int64)
    kinds = [rlz_to_text(rlz) if by_rlz else agg for agg, rlz, by_rlz in zip(frame["agg"], rlzs, is_rlz, strict=True)]
    site_of = _positions(frame["site"])
    kind_of = _positions(kinds)
    imt_of = _positions(frame["imt"])
    n_levels = max(map(len, frame["poes"]), default=0)
    poes = np.full((len(site_of), len(kind_of), len(imt_of), n_levels), np.nan, np.float32)
    levels = np.full((len(imt_of), n_levels), np.nan)
    for site, kind, imt, row_levels, row_poes in zip(
        frame["site"], kinds, frame["imt"], frame["levels"], frame["poes"], strict=True
    ):
        poes[site_of[site], kind_of[kind], imt_of[imt], : len(row_poes)] = row_poes
        levels[imt_of[imt], : len(row_levels)] = row_levels
    by_site = frame.drop_duplicates("site")
    by_kind = pd.DataFrame({"kind": kinds, "agg": frame["agg"], "rlz": rlzs}).drop_duplicates("kind")
    return xr.DataArray(
        poes,
        dims=("site", "kind", "imt", "level"),
        coords={
            "site": np.array(list(site_of), object),
            "kind": np.array(list(kind_of), object),
            "imt": np.array(list(imt_of), object),
            **{name: ("site", by_site[name].to_numpy()) for name in ("lat", "lon", "vs30")},
            "agg": ("kind", np.array([agg or "" for agg in by_kind["agg"]], object)),
            "rlz": ("kind", by_kind["rlz"].to_numpy()),
            "levels": (("imt", "level"), levels),
        },
        name="poe",
        attrs={"haz_sol_id": ids[0]} if len(ids) else {},
    )


def _positions(names: Iterable[str]) -> dict[str, int]:
    return {name: position for position, name in enumerate(dict.fromkeys(names))}
