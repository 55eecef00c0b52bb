"""The item by which V2 readers find a calculation, and what of a meta fits into it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from hazard_store.meta import Meta
from hazard_store.settings import Settings
from hazard_store.storage.faults import translated
from hazard_store.storage.models import V2Meta, bind

# What a V2 meta's item may hold before attributes are left out, biggest and least asked for first.
MAX_ITEM_BYTES = 395_000
_DROP_ORDER = ("rlz_lt", "src_lt", "gsim_lt", "locs")

# The vs30 of a V2 meta whose sites differ: readers filter on one number, and no single site's would be true of all.
SITE_SPECIFIC_VS30 = 0.0


def write_v2_meta(meta: Meta, settings: Settings) -> list[str]:
    """Write the item by which V2 readers find a calculation; only a complete one may have it.

    Returns
    -------
    list of str
        Names of the attributes that were left out because the item would have exceeded 400 KB. The whole meta
        stands in our own table.
    """
    model = bind(V2Meta, settings)
    attributes, left_out = v2_large_attributes(meta)
    vs30 = v2_vs30(meta)
    with translated(settings, model.Meta.table_name):
        key = (model().partition_key, f"{meta.haz_sol_id}:{v2_number(vs30)}")
        delete_v2_meta(meta.haz_sol_id, settings)
        model(
            *key,
            updated=datetime.now(tz=UTC),
            haz_sol_id=meta.haz_sol_id,
            vs30=vs30,
            imts=set(meta.imtls),
            aggs=set(meta.kinds("stats")) or None,
            inv_time=meta.document["investigation_time"],
            **attributes,
            # Without the condition that there is none: a write that is sent again would meet itself.
        ).save(add_version_condition=False)
    return left_out


def v2_large_attributes(meta: Meta) -> tuple[dict[str, Any], list[str]]:
    """Give the attributes of a V2 meta that grow with the calculation, and the names of those that do not fit."""
    tree = meta.document["logic_tree"] or {}
    attributes: dict[str, Any] = {
        "locs": set(meta.codes),
        # JSONAttribute on top of DataFrame.to_json(): the V2 tables hold the text as a JSON string.
        "src_lt": _frame_text(tree.get("sources")),
        "gsim_lt": _frame_text(tree.get("gsims")),
        "rlz_lt": _frame_text(tree.get("realisations")),
    }
    sizes = {
        name: sum(len(code.encode()) for code in value) if isinstance(value, set) else len(orjson.dumps(value))
        for name, value in attributes.items()
        if value is not None
    }
    left_out = []
    for name in _DROP_ORDER:
        # 8 KB are kept for the keys, the IMTs, the aggs and the rest, which are bounded.
        if sum(sizes.values()) > MAX_ITEM_BYTES - 8_192 and name in sizes:
            del sizes[name], attributes[name]
            left_out.append(name)
    return attributes, left_out


def delete_v2_meta(haz_sol_id: str, settings: Settings) -> int:
    """Delete a calculation's V2 meta, whatever its vs30; gives the number of items removed."""
    model = bind(V2Meta, settings)
    with translated(settings, model.Meta.table_name):
        items = list(
            model.query(
                model().partition_key,
                model.hazsol_vs30_rk.startswith(f"{haz_sol_id}:"),
                attributes_to_get=["partition_key", "hazsol_vs30_rk"],
                consistent_read=True,
            )
        )
        for item in items:
            # Not item.delete(): that would make the item's unread version a condition.
            model._get_connection().delete_item(item.partition_key, item.hazsol_vs30_rk)
    return len(items)


def v2_vs30(meta: Meta) -> float:
    """The one vs30 that a V2 meta carries: that of all sites, or 0 where they differ or have none."""
    values = set(meta.vs30.tolist())
    vs30 = values.pop() if len(values) == 1 else SITE_SPECIFIC_VS30
    return vs30 if np.isfinite(vs30) else SITE_SPECIFIC_VS30


def v2_number(number: float) -> str:
    """Write a number as it stands in V2 range keys: whole numbers without a fraction."""
    return f"{number:g}" if number == int(number) else repr(number)


def _frame_text(columns: dict[str, list[Any]] | None) -> str | None:
    # 60 MB and 0.3 s, which workers do not have to take: only the end of a store of V2 tables comes here.
    import pandas as pd

    return None if columns is None else pd.DataFrame(columns).to_json()
