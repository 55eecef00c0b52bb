"""Sites and their codes, in the order of the first axis of the curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from hazard_store.errors import NotStorableError
from hazard_store.oq.hdf5 import Reader

SiteCodes = Literal["auto", "normalised"]

SEPARATORS = (":", "#")
"""They part a site code from what stands beside it in range keys and chunk ids."""

MAX_NAME_CHARS = 100
"""A range key has 1,024 bytes for a site code, the name of a statistic, and what parts them."""

NAMED_COLLISIONS = 3
"""How many pairs one message names; a grid given to four decimals can hold thousands."""


_CODES_AT_ONCE = 4_096


class CoordinateCodes(Sequence[str]):
    """Codes `[lat~lon]`, made when they are asked for: a million texts would take 80 MB of each worker.

    Parameters
    ----------
    lon, lat : ndarray, shape (n_sites,), float64, degrees
    """

    def __init__(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
        self._lon, self._lat = lon, lat

    def __len__(self) -> int:
        return len(self._lon)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(map(coordinates_to_code, self._lon[index].tolist(), self._lat[index].tolist()))
        return coordinates_to_code(float(self._lon[index]), float(self._lat[index]))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CODES_AT_ONCE):
            yield from self[start : start + _CODES_AT_ONCE]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented


@dataclass(frozen=True, eq=False)
class Sites:
    """The sites of a calculation.

    Attributes
    ----------
    codes : sequence of str, length n_sites
        The job's `custom_site_id`, or `[lat~lon]` to three decimals.
    custom : bool
        Whether the codes are the job's own.
    lon, lat : ndarray, shape (n_sites,), float64, degrees
    vs30 : ndarray, shape (n_sites,), float64, m/s; NaN where the file tells none
    """

    codes: Sequence[str]
    custom: bool
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    vs30: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.codes)


NO_SITES = Sites((), False, np.empty(0), np.empty(0), np.empty(0))


def coordinates_to_code(lon: float, lat: float) -> str:
    """Return `[lat~lon]` to three decimals, without a negative zero: `(175.25, -41.5)` gives `[-41.500~175.250]`."""
    return f"[{_three_decimals(lat)}~{_three_decimals(lon)}]"


def _three_decimals(degrees: float) -> str:
    text = f"{degrees:.3f}"
    return "0.000" if text == "-0.000" else text


def read_sites(reader: Reader, codes: SiteCodes, reference_vs30: float | None) -> Sites:
    """Read the site collection.

    Parameters
    ----------
    reader : Reader
        The open file.
    codes : {"auto", "normalised"}
        The job's own ids where there are any, or always those made from the coordinates.
    reference_vs30 : float, optional
        The job's own value in m/s, for files without one per site.

    Raises
    ------
    NotStorableError
        If it is missing, damaged or incomplete.
    """
    lon, lat = _coordinates(_column(reader, "lon"), reader), _coordinates(_column(reader, "lat"), reader)
    if lon.shape != lat.shape:
        raise NotStorableError(
            f"sitecol/lon has shape {lon.shape} but sitecol/lat {lat.shape}; copy the datastore again",
            source=reader.source,
        )
    vs30 = _vs30(reader, lon.shape, reference_vs30)
    ids = _column(reader, "custom_site_id") if codes == "auto" else None
    if ids is None and codes == "auto" and isinstance(reader.find("sitecol/custom_site_id"), h5py.Group):
        raise NotStorableError(
            "sitecol/custom_site_id is a group, expected a dataset; copy the file again, or use --sites normalised",
            source=reader.source,
        )
    if ids is None:
        return Sites(CoordinateCodes(lon, lat), False, lon, lat, vs30)
    ids = np.asarray(ids)
    if ids.dtype.kind not in "SUOui":
        raise NotStorableError(
            f"sitecol/custom_site_id has dtype {ids.dtype}, expected texts or whole numbers; use --sites normalised",
            source=reader.source,
        )
    if ids.shape != lon.shape:
        raise NotStorableError(
            f"sitecol/custom_site_id has shape {ids.shape}, expected {lon.shape}; copy the datastore again, "
            "or use --sites normalised",
            source=reader.source,
        )
    return Sites(tuple(_id_to_code(site_id) for site_id in ids.tolist()), True, lon, lat, vs30)


def _column(reader: Reader, name: str) -> Any:
    """Return one column of `sitecol`: a member of the group, or (3.11) a field of the table."""
    found = reader.find("sitecol")
    if isinstance(found, h5py.Group):
        return reader.values(f"sitecol/{name}")
    if isinstance(found, h5py.Dataset) and found.dtype.names and name in found.dtype.names:
        return reader.values("sitecol")[name]
    return None


def _vs30(reader: Reader, shape: tuple[int, ...], reference_vs30: float | None) -> NDArray[np.float64]:
    """Return the vs30 of each site; the job's own stands for values that are missing, never for wrong ones."""
    stored = _column(reader, "vs30")
    if stored is None:
        if isinstance(reader.find("sitecol/vs30"), h5py.Group):
            raise NotStorableError(
                "sitecol/vs30 is a group, expected a dataset; copy the datastore again", source=reader.source
            )
        return np.full(shape, np.nan if reference_vs30 is None else reference_vs30)
    values = np.atleast_1d(np.asarray(stored))
    if values.dtype.kind not in "fiu" or values.shape != shape:
        raise NotStorableError(
            f"sitecol/vs30 has shape {values.shape} and dtype {values.dtype}, expected {shape} and numbers; "
            "copy the datastore again",
            source=reader.source,
        )
    return np.asarray(values, np.float64)


def _coordinates(values: Any, reader: Reader) -> NDArray[np.float64]:
    if values is None:
        raise NotStorableError(
            "sitecol (lon, lat) is missing: the calculation has no sites to store", source=reader.source
        )
    if np.asarray(values).dtype.kind not in "fiu":
        raise NotStorableError(
            f"sitecol holds coordinates of dtype {np.asarray(values).dtype}, expected numbers; "
            "copy the datastore again",
            source=reader.source,
        )
    degrees = np.atleast_1d(np.asarray(values, np.float64))
    if degrees.ndim != 1 or not np.isfinite(degrees).all():
        raise NotStorableError(
            "sitecol holds coordinates that are not numbers; copy the datastore again", source=reader.source
        )
    return degrees


def _id_to_code(site_id: object) -> str:
    """Return a `custom_site_id` as text; ids were unsigned integers up to engine 3.12."""
    if isinstance(site_id, bytes):
        # Bytes that are not UTF-8 become U+FFFD, which `refusals_of_sites` finds.
        return site_id.rstrip(b"\0").decode("utf-8", errors="replace")
    return str(site_id).rstrip("\0")


def refusals_of_sites(sites: Sites) -> Iterator[str]:
    """Yield why these sites cannot be stored under their codes: codes without meaning, and codes given twice."""
    if sites.custom:
        for index, code in enumerate(sites.codes):
            reason = fault_of_name(code)
            if reason:
                yield (
                    f"sitecol/custom_site_id: site {index} at lon {sites.lon[index]}, lat {sites.lat[index]} "
                    f"has the id {code!r}, which {reason}; use --sites normalised, or fix the job's site model"
                )
                break
    collisions = _collisions(sites.codes)
    if collisions:
        shown = "; ".join(f"{_site(sites, a)} and {_site(sites, b)}" for a, b in collisions[:NAMED_COLLISIONS])
        more = f" (and {len(collisions) - NAMED_COLLISIONS} more)" if len(collisions) > NAMED_COLLISIONS else ""
        remedy = (
            "give each site its own id in the job's site model, or use --sites normalised"
            if sites.custom
            else "move one of them, or give the job's sites a custom_site_id"
        )
        yield f"two sites would be stored under one code, one overwriting the other: {shown}{more}; {remedy}"


def fault_of_name(code: str) -> str | None:
    """Return why a text cannot be part of a key, a site code or the name of an IMT or statistic; `None` if it can."""
    if not code:
        return "is empty"
    if any(separator in code for separator in SEPARATORS):
        return "holds ':' or '#'"
    if "\ufffd" in code or any(character.isspace() or not character.isprintable() for character in code):
        return "holds a space or a character that cannot be printed"
    if len(code) > MAX_NAME_CHARS:
        return f"is longer than {MAX_NAME_CHARS} characters"
    return None


def _collisions(codes: Sequence[str]) -> list[tuple[int, int]]:
    """Pair each site whose code an earlier one has with the first that has it."""
    # Hashes first, for a dictionary of a million texts would take 200 MB.
    hashes = np.fromiter(map(hash, codes), np.int64, len(codes))
    order = np.argsort(hashes, kind="stable")
    is_same = hashes[order[1:]] == hashes[order[:-1]]
    suspects = np.zeros(len(codes), bool)
    suspects[order[1:][is_same]] = suspects[order[:-1][is_same]] = True
    first_of: dict[str, int] = {}
    firsts = ((first_of.setdefault(codes[index], index), index) for index in np.flatnonzero(suspects).tolist())
    return [(first, index) for first, index in firsts if first != index]


def _site(sites: Sites, index: int) -> str:
    return f"site {index} (lon {float(sites.lon[index])}, lat {float(sites.lat[index])}, code {sites.codes[index]})"
