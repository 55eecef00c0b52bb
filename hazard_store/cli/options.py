"""Options that several commands share, and the texts that they parse."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hazard_store.layouts import Layout

F = TypeVar("F", bound=Callable[..., Any])

ENCODINGS = ("packed", "list")
PARTITIONS = ("solution", "location")
VERIFY_MODES = ("full", "digest", "sample", "scientific")


def lat_lon(text: str) -> tuple[float, float]:
    """``'-41.3,174.8' -> (-41.3, 174.8)``, degrees.

    Raises
    ------
    click.BadParameter
        If it is not that, or no place on Earth.
    """
    try:
        lat, lon = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not LAT,LON in degrees, such as -41.3,174.8") from None
    if not (-90 <= lat <= 90 and -180 <= lon <= 360):
        raise click.BadParameter(f"{text!r} is no place: latitude -90 to 90, longitude -180 to 360 degrees")
    return lat, lon


def positive_number(text: str) -> float:
    """Read a finite number above zero.

    Raises
    ------
    click.BadParameter
        If it is not that.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise click.BadParameter(f"{text!r} is not a number above 0")
    return number


def duration_secs(text: str) -> float:
    """``'90' -> 90``, ``'10m' -> 600``, ``'1h30m' -> 5400``: seconds, or numbers with h, m and s.

    Raises
    ------
    click.BadParameter
        If it is not that, or no time at all.
    """
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    if not hours + minutes + seconds:
        raise click.BadParameter(f"{text!r} is no duration such as 90, 10m or 1h30m")
    return float(3600 * hours + 60 * minutes + seconds)


def example(*lines: str) -> str:
    """Set example calls as the epilog of a command's help."""
    return "\b\n" + "\n".join(["Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


def layout_options(*, chosen: bool) -> Callable[[F], F]:
    """Add ``--encoding`` and ``--partition``.

    Parameters
    ----------
    chosen : bool
        Whether they choose what is written (and have defaults) or pick one of several stored forms.
    """
    defaults = ("packed", "solution") if chosen else (None, None)
    pick = "" if chosen else " Where an id is stored in several layouts, this picks one."

    def decorate(function: F) -> F:
        function = click.option(
            "--partition",
            type=click.Choice(PARTITIONS),
            default=defaults[1],
            show_default=chosen,
            help=f"Partition key: the calculation (solution) or 0.5 degree bins (location).{pick}",
        )(function)
        return click.option(
            "--encoding",
            type=click.Choice(ENCODINGS),
            default=defaults[0],
            show_default=chosen,
            help=f"Form of the curves: compact and lossless (packed) or the V2 form (list).{pick}",
        )(function)

    return decorate


def source_options(function: F) -> F:
    """Add what decides how a calculation is read."""
    function = click.option(
        "--trust-imt-order",
        is_flag=True,
        help="Take a file of engine 3.17 or 3.18 although the order of its IMTs is suspect.",
    )(function)
    function = click.option(
        "--sites",
        type=click.Choice(("auto", "normalised")),
        default="auto",
        show_default=True,
        help="Site codes: the job's custom_site_id where it has one (auto), or [lat~lon] for all (normalised).",
    )(function)
    return parent_option(function)


def parent_option(function: F) -> F:
    """Add ``--parent``."""
    return click.option(
        "--parent", metavar="FILE", help="Parent datastore of a calculation that was started from another (--hc)."
    )(function)


def cluster_options(function: F) -> F:
    """Add where the chunks are stored from."""
    function = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Worker processes of a local cluster (default: one a core, or HAZARD_STORE_WORKERS); workers on Fargate "
        "(default: as many as have work, between those of HAZARD_STORE_FARGATE_WORKERS); with --cluster none, requests "
        "under way at once.",
    )(function)
    return click.option(
        "--cluster",
        default="local",
        show_default=True,
        metavar="local|none|tcp://HOST:PORT|fargate",
        help="Dask workers on this machine, this process without Prefect and Dask, a running Dask scheduler, or Dask "
        "workers on AWS Fargate Spot, where the work pool of docs/aws.md runs.",
    )(function)


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def id_option(function: F) -> F:
    """Add a required ``--id``."""
    return click.option("--id", "haz_sol_id", required=True, metavar="ID", help="The hazard solution id.")(function)


def place_options(function: F) -> F:
    """Add which sites and IMTs to read."""
    function = click.option("--imt", "imts", multiple=True, metavar="IMT", help="An IMT, such as PGA; repeatable.")(
        function
    )
    function = click.option("--near", type=lat_lon, metavar="LAT,LON", help="The site nearest to a place, in degrees.")(
        function
    )
    return click.option("--site", "sites", multiple=True, metavar="CODE", help="A site's code; repeatable.")(function)


def pick_layout(encoding: str | None, partition: str | None) -> Layout | None:
    """Give the layout that a command names, without loading any where it names none."""
    if encoding is None and partition is None:
        return None
    from hazard_store.layouts import chosen_layout

    return chosen_layout(encoding, partition)
