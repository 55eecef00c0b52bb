"""Compare what `hazard-store` reads in OpenQuake datastores with what the engine itself said about them.

    python tests/conformance/compare.py CORPUS                 # folders or .hdf5 files, beside each its .json
    python tests/conformance/compare.py CORPUS --store         # and store each, read it back, compare every bit

`CORPUS` comes from `run_engine_cases.py`. A line for each file says `equal`, `ordinals` (the curves are right and the
logic-tree paths are left out with a warning), `refused` (with the reason) or `DIFFERENT` (with the fields). A refusal
is an honest answer, so only a difference makes the exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hazard_store import query
from hazard_store.errors import SourceError
from hazard_store.jobs import StoreRequest
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.oq import Calculation, open_calculation
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables
from hazard_store.storing import store_in_process

WEIGHT_RTOL = 1e-6
"""Weights pass through float32 in the file."""

WEIGHT_ATOL = 1e-12

DATASETS = {"stats": "hcurves-stats", "realisations": "hcurves-rlzs"}

EXACT_FIELDS = ("engine_version", "calculation_mode", "investigation_time", "stats", "curves")

MAX_SHOWN = 160


@dataclass(frozen=True)
class Verdict:
    """What came of one file."""

    path: Path
    word: str
    details: str = ""


class RefusedError(Exception):
    """`hazard-store` would not read or store the file; the message is its reason."""


def inspect(path: Path) -> dict[str, Any]:
    """Return what `hazard-store inspect PATH --json` prints."""
    try:
        with open_calculation(path, strict=False, parent=parent_of(path)) as calculation:
            return calculation.describe()
    except SourceError as exc:
        raise RefusedError(str(exc)) from exc


def parent_of(path: Path) -> Path | None:
    """Return the parent of the recipe's child calculation, which lies beside it."""
    parent = path.with_name("custom_ids.hdf5")
    return parent if path.stem == "child" and parent.exists() else None


def site_code(site: dict[str, Any]) -> str:
    """Return the code under which a site of the engine's answers is to be stored."""
    code = site.get("code")
    return str(code) if code else f"[{site['lat']:.3f}~{site['lon']:.3f}]"


def site_differences(engine: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Iterator[str]:
    if len(engine) != len(ours):
        yield f"sites: engine {len(engine)}, ours {len(ours)}"
        return
    for index, (theirs, own) in enumerate(zip(engine, ours, strict=True)):
        expected = {"code": site_code(theirs), "lon": theirs["lon"], "lat": theirs["lat"], "vs30": theirs["vs30"]}
        if expected != own:
            yield f"sites[{index}]: engine {expected}, ours {own}"
            return


def imtl_differences(engine: dict[str, list[float]], ours: dict[str, list[float]]) -> Iterator[str]:
    if list(engine) != list(ours):
        yield f"imts: engine {list(engine)}, ours {list(ours)}"
        return
    for imt, levels in engine.items():
        if levels != ours[imt]:
            yield f"levels of {imt}: engine {levels}, ours {ours[imt]}"
            return


def has_paths(realisations: list[dict[str, Any]]) -> bool:
    return all(rlz.get("source_path") and rlz.get("gsim_path") for rlz in realisations)


def realisation_differences(engine: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Iterator[str]:
    if len(engine) != len(ours):
        yield f"realisations: engine {len(engine)}, ours {len(ours)}"
        return
    for theirs, own in zip(engine, ours, strict=True):
        for field in ("rlz", "source_path", "gsim_path"):
            if theirs[field] != own[field]:
                yield f"rlz {theirs['rlz']} {field}: engine {theirs[field]}, ours {own[field]}"
                return
        if not math.isclose(theirs["weight"], own["weight"], rel_tol=WEIGHT_RTOL, abs_tol=WEIGHT_ATOL):
            yield f"rlz {theirs['rlz']} weight: engine {theirs['weight']}, ours {own['weight']}"
            return


def field_differences(engine: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """Yield every difference outside the realisations."""
    for field in EXACT_FIELDS:
        if engine[field] != ours[field]:
            yield f"{field}: engine {engine[field]}, ours {ours[field]}"
    yield from site_differences(engine["sites"], ours["sites"])
    yield from imtl_differences(engine["imtls"], ours["imtls"])


def compare_inspection(path: Path) -> Verdict:
    """Compare the inspection of one datastore with the engine's answers in the `.json` beside it or in `expected/`."""
    engine = json.loads(answers_path(path).read_text())
    try:
        ours = inspect(path)
    except RefusedError as exc:
        return Verdict(path, "refused", str(exc))
    warnings = "; ".join(ours["warnings"])
    if not ours["storable"]:
        return Verdict(path, "refused", warnings)
    differences = list(field_differences(engine, ours))
    realisations = ours["realisations"] or []
    untold = engine["realisations"] is None or not has_paths(realisations)
    if not untold:
        differences += realisation_differences(engine["realisations"], realisations)
    elif has_paths(realisations) and realisations:
        differences.append("realisations: ours has paths, the engine has none")
    elif not warnings:
        differences.append("realisations: paths left out without a warning")
    if differences:
        return Verdict(path, "DIFFERENT", "; ".join(differences))
    return Verdict(path, "ordinals" if untold else "equal", warnings)


def stored_differences(path: Path, settings: Settings) -> Iterator[str]:
    """Store a datastore in every layout, and yield how what a reader gets differs from the file, bit for bit."""
    for layout in LAYOUTS.values():
        request = StoreRequest(
            source=str(path),
            haz_sol_id=f"{path.parent.name}-{path.stem}",
            encoding=layout.encoding.name,
            partition=layout.partition.name,
            parent=str(parent_of(path)) if parent_of(path) else None,
        )
        report = store_in_process(request, settings)
        if not report.complete:
            yield f"{layout.name}: not complete: {report.failed}"
            continue
        with open_calculation(path, parent=request.parent) as calculation:
            for part in (part for part, shape in calculation.curves.items() if shape):
                yield from (
                    f"{layout.name} {part}: {what}"
                    for what in part_differences(calculation, part, request, layout, settings)
                )


def part_differences(
    calculation: Calculation, part: str, request: StoreRequest, layout: Layout, settings: Settings
) -> Iterator[str]:
    names = calculation.aggs if part == "stats" else range(calculation.number_of(part))
    asked = {"aggs": list(names)} if part == "stats" else {"rlzs": list(names)}
    frame = query.curves(request.haz_sol_id, layout=layout, settings=settings, **asked)
    array = query.to_xarray(frame)
    # What the engine wrote, read without our reader: only the order of its axes is taken from the inspection.
    with h5py.File(calculation.source, locking=False) as file:
        expected = np.ascontiguousarray(file[DATASETS[part]][()], dtype=np.float32)
    expected = np.ascontiguousarray(expected[:, :, calculation.imt_slots])
    orders = (list(calculation.sites.codes), list(calculation.imtls))
    if (list(array["site"].values), list(array["imt"].values)) != orders:
        yield f"sites or IMTs {array['site'].values}, {array['imt'].values}, expected {orders}"
    elif array.shape != expected.shape:
        yield f"shape {array.shape}, file {expected.shape}"
    elif unequal := int(np.count_nonzero(array.values.view(np.uint32) != expected.view(np.uint32))):
        yield f"{unequal} of {expected.size} poes differ"
    elif not all(
        np.array_equal(levels, calculation.imtls[imt])
        for imt, levels in zip(frame["imt"], frame["levels"], strict=True)
    ):
        yield "levels differ"


def answers_path(path: Path) -> Path:
    """Return where the engine's answers about a datastore are: beside it, or in `expected/` as in `tests/data`."""
    beside = path.with_suffix(".json")
    return beside if beside.exists() else path.parent / "expected" / beside.name


def find_datastores(sources: list[Path]) -> list[Path]:
    """Return the datastores with the engine's answers, in a fixed order."""
    found: list[Path] = []
    for source in sources:
        found += sorted(source.rglob("*.hdf5")) if source.is_dir() else [source]
    return [path for path in found if answers_path(path).exists()]


def main() -> int:
    """Read the command line; without an endpoint a DynamoDB of its own takes what --store stores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="CORPUS")
    parser.add_argument("--store", action="store_true", help="store each and read it back")
    parser.add_argument("--quiet", action="store_true", help="leave out the files that are equal")
    parser.add_argument("--full", action="store_true", help="do not shorten the details")
    arguments = parser.parse_args()

    with contextlib.ExitStack() as services:
        if arguments.store and not os.environ.get("HAZARD_STORE_ENDPOINT"):
            database = services.enter_context(DynamoDbLocal.start())
            os.environ.update(LOCAL_CREDENTIALS, HAZARD_STORE_ENDPOINT=database.endpoint)
        return compare(arguments)


def compare(arguments: argparse.Namespace) -> int:
    """Compare every datastore, print a line for each and the totals, and return the exit code."""
    settings = Settings.from_environment()
    if arguments.store:
        create_tables(settings)
    totals: Counter[str] = Counter()
    for path in find_datastores(arguments.sources):
        verdict = compare_inspection(path)
        if arguments.store and verdict.word in ("equal", "ordinals"):
            differences = "; ".join(stored_differences(path, settings))
            if differences:
                verdict = Verdict(path, "DIFFERENT", differences)
        totals[verdict.word] += 1
        if arguments.quiet and verdict.word == "equal":
            continue
        details = " ".join(verdict.details.split())
        if not arguments.full and len(details) > MAX_SHOWN:
            details = details[:MAX_SHOWN] + "..."
        print(f"{verdict.word:<9}  {path.parent.name}/{path.stem:<40}  {details}".rstrip(), flush=True)
    print(", ".join(f"{count} {word}" for word, count in sorted(totals.items())) or "nothing to compare")
    return 1 if totals["DIFFERENT"] or not totals else 0


if __name__ == "__main__":
    sys.exit(main())
