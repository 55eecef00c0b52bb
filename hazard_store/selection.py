"""What a reader asked for, checked against what a calculation has before anything is read."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from hazard_store.errors import UsageError
from hazard_store.meta import Meta
from hazard_store.names import CURVE_PARTS, CurvePart, rlz_to_text

if TYPE_CHECKING:
    # 60 MB and 0.3 s, which workers that only write do not have to take.
    import pandas as pd
    from typing_extensions import TypeIs

# How many valid names a refusal offers.
_CHOICES = 5

# `[-41.500~175.250]`
_NORMALISED_CODE = re.compile(r"\[(-?[\d.]+)~(-?[\d.]+)\]")

SitesLike: TypeAlias = "str | Sequence[str] | pd.Series | pd.DataFrame"
"""Site codes; or a frame with columns ``lat`` and ``lon``, each row answered by its nearest site."""


@dataclass(frozen=True)
class Selection:
    """Which curves of a calculation are wanted, as positions in the order in which its meta has them.

    Attributes
    ----------
    sites : list of int
    kinds : dict of part to list of str
        Short names of statistics, ordinals of realisations; parts that are not wanted are absent.
    imts : list of int
    """

    sites: list[int]
    kinds: dict[CurvePart, list[str]]
    imts: list[int]


def select(
    meta: Meta,
    *,
    sites: SitesLike | None = None,
    near: tuple[float, float] | None = None,
    imts: str | Iterable[str] | None = None,
    aggs: str | Iterable[str] | None = None,
    rlzs: int | Iterable[int] | None = None,
) -> Selection:
    """Find what is wanted in a calculation's meta. None is everything, an empty sequence is nothing.

    Raises
    ------
    UsageError
        If a site, IMT, statistic or realisation is none of this calculation's; names the nearest that are.
    """
    everything = aggs is None and rlzs is None
    kinds: dict[CurvePart, list[str]] = {}
    for part in CURVE_PARTS:
        stored = meta.kinds(part)
        if everything:
            kinds[part] = stored
        elif part == "stats" and aggs is not None:
            # The names that OpenQuake writes (`quantile-0.1`) are taken for the short ones (`0.1`).
            aliases = dict(zip(meta.document["stats"], stored, strict=False))
            wanted = [aliases.get(agg, agg) for agg in as_texts(aggs)]
            kinds[part] = [stored[i] for i in find_all("statistic", wanted, stored, meta.haz_sol_id)]
        elif part == "realisations" and rlzs is not None:
            wanted = rlzs_to_texts(rlzs)
            kinds[part] = [stored[i] for i in find_all("realisation", wanted, stored, meta.haz_sol_id)]
    imt_names = list(meta.imtls)
    return Selection(
        sites=_select_sites(meta, sites, near),
        kinds={part: names for part, names in kinds.items() if names},
        imts=find_all("IMT", imt_names if imts is None else as_texts(imts), imt_names, meta.haz_sol_id),
    )


def _select_sites(meta: Meta, sites: SitesLike | None, near: tuple[float, float] | None) -> list[int]:
    places, codes = check_sites(sites, near)
    if places is not None:
        return sorted({nearest_site(meta.lat, meta.lon, lat, lon) for lat, lon in places})
    if codes is None:
        return list(range(len(meta.codes)))
    known = set(meta.codes)
    for code in codes:
        # A code that is a place is best answered by the places next to it.
        if (place := code_to_place(code)) is not None and code not in known:
            nearest = np.argsort(_distance_measure(meta.lat, meta.lon, *place), kind="stable")[:_CHOICES]
            choices = ", ".join(meta.codes[site] for site in nearest)
            raise UsageError(
                f"{meta.haz_sol_id} has no site {code!r}: nearest of its {len(meta.codes):,} are {choices}"
            )
    return find_all("site", codes, meta.codes, meta.haz_sol_id)


def code_to_place(code: str) -> tuple[float, float] | None:
    """``'[-41.500~175.250]' -> (-41.5, 175.25)``; None for a code of another form."""
    match = _NORMALISED_CODE.fullmatch(code)
    try:
        return None if match is None else (float(match[1]), float(match[2]))
    except ValueError:
        return None


def check_sites(
    sites: SitesLike | None, near: tuple[float, float] | None
) -> tuple[list[tuple[float, float]] | None, list[str] | None]:
    """Give the places or the codes that are asked for, each None where it is not by them.

    Raises
    ------
    UsageError
        If both are given, or a frame lacks the columns ``lat`` and ``lon``.
    """
    if near is not None:
        if sites is not None:
            raise UsageError("give either sites or near, not both")
        return [near], None
    if _is_frame(sites):
        if not {"lat", "lon"} <= set(sites.columns):
            raise UsageError(f"a frame of sites needs the columns lat and lon; it has {', '.join(map(str, sites))}")
        return [(float(lat), float(lon)) for lat, lon in zip(sites["lat"], sites["lon"], strict=True)], None
    return None, None if sites is None else as_texts(sites)


def _is_frame(sites: SitesLike | None) -> TypeIs[pd.DataFrame]:
    return hasattr(sites, "columns")


def nearest_site(lats: npt.NDArray[np.float64], lons: npt.NDArray[np.float64], lat: float, lon: float) -> int:
    """Find the site nearest to a place along the great circle; the first of several equally near.

    Parameters
    ----------
    lats, lons : ndarray, shape (n_sites,), degrees
    lat, lon : float
        Degrees; the longitude may be counted from -180 or from 0.

    Raises
    ------
    UsageError
        If the place is not on Earth.
    """
    if not (-90.0 <= lat <= 90.0 and -180.0 <= lon <= 360.0):
        raise UsageError(f"{lat:g},{lon:g} is no place: latitude -90 to 90, longitude -180 to 360 degrees")
    return int(np.argmin(_distance_measure(lats, lons, lat, lon)))


def _distance_measure(
    lats: npt.NDArray[np.float64], lons: npt.NDArray[np.float64], lat: float, lon: float
) -> npt.NDArray[np.float64]:
    """Give the haversine of the great-circle distances: it grows as they do, and is exact for near places."""
    phi, phis = np.radians(lat), np.radians(lats)
    across = np.cos(phi) * np.cos(phis) * np.sin(np.radians(lons - lon) / 2.0) ** 2
    measure: npt.NDArray[np.float64] = np.sin((phis - phi) / 2.0) ** 2 + across
    return measure


def as_texts(texts: str | Iterable[str]) -> list[str]:
    """Give names as a list; a single text is one name, not its letters."""
    return [texts] if isinstance(texts, str) else [str(text) for text in texts]


def rlzs_to_texts(rlzs: int | Iterable[int]) -> list[str]:
    """``[0, 7] -> ['00000', '00007']``.

    Raises
    ------
    UsageError
        If one is not a whole number.
    """
    numbers = [rlzs] if isinstance(rlzs, int | str) else list(rlzs)
    try:
        # Of numbers only whole ones, numpy's as well: a 7.9 is no 7. The command line has texts.
        return [rlz_to_text(int(n) if isinstance(n, str) else operator.index(n)) for n in numbers]
    except (TypeError, ValueError) as exc:
        raise UsageError(f"realisations are whole numbers counted from 0, not {numbers}") from exc


def find_all(what: str, wanted: Iterable[str], stored: Sequence[str], haz_sol_id: str) -> list[int]:
    """Give the positions of names, in stored order, each once.

    Raises
    ------
    UsageError
        If one is not there.
    """
    positions = {name: position for position, name in enumerate(stored)}
    found = set()
    for name in wanted:
        if name not in positions:
            raise UsageError(f"{haz_sol_id} has no {what} {_shown(what, name)}: {_choices(what, name, stored)}")
        found.add(positions[name])
    return sorted(found)


def _shown(what: str, name: str) -> str:
    return str(int(name)) if what == "realisation" else repr(name)


def _choices(what: str, name: str, stored: Sequence[str]) -> str:
    """Say which names there are: all if they are few, the most similar if they are many."""
    if not stored:
        return f"no {what}s of it are stored"
    if what == "realisation":
        return f"it has {int(stored[0])} to {int(stored[-1])}"
    if len(stored) <= _CHOICES:
        return f"it has {', '.join(stored)}"
    # Case is what is mistaken most (`pga`, `wlg`).
    by_lower = {other.lower(): other for other in reversed(stored)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=_CHOICES, cutoff=0.5)
    if near:
        return f"nearest of its {len(stored):,} are {', '.join(by_lower[lower] for lower in near)}"
    return f"it has {', '.join(stored[:_CHOICES])} and {len(stored) - _CHOICES:,} more"
