"""Reads a mutation as a store does, and says whether it was read right, refused, or neither."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import orjson
from numpy.typing import NDArray

from hazard_store.errors import HazardStoreError
from hazard_store.meta_document import calculation_to_document, document_to_json
from hazard_store.oq import Calculation, open_calculation
from hazard_store.oq.boxes import boxes_of
from tests.fuzz.limits import Limits
from tests.fuzz.mutations import Mutation
from tests.fuzz.structures import CURVES, OUTSIDE_POE, Outside

Outcome = Literal["read right", "refused", "refused by the trial", "defect"]

# A message is for a person: the longest of sound files have some hundred signs.
MAX_MESSAGE_CHARS = 2_000
READ_BLOCK_BYTES = 4 << 20

_IN_OPEN = 0x20


@dataclass(frozen=True)
class Verdict:
    """What came of a mutation; the text is the refusal, or what is wrong, which may be the memory that it took."""

    outcome: Outcome
    text: str = ""
    of_memory: bool = False


class OpensOf:
    """Tells whether anyone opened a file since the last question, from Linux's inotify."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        if self._watch < 0 or self._libc.inotify_add_watch(self._watch, os.fsencode(path), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify does not work here")

    def happened(self) -> bool:
        try:
            return bool(os.read(self._watch, 65_536))
        except BlockingIOError:
            return False


def judge(mutation: Mutation, outside: Outside, opens: OpensOf, limits: Limits) -> Verdict:
    """Read a mutation to its end, and compare what was read with what a plain h5py program finds."""
    opens.happened()
    outside.mark.unlink(missing_ok=True)
    stayed = sorted(mutation.path.parent.iterdir())
    try:
        with limits:
            told = _read(mutation.path)
    except HazardStoreError as exc:
        verdict = _refusal_verdict(exc)
        told = None
    except Exception as exc:
        verdict = Verdict("defect", f"{type(exc).__name__}: {_first_line(exc)} in {_innermost(exc)}")
        told = None
    if limits.growth_bytes > limits.max_growth_bytes:
        said = verdict.text if told is None else "read"
        return Verdict("defect", f"{limits.growth_bytes >> 20} MB of memory ({said})", of_memory=True)
    if opens.happened():
        return Verdict("defect", "a file outside was opened")
    if outside.mark.exists():
        return Verdict("defect", "a pickle was loaded")
    if sorted(mutation.path.parent.iterdir()) != stayed:
        return Verdict("defect", "a temporary file was left")
    if told is None:
        return verdict
    difference = _difference(told, mutation.plain)
    return Verdict("defect", difference) if difference else Verdict("read right")


def _read(path: Path) -> dict[str, Any]:
    """Read all that a store reads; raises the first refusal."""
    with open_calculation(path, strict=False) as calculation:
        described = calculation.describe()
        _check_lines((*calculation.refusals, *calculation.warnings))
        orjson.dumps(described)
        calculation.check_curves()
        kinds = {"stats": list(calculation.aggs), "realisations": []}
        b"".join(document_to_json(calculation_to_document(calculation, kinds)))  # type: ignore[arg-type]
        return {
            "codes": calculation.sites.codes,
            "lon": calculation.sites.lon,
            "lat": calculation.sites.lat,
            "imtls": calculation.imtls,
            "stats": calculation.stats,
            "weights": [realisation.weight for realisation in calculation.realisations],
            "curves": {part: _read_part(calculation, part) for part, shape in calculation.curves.items() if shape},
        }


def _read_part(calculation: Calculation, part: str) -> NDArray[np.float32]:
    shape = calculation.curves[part]
    assert shape is not None
    blocks = [
        calculation.read(part, sites.start, sites.stop, labels.start, labels.stop)
        for sites, labels, *_ in boxes_of([slice(0, n) for n in shape], (1, 1, *shape[2:]), READ_BLOCK_BYTES)
        if (labels.start, labels.stop) == (0, shape[1])
    ]
    return np.concatenate(blocks)


def _check_lines(lines: tuple[str, ...]) -> None:
    for line in lines:
        if (fault := _fault_of_line(line)) is not None:
            raise AssertionError(f"{fault}: {line[:200]!r}")


def _fault_of_line(line: str) -> str | None:
    if not line or not line.isprintable():
        return "a message that is not one printable line"
    return "a message without end" if len(line) > MAX_MESSAGE_CHARS else None


def _refusal_verdict(exc: HazardStoreError) -> Verdict:
    if (fault := _fault_of_line(str(exc))) is not None:
        return Verdict("defect", f"{fault}: {str(exc)[:200]!r}")
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, MemoryError):
            return Verdict("defect", f"it took an allocation that failed to refuse: {exc}")
        if isinstance(cause, OSError) and cause.errno == errno.EFBIG:
            return Verdict("defect", f"it took a full disk to refuse: {exc}")
        cause = cause.__cause__
    return Verdict("refused", str(exc))


def _difference(told: dict[str, Any], path: Path) -> str | None:
    """Say what of that which was read is not what the file holds."""
    try:
        held = _independently(path)
    except Exception as exc:
        return f"was read, though a plain program cannot: {type(exc).__name__}: {_first_line(exc)}"
    for name in ("codes", "stats"):
        if list(told[name]) != list(held[name]):
            return f"{name}: {str(told[name])[:100]} where the file says {str(held[name])[:100]}"
    for name in ("lon", "lat"):
        if not np.array_equal(told[name], held[name]):
            return f"{name} differs"
    if list(told["imtls"]) != list(held["imtls"]):
        return f"IMTs {list(told['imtls'])} where the file says {list(held['imtls'])}"
    for imt, levels in held["imtls"].items():
        if not np.array_equal(told["imtls"][imt], levels):
            return f"levels of {imt} differ"
    if set(told["curves"]) != set(held["curves"]):
        return f"curves of {set(told['curves'])} where the file has {set(held['curves'])}"
    for part, poes in held["curves"].items():
        if not np.array_equal(told["curves"][part].view(np.uint32), np.ascontiguousarray(poes).view(np.uint32)):
            return f"curves of {part} differ"
        if (poes == OUTSIDE_POE).all():
            return f"curves of {part} come from the file outside"
    return None


def _independently(path: Path) -> dict[str, Any]:
    """Read a datastore as ten lines of h5py do, for engines 3.13 and later."""
    with h5py.File(path, "r") as file:
        lon, lat = (np.asarray(file["sitecol"][name], np.float64) for name in ("lon", "lat"))
        if "custom_site_id" in file["sitecol"]:
            codes = [bytes(x).rstrip(b"\0").decode() for x in file["sitecol/custom_site_id"][()]]
        else:
            codes = [f"[{y:.3f}~{x:.3f}]".replace("-0.000", "0.000") for x, y in zip(lon, lat, strict=True)]
        job = json.loads(np.asarray(file["oqparam"][()]).tobytes().decode(errors="replace"))
        curves = {
            part: file[name] for part, name in zip(("stats", "realisations"), CURVES, strict=True) if name in file
        }
        names = {
            part: json.loads(array.attrs["json"])
            for part, array in curves.items()
            if isinstance(array.attrs.get("json"), str)
        }
        told = {part: of_part for part, of_part in names.items() if isinstance(of_part, dict)}
        # Without its attribute an array goes by the job, as engines of that time wrote none.
        imts = next((one["imt"] for one in told.values() if isinstance(one.get("imt"), list)), None)
        if imts is None:
            imts = sorted(job["hazard_imtls"], key=lambda imt: (float(imt[3:-1]) if "(" in imt else 0.0, imt))
        stats = told.get("stats", {}).get("stat") if "stats" in curves else []
        if stats is None:
            stats = [*(["mean"] if job.get("mean", True) else []), *(f"quantile-{q}" for q in job.get("quantiles", []))]
        imtls = {imt: np.array(job["hazard_imtls"][imt], np.float64) for imt in imts if job["hazard_imtls"].get(imt)}
        slots = [imts.index(imt) for imt in imtls]
        values = {part: array[()][:, :, slots] for part, array in curves.items()}
    return {"codes": codes, "lon": lon, "lat": lat, "imtls": imtls, "stats": stats, "curves": values}


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [""])[0][:300]


def _innermost(exc: BaseException) -> str:
    """The last frame of our own code that an exception went through."""
    place, trace = "?", exc.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "hazard_store" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return place
