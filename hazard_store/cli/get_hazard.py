"""``get_hazard``: the team's script of that name: curves, or solutions by vs30, as lines of words."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import click

from hazard_store.cli.entry import CONTEXT_SETTINGS, run
from hazard_store.cli.options import example
from hazard_store.cli.output import put, warn
from hazard_store.cli.reading import stored_meta, texts
from hazard_store.errors import NotStoredError, UsageError
from hazard_store.wording import count


@click.command(
    context_settings=CONTEXT_SETTINGS,
    epilog=example(
        "get_hazard NZ-2026-A --locs WLG,AKL --imts PGA,'SA(1.0)' --aggs mean,0.9 -v",
        "get_hazard NZ-2026-A,NZ-2026-B --vs30s 400,750",
    ),
)
@click.argument("haz_sol_ids")
@click.option("--locs", metavar="LOC,...", help="Site codes, such as [-41.500~175.250] or WLG.")
@click.option("--vs30s", metavar="VS30,...", help="List the solutions whose vs30 is one of these, and no curves.")
@click.option("--imts", metavar="IMT,...", help="IMTs, such as PGA,SA(0.5).")
@click.option("--rlzs", metavar="RLZ,...", help="Ordinals of realisations, such as 0,1 or 00000,00001.")
@click.option("--aggs", metavar="AGG,...", help="Statistics, such as mean,0.1.")
@click.option("-v", "--verbose", is_flag=True, help="Print levels and poes as well.")
@click.option("-n", "--new-version-only", is_flag=True, help="Accepted and without effect.")
def get_hazard(
    haz_sol_ids: str,
    locs: str | None,
    vs30s: str | None,
    imts: str | None,
    rlzs: str | None,
    aggs: str | None,
    verbose: bool,
    new_version_only: bool,
) -> None:
    """Print the curves of stored calculations, one a line.

    HAZ_SOL_IDS is one id, or several with commas between them.
    """
    started = time.monotonic()
    ids = words(haz_sol_ids)
    if not ids:
        raise UsageError("HAZ_SOL_IDS holds no id")
    if vs30s is not None:
        number = put_solutions(ids, [_vs30(text) for text in words(vs30s)])
        put(count(number, "solution"))
    else:
        ordinals = None if rlzs is None else [_ordinal(text) for text in words(rlzs)]
        named = [None if text is None else words(text) for text in (locs, imts, aggs)]
        number = sum(put_curves(name, *named, rlzs=ordinals, with_id=len(ids) > 1, verbose=verbose) for name in ids)
        put(count(number, "curve"))
    put(f"Took {time.monotonic() - started:.2f} secs")


def words(text: str) -> list[str]:
    """Split a list at its commas; ``SA(0.5)`` and site codes hold none."""
    return [word.strip() for word in text.split(",") if word.strip()]


def put_curves(
    haz_sol_id: str,
    locs: list[str] | None,
    imts: list[str] | None,
    aggs: list[str] | None,
    *,
    rlzs: list[int] | None,
    with_id: bool,
    verbose: bool,
) -> int:
    """Print one calculation's curves and give their number."""
    from hazard_store import query

    rows = query.iter_curves(haz_sol_id, sites=locs, imts=imts, aggs=aggs, rlzs=rlzs)
    if (meta := stored_meta(haz_sol_id, None)) is not None and not meta.complete:
        warn(f"{haz_sol_id} is not complete: `hazard-store status {haz_sol_id}` tells what is missing")
    put(" ".join([*(["haz_sol_id"] if with_id else []), "loc agg-or-rlz imt", *(["levels poes"] if verbose else [])]))
    number = 0
    for row in rows:
        kind = row.agg if row.agg is not None else f"{row.rlz:05d}"
        fields = [*([haz_sol_id] if with_id else []), row.site, kind, row.imt]
        if verbose:
            fields += [",".join(texts(row.levels)), ",".join(texts(row.poes))]
        put(" ".join(fields))
        number += 1
    return number


def put_solutions(ids: list[str], vs30s: list[float]) -> int:
    """Print the solutions that have one of some vs30s, and give their number."""
    from hazard_store.settings import Settings
    from hazard_store.v2_fetching import find_calculation
    from hazard_store.v2_meta import v2_number, v2_vs30

    settings = Settings.from_environment()
    put("vs30 haz_sol_id locs")
    number = 0
    for haz_sol_id in ids:
        meta = stored_meta(haz_sol_id, None)
        if meta is not None:
            vs30, codes = v2_vs30(meta), meta.codes
        elif (old := find_calculation(haz_sol_id, settings)) is not None:
            vs30, codes = old.vs30, old.codes or []
        else:
            raise NotStoredError(
                f"nothing is stored under {haz_sol_id!r} at stage {settings.stage}: `hazard-store status` lists what is"
            )
        if vs30 in vs30s:
            put(f"{v2_number(vs30)} {haz_sol_id} {','.join(codes)}")
            number += 1
    return number


def _vs30(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--vs30s takes numbers in m/s, not {text!r}") from None


def _ordinal(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--rlzs takes ordinals counted from 0, such as 0 or 00000, not {text!r}")
    return int(text)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``get_hazard`` and end the process with its exit code."""
    sys.exit(run(get_hazard, "get_hazard", args))


if __name__ == "__main__":
    main()
