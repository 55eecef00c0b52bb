"""The reading room: OpenQuake datastores in, sites, levels, realisations and blocks of curves out.

The only public way in is `open_calculation`. Nothing here knows of DynamoDB, and nothing here uses the engine.
"""

from hazard_store.oq.calculation import Calculation, open_calculation
from hazard_store.oq.logic_tree import LogicTreeTables, Realisation
from hazard_store.oq.sites import Sites

__all__ = ["Calculation", "LogicTreeTables", "Realisation", "Sites", "open_calculation"]
