"""The job's parameters, in each form in which engines since 3.11 have stored them."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

import h5py

from hazard_store.errors import NotStorableError
from hazard_store.oq.hdf5 import READ_ERRORS, Reader, decoded

MODES_WITH_CURVES = ("classical", "disaggregation", "event_based")


def read_parameters(reader: Reader) -> dict[str, Any]:
    """Return the parameters of the job; of several jobs those of the first.

    Unset parameters are left out by the engine, booleans are often 0 or 1.

    Raises
    ------
    NotStorableError
        If there are none, or they cannot be parsed.
    """
    found = reader.find("oqparam")
    path = "oqparam"
    if isinstance(found, h5py.Group) and len(found):
        path = f"oqparam/{next(iter(found))}"
        found = reader.find(path)
    if not isinstance(found, h5py.Dataset):
        raise NotStorableError(
            "oqparam is missing: the calculation ended before it began; run it again", source=reader.source
        )
    try:
        stored = reader.values(path)
        parameters = _from_table(stored) if found.dtype.names else _from_json(stored)
    except READ_ERRORS as exc:
        raise reader.damaged(path, exc) from exc
    if isinstance(parameters, dict) and not _is_encodable(parameters):
        raise NotStorableError(f"{path} holds half of a character; copy the datastore again", source=reader.source)
    if not isinstance(parameters, dict) or not parameters:
        raise NotStorableError(f"{path} holds no parameters; copy the datastore again", source=reader.source)
    return parameters


def _is_encodable(parameters: dict[str, Any]) -> bool:
    """Whether the texts can be written anywhere: JSON may name halves of characters, which no encoding has."""
    try:
        json.dumps(parameters, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_json(stored: Any) -> Any:
    text = decoded(stored)
    if isinstance(text, list) and all(isinstance(item, int) for item in text):
        text = bytes(text).decode("utf-8")
    return json.loads(text)


def _from_table(stored: Any) -> dict[str, Any]:
    """Engine 3.11 and before: one row a parameter, the value as a Python literal."""
    parameters = {}
    for row in stored.reshape(-1):
        name, text = decoded(row["par_name"]), decoded(row["par_value"])
        try:
            parameters[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parameters[name] = text
    return parameters


def levels_of_imts(parameters: dict[str, Any]) -> dict[str, list[float]]:
    """Return the levels of each IMT in the job's order; an IMT without levels has an empty list."""
    stored = parameters.get("hazard_imtls")
    if not isinstance(stored, dict):
        return {}
    levels: dict[str, list[float]] = {}
    for imt, values in stored.items():
        several = isinstance(values, (list, tuple)) and all(isinstance(value, (int, float)) for value in values)
        levels[str(imt)] = [to_float(value) for value in values] if several else []
    return levels


def to_float(value: float) -> float:
    """Return a number of JSON, where integers have no end, as float; infinity for one that is too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def refusal_of_mode(parameters: dict[str, Any]) -> str | None:
    """Return why a calculation of this mode has no curves to store, or `None` if it should have some."""
    mode = str(parameters.get("calculation_mode"))
    if mode not in MODES_WITH_CURVES:
        return f"calculation_mode is {mode}, which makes no hazard curves; expected {', '.join(MODES_WITH_CURVES)}"
    if mode == "event_based" and not parameters.get("hazard_curves_from_gmfs"):
        return (
            "calculation_mode is event_based without hazard curves; "
            "run it again with ground_motion_fields = true and hazard_curves_from_gmfs = true"
        )
    return None
