"""The curve datasets as they are stored, and what was found while reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import h5py
import numpy as np

from hazard_store.oq.boxes import remembering_chunks
from hazard_store.oq.hdf5 import MAX_INFLATION, READ_ERRORS, Reader, described_axes
from hazard_store.texts import to_message

Part = Literal["stats", "realisations"]

DATASETS: Mapping[Part, str] = {"stats": "hcurves-stats", "realisations": "hcurves-rlzs"}
CURVE_AXES = 4

MAX_CURVE_VALUES = 1 << 22
"""IMTs times levels of one curve, read at once; engines have some thousand."""


@dataclass
class Findings:
    """What reading has found so far: refusals forbid storing, warnings do not.

    `unfinished` says that curves are not there or not filled, as in a file that the engine still works on.
    """

    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unfinished: bool = False

    def refuse(self, text: str, *, unfinished: bool = False) -> None:
        """Note once why the calculation cannot be stored."""
        self.unfinished = self.unfinished or unfinished
        line = to_message(text)
        if line not in self.refusals:
            self.refusals.append(line)

    def warn(self, text: str) -> None:
        """Note once what the user should know."""
        line = to_message(text)
        if line not in self.warnings:
            self.warnings.append(line)


@dataclass(frozen=True, eq=False)
class CurveSet:
    """One curve dataset.

    Attributes
    ----------
    dataset : h5py.Dataset, shape (n_sites, n_labels, n_imts_stored, n_levels), float32
    imts : tuple of str, length n_imts_stored, or `None` if the file does not tell
    stats : tuple of str, names of the second axis; empty for realisations and where the file does not tell
    """

    part: Part
    dataset: h5py.Dataset
    imts: tuple[str, ...] | None
    stats: tuple[str, ...]

    @property
    def name(self) -> str:
        """Path of the dataset in the file."""
        return DATASETS[self.part]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored."""
        return tuple(int(length) for length in self.dataset.shape)


def read_curve_sets(reader: Reader, findings: Findings) -> dict[Part, CurveSet]:
    """Return the curve datasets that are there and sound, and note what is wrong with the others."""
    found: dict[Part, CurveSet] = {}
    for part, name in DATASETS.items():
        dataset = reader.dataset(name)
        if dataset is None:
            if reader.find(name) is not None:
                findings.refuse(f"{name} is a group, expected an array; store the file that the engine wrote")
            continue
        shape = tuple(dataset.shape or ())
        if len(shape) != CURVE_AXES or 0 in shape:
            findings.refuse(
                f"{name} has shape {shape}, expected (sites, {part}, IMTs, levels); run the calculation again"
            )
            continue
        if dataset.dtype != np.float32:
            findings.refuse(f"{name} has dtype {dataset.dtype}, expected float32; store the file that the engine wrote")
            continue
        held_bytes = min(dataset.id.get_storage_size(), reader.file.id.get_filesize())
        if held_bytes == 0:
            findings.refuse(
                f"{name} was made but never filled: the calculation was aborted; run it again", unfinished=True
            )
        elif dataset.nbytes > MAX_INFLATION * held_bytes:
            findings.refuse(
                f"{name} has shape {shape}, of which the file holds {held_bytes:,} bytes: the calculation was aborted "
                "before it was filled; run it again",
                unfinished=True,
            )
        if dataset.nbytes > MAX_INFLATION * reader.file.id.get_filesize() or math.prod(shape[2:]) > MAX_CURVE_VALUES:
            findings.refuse(
                f"{name} has shape {shape}, more than a file of {reader.file.id.get_filesize():,} bytes can hold "
                "or an engine writes; copy the datastore again"
            )
            continue
        try:
            axes = described_axes(dataset)
        except READ_ERRORS as exc:
            findings.refuse(reader.damaged(f"attribute json of {name}", exc).reason)
            axes = {}
        imts, stats = _names(axes.get("imt")), _names(axes.get("stat"))
        if imts is not None and len(imts) != shape[2]:
            findings.refuse(f"{name}: its attribute json names {len(imts)} IMTs, the array holds {shape[2]}")
            imts = None
        found[part] = CurveSet(part, remembering_chunks(dataset), imts, stats or ())
    return found


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None
