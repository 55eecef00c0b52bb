"""Loads OpenQuake hazard curves into DynamoDB, and reads them back.

>>> import hazard_store
>>> calculation = hazard_store.open_calculation("calc_1.hdf5")  # doctest: +SKIP
>>> hazard_store.query.curves("MY-ID", sites=["WLG"], imts=["PGA"])  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hazard_store import query
    from hazard_store.errors import HazardStoreError
    from hazard_store.jobs import StoreReport, StoreRequest
    from hazard_store.layouts import Layout, layout_from_names
    from hazard_store.oq import Calculation, open_calculation
    from hazard_store.settings import Settings
    from hazard_store.storing import store_in_process

    __version__: str

__all__ = [
    "Calculation",
    "HazardStoreError",
    "Layout",
    "Settings",
    "StoreReport",
    "StoreRequest",
    "layout_from_names",
    "open_calculation",
    "query",
    "store_in_process",
]

# Loaded when first asked for (PEP 562): pandas and botocore take most of a second, which `hazard-store --help` and a
# worker that only writes need not wait for.
_HOME_OF = {
    "Calculation": "hazard_store.oq",
    "HazardStoreError": "hazard_store.errors",
    "Layout": "hazard_store.layouts",
    "Settings": "hazard_store.settings",
    "StoreReport": "hazard_store.jobs",
    "StoreRequest": "hazard_store.jobs",
    "layout_from_names": "hazard_store.layouts",
    "open_calculation": "hazard_store.oq",
    "store_in_process": "hazard_store.storing",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for an attribute

    def __getattr__(name):
        """Load a public name at its first use."""
        if name == "query":
            return import_module("hazard_store.query")
        if name == "__version__":
            value = import_module("importlib.metadata").version("hazard-store")
        elif name in _HOME_OF:
            value = getattr(import_module(_HOME_OF[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value
