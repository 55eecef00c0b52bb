"""Run jobs with an OpenQuake engine and write down what the engine itself says about the results.

Executed by the python of an engine's virtual environment (3.15 to 3.26); it never imports `hazard_store`,
so that its answers are an independent witness. All work goes to one folder: the engine's database, its
datastores and its home are kept away from the user's own.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

STORED_WEIGHTS_RTOL = 1e-5
"""`weights` is float32 in the file; what the engine recomputes is float64."""


def start_engine(work_dir: Path) -> str:
    """Prepare a private engine in `work_dir` and return its version. Call once, before any other engine import."""
    data_dir = work_dir / "oqdata"
    data_dir.mkdir(parents=True, exist_ok=True)
    os.environ.update(HOME=str(work_dir), OQ_DATADIR=str(data_dir), OQ_DISTRIBUTE="no", MPLBACKEND="agg")
    from openquake.baselib import __version__
    from openquake.commonlib import logs

    # Older engines open the database without a server only if told so; for newer ones `local` names a server.
    if "'local'" in inspect.getsource(logs.dbcmd):
        os.environ["OQ_DATABASE"] = "local"
    logs.dbcmd("upgrade_db")
    return str(__version__)


def run_job(job_ini: Path, **parameters: object) -> Path:
    """Run one job, with `parameters` in place of those of the job file, and return the path of its datastore."""
    from openquake.calculators.base import run_calc

    calculator = run_calc(str(job_ini), **parameters)
    path = Path(calculator.datastore.filename)
    calculator.datastore.close()
    return path


def answers(path: Path) -> dict[str, Any]:
    """Tell what the engine says about a datastore, in the form of `hazard-store inspect --json`.

    A site has a `code` only where the job gave it a `custom_site_id`. `realisations` is `None` where the engine has
    none to tell. `notes` holds what the engine's answers do not agree on.
    """
    from openquake.commonlib import datastore

    dstore = datastore.read(str(path))
    notes: list[str] = []
    try:
        oqparam = dstore["oqparam"]
        curves = {
            "stats": _shape(dstore, "hcurves-stats"),
            "realisations": _shape(dstore, "hcurves-rlzs"),
        }
        return {
            "engine_version": _text(dstore["/"].attrs["engine_version"]),
            "calculation_mode": oqparam.calculation_mode,
            "investigation_time": oqparam.investigation_time,
            "sites": _sites(dstore),
            "imtls": _imtls(dstore, oqparam, notes),
            "stats": _dimension(dstore, "hcurves-stats", "stat") or [],
            "realisations": _realisations(dstore, notes),
            "curves": curves,
            "notes": notes,
        }
    finally:
        dstore.close()


def write_answers(path: Path, json_path: Path) -> dict[str, Any]:
    """Write the engine's answers about the datastore `path` to `json_path` and return them."""
    told = answers(path)
    lines = [f"{json.dumps(key)}: {_to_json(value)}" for key, value in told.items()]
    json_path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return told


def _to_json(value: object) -> str:
    """JSON with one line for each entry of a list of objects or of a mapping."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n]"
    if isinstance(value, dict) and value:
        return "{\n  " + ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
    return json.dumps(value)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _shape(dstore: Any, name: str) -> list[int] | None:
    return list(dstore[name].shape) if name in dstore.hdf5 else None


def _dimension(dstore: Any, name: str, field: str) -> list[str] | None:
    """Return the labels of one dimension of a curve dataset, through the engine's own reader of them."""
    from openquake.baselib import hdf5

    if name not in dstore.hdf5 or "json" not in dstore[name].attrs:
        return None
    labels = hdf5.get_shape_descr(dstore[name].attrs["json"])[field]
    return [_text(label) for label in labels]


def _sites(dstore: Any) -> list[dict[str, Any]]:
    try:
        sitecol = dstore["sitecol"]
    except KeyError:
        return []
    columns = sitecol.array.dtype.names
    sites = []
    for index in range(len(sitecol)):
        site: dict[str, Any] = {}
        if "custom_site_id" in columns:
            site["code"] = _text(sitecol.array["custom_site_id"][index])
        site["lon"] = float(sitecol.lons[index])
        site["lat"] = float(sitecol.lats[index])
        site["vs30"] = float(sitecol.array["vs30"][index]) if "vs30" in columns else None
        sites.append(site)
    return sites


def _imtls(dstore: Any, oqparam: Any, notes: list[str]) -> dict[str, list[float]]:
    """Levels of each IMT in the order of the stored curves, or in the job's order if there are no curves."""
    levels_of = {imt: [float(level) for level in levels] for imt, levels in oqparam.imtls.items()}
    stored = _dimension(dstore, "hcurves-stats", "imt") or _dimension(dstore, "hcurves-rlzs", "imt")
    if stored is None:
        return levels_of
    if getattr(oqparam, "soil_intensities", None) is not None and "amplification" in oqparam.inputs:
        notes.append(f"soil_intensities with amplification method {oqparam.amplification_method}")
        if oqparam.amplification_method == "convolution":
            levels_of = {imt: [float(level) for level in oqparam.soil_intensities] for imt in levels_of}
    missing = [imt for imt in stored if imt not in levels_of]
    if missing:
        notes.append(f"no levels for {missing}")
    return {imt: levels_of[imt] for imt in stored if imt in levels_of}


def _weight(weight: Any) -> float:
    """Return the weight of the IMTs without one of their own: last of an array, `weight` of a mapping."""
    if isinstance(weight, dict):
        return float(weight["weight"])
    dic = getattr(weight, "dic", None)
    if dic is not None:
        return float(dic["weight"])
    if getattr(weight, "shape", ()):
        return float(weight[-1])
    return float(weight)


def _realisations(dstore: Any, notes: list[str]) -> list[dict[str, Any]] | None:
    try:
        full_lt = dstore["full_lt"]
    except KeyError:
        notes.append("no full_lt, neither here nor in the parent")
        return None
    told = [
        {
            "rlz": ordinal,
            "source_path": [_text(branch) for branch in rlz.sm_lt_path],
            "gsim_path": [_text(branch) for branch in rlz.gsim_rlz.lt_path],
            "weight": _weight(rlz.weight),
        }
        for ordinal, rlz in enumerate(full_lt.get_realizations())
    ]
    if "weights" in dstore:
        stored = dstore["weights"][()]
        if len(stored) != len(told):
            notes.append(f"{len(told)} realisations told, {len(stored)} weights stored")
        elif any(
            abs(float(w) - r["weight"]) > STORED_WEIGHTS_RTOL * abs(r["weight"])
            for w, r in zip(stored, told, strict=True)
        ):
            notes.append("weights told differ from weights stored")
    return told
