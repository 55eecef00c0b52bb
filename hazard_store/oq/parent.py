"""The parent of a child calculation (one started with `--hc`), which holds the logic tree of both."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from hazard_store.errors import NotStorableError
from hazard_store.oq.hdf5 import Reader, root_attributes
from hazard_store.oq.logic_tree import LogicTree, read_logic_tree, read_weights
from hazard_store.oq.opened import OpenedFile
from hazard_store.oq.parameters import read_parameters
from hazard_store.oq.sites import Sites, read_sites
from hazard_store.sources.content import content_of

POSITION_TOLERANCE_DEGREES = 1e-4
"""About 10 m: less than what parts two sites, more than what two engines round differently."""


def tree_of_parent(
    parent: str | os.PathLike[str], source: str, sites: Sites, n_stored: int | None
) -> tuple[LogicTree, NDArray[np.float64] | None, str]:
    """Return logic tree and weights of the file `parent`, having checked that it can be one; see `read_weights`.

    Parameters
    ----------
    parent : str or path
        What the user names as the parent.
    source : str
        The child, for messages.
    sites : Sites
        Those of the child.
    n_stored : int, optional
        The child's number of realisations, where it holds their curves.

    Raises
    ------
    NotStorableError
        If it is not the parent.
    NotADatastoreError
        If it cannot be read.
    """
    # Of a parent on S3 some tables are read, and none of its curves.
    opened = OpenedFile.of(content_of(parent, ranges=True))
    name = opened.content.source.name
    try:
        reader = Reader(opened.file, opened.stream, name)
        version = str(root_attributes(reader)["engine_version"])
        theirs = read_sites(reader, "normalised", None)
        tree = read_logic_tree(reader, version, read_parameters(reader))
        weights, fault = read_weights(reader)
    finally:
        opened.close()
    if tree is not None:
        count = tree.count() if weights is None else len(weights)
        if len(theirs) != len(sites):
            reason = f"it has {len(theirs)} sites, this calculation {len(sites)}"
        elif not _same_places(theirs, sites):
            reason = "its sites lie elsewhere"
        elif n_stored is not None and n_stored != count:
            reason = f"it has {count} realisations, this calculation {n_stored}"
        else:
            return tree, weights, fault
    else:
        reason = "it holds no logic tree either"
    raise NotStorableError(f"{name} is not its parent: {reason}; name the right file, or none", source=source)


def _same_places(ours: Sites, theirs: Sites) -> bool:
    return bool(
        np.allclose(ours.lon, theirs.lon, rtol=0, atol=POSITION_TOLERANCE_DEGREES)
        and np.allclose(ours.lat, theirs.lat, rtol=0, atol=POSITION_TOLERANCE_DEGREES)
    )
