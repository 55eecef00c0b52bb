"""Tables of a trial's own, beside those of a stage: made for a measurement, and dropped after it."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace

from hazard_store.errors import HazardStoreError, UsageError
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import MODELS, bind
from hazard_store.storage.tables import list_tables

_TRIAL_STAGE = re.compile(r".*-BENCH-[0-9a-f]{8}")

# A table that is still being made cannot be dropped; on demand, making one takes AWS some 10 to 20 s.
DROP_ATTEMPTS = 15
DROP_RETRY_SECS = 2.0


def trial_settings(settings: Settings, run_id: str) -> Settings:
    """Give the settings of a trial: those of the store, and a stage that no other run has.

    Parameters
    ----------
    run_id : str
        Hexadecimal; its last eight digits name the stage, so that whoever knows the run knows its tables.
    """
    return replace(settings, stage=f"{settings.stage}-BENCH-{run_id.replace('-', '')[-8:]}")


def drop_trial_tables(settings: Settings) -> list[str]:
    """Drop every table of a trial that is there, one after the other, whatever happens to the others.

    Returns
    -------
    list of str
        Names of the tables that are left, and cost money for what they hold.

    Raises
    ------
    UsageError
        If the stage is not that of a trial.
    """
    if not _TRIAL_STAGE.fullmatch(settings.stage):
        raise UsageError(f"{settings.stage} is not the stage of a trial: its tables are not dropped")
    left: list[str] = []
    for attempt in range(DROP_ATTEMPTS):
        if attempt:
            time.sleep(DROP_RETRY_SECS)
        left = _drop_once(settings)
        if not left:
            break
    return left


def _drop_once(settings: Settings) -> list[str]:
    names = [bind(model, settings).Meta.table_name for model in MODELS]
    with suppress(HazardStoreError):
        there = {table.name for table in list_tables(settings) if table.is_there}
        for model in MODELS:
            bound = bind(model, settings)
            if bound.Meta.table_name in there:
                with suppress(HazardStoreError), translated(settings, bound.Meta.table_name):
                    bound.delete_table()
        return [table.name for table in list_tables(settings) if table.is_there]
    # The store does not answer: any of them may be there.
    return names
