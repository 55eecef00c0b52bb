"""Read what ``--encoding list`` wrote with a V2 program that was not written here, and compare every poe.

    python -m venv READER && READER/bin/pip install toshi-hazard-store==0.5.3
    hazard-store store tests/data/custom_ids.hdf5 --id V2 --encoding list --cluster none
    hazard-store get V2 --json > curves.jsonl
    READER/bin/python tests/conformance/v2_reader.py V2 curves.jsonl

It runs in that program's own environment (pynamodb 5), with ``HAZARD_STORE_ENDPOINT`` and the stage in
``NZSHM22_HAZARD_STORE_STAGE``. The program is a tool of this check alone: nothing of it is part of hazard-store.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import sys
from pathlib import Path

import pandas as pd
from toshi_hazard_store import model, query

TABLES = (model.ToshiOpenquakeHazardMeta, model.ToshiOpenquakeHazardCurveStatsV2, model.ToshiOpenquakeHazardCurveRlzsV2)


def bits(poe: float) -> bytes:
    return struct.pack("<f", poe)


def main() -> int:
    haz_sol_id, expected_path = sys.argv[1:]
    for table in TABLES:
        table.Meta.host = os.environ["HAZARD_STORE_ENDPOINT"]
    expected = {}
    for line in Path(expected_path).read_text().splitlines():
        row = json.loads(line)
        kind = row["agg"] if "agg" in row else f"{row['rlz']:05d}"
        expected[row["site"], kind, row["imt"]] = (row["levels"], [bits(poe) for poe in row["poes"]])
    found = {}
    with contextlib.redirect_stdout(io.StringIO()):  # the old program prints its queries
        stats = list(query.get_hazard_stats_curves_v2(haz_sol_id))
        rlzs = list(query.get_hazard_rlz_curves_v2(haz_sol_id))
        (meta,) = query.get_hazard_metadata([haz_sol_id])
    for kind_of, curves in ((lambda c: c.agg, stats), (lambda c: c.rlz, rlzs)):
        for curve in curves:
            for values in curve.values:
                found[curve.loc, kind_of(curve), values.imt] = (values.lvls, [bits(poe) for poe in values.vals])
    weights = pd.read_json(io.StringIO(meta.rlz_lt))["weight"]
    print(
        f"{len(found)} curves read, {len(expected)} expected, {len(weights)} weights adding up to {weights.sum():.6f}"
    )
    different = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    for key in different[:10]:
        print(f"DIFFERENT {key}: expected {expected.get(key)}, found {found.get(key)}")
    print("all equal" if not different else f"{len(different)} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
