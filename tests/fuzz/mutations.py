"""All kinds of mutations; the seed of a run and a number name one, and make it anew, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py

from tests.fuzz import archives, damage, structures
from tests.fuzz.structures import OUTSIDE_POE, Outside

DATA = Path(__file__).parent.parent / "data"

ChangeBytes = Callable[[bytes, random.Random], bytes]
ChangeStructure = Callable[[h5py.File, random.Random, Outside], None]

BYTES: tuple[ChangeBytes, ...] = (
    damage.flip_bits,
    damage.flip_metadata,
    damage.write_numbers,
    damage.truncate,
    damage.swap_blocks,
    damage.overwrite_block,
    damage.shift,
)
STRUCTURES: tuple[ChangeStructure, ...] = (
    structures.remove,
    structures.rename,
    structures.link,
    structures.link_root,
    structures.hard_link,
    structures.external_storage,
    structures.virtual,
    structures.absurd_shape,
    structures.compressed_shape,
    structures.other_shape,
    structures.null_space,
    structures.other_dtype,
    structures.other_fields,
    structures.odd_numbers,
    structures.odd_table_numbers,
    structures.hostile_texts,
    structures.odd_parameters,
    structures.parameter_group,
    structures.deep_groups,
    structures.odd_attributes,
    structures.giant_attribute,
    structures.chunked,
    structures.bad_filter,
    structures.long_texts,
    structures.many_realisations,
)
ARCHIVES: tuple[ChangeBytes, ...] = (
    archives.sound,
    archives.damaged_bytes,
    archives.damaged_directory,
    archives.truncated_directory,
    archives.wrong_crc,
    archives.path_traversal,
    archives.hostile_name,
    archives.bomb,
    archives.lying_sizes,
    archives.many_members,
    archives.encrypted,
    archives.nested,
    archives.link_member,
)

# What h5py does not write, such as texts with NULs, leaves a file that is changed by half: a mutation as well.
NOT_WRITTEN = (ValueError, TypeError, OSError, RuntimeError, LookupError, AttributeError)

# HDF5 has most room for surprises in its bytes; within a family each kind has the same share.
_FAMILIES = (("bytes", BYTES, 0.6), ("HDF5", STRUCTURES, 0.27), ("zip", ARCHIVES, 0.13))

KINDS: tuple[str, ...] = tuple(
    f"{family}: {change.__name__.replace('_', ' ')}" for family, changes, _ in _FAMILIES for change in changes
)


@dataclass(frozen=True)
class Mutation:
    """A changed datastore.

    Attributes
    ----------
    path : Path
        What is given to the reader.
    plain : Path
        The datastore itself: that of an archive before it was packed.
    """

    kind: str
    base: str
    path: Path
    plain: Path


@cache
def bases() -> dict[str, bytes]:
    """The real datastores, by name."""
    return {path.stem: path.read_bytes() for path in sorted(DATA.glob("*.hdf5"))}


@cache
def _choices() -> tuple[list[tuple[str, ChangeBytes | ChangeStructure]], list[float]]:
    kinds, weights = [], []
    for family, changes, share in _FAMILIES:
        kinds += [(family, change) for change in changes]
        weights += [share / len(changes)] * len(changes)
    return kinds, weights


def kind_of(seed: int, number: int) -> str:
    """Name the kind of a mutation without making it."""
    return _drawn(seed, number)[0]


def _drawn(seed: int, number: int) -> tuple[str, str, ChangeBytes | ChangeStructure, str, random.Random]:
    rng = random.Random(f"{seed}/{number}")
    kinds, weights = _choices()
    family, change = rng.choices(kinds, weights)[0]
    return f"{family}: {change.__name__.replace('_', ' ')}", family, change, rng.choice(sorted(bases())), rng


def mutate(seed: int, number: int, folder: Path, outside: Outside) -> Mutation:
    """Make a mutation in an empty folder."""
    kind, family, change, base, rng = _drawn(seed, number)
    content = bases()[base]
    path = plain = folder / "calc_1.hdf5"
    if family == "bytes":
        for _ in range(rng.choice((1, 1, 1, 2))):
            content = change(content, rng) if content else content  # type: ignore[call-arg, arg-type]
        path.write_bytes(content)  # type: ignore[arg-type]
    elif family == "HDF5":
        path.write_bytes(content)
        with h5py.File(path, "r+", libver="latest") as file, suppress(*NOT_WRITTEN):
            change(file, rng, outside)  # type: ignore[call-arg, arg-type]
    else:
        path = folder / "calc_1.zip"
        plain.write_bytes(content)
        path.write_bytes(change(content, rng))  # type: ignore[call-arg, arg-type]
    return Mutation(kind, base, path, plain)


def make_outside(folder: Path) -> Outside:
    """Write the datastore that no reading may reach."""
    outside = Outside(folder / "outside.hdf5", folder / "unpickled")
    outside.file.write_bytes(bases()["custom_ids"])
    with h5py.File(outside.file, "r+") as file:
        for name in structures.CURVES:
            file[name][...] = OUTSIDE_POE
    return outside
