"""What the team had: pynamodb models with nested lists, one process, one `batch_write` after another."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from hazard_store.names import rlz_to_text
from hazard_store.oq import open_calculation
from hazard_store.settings import Settings
from hazard_store.storage.models import ImtValues, V2Rlzs, bind


def pynamodb_lists_curves_per_sec(path: Path, settings: Settings, n_curves: int) -> float:
    """Store `n_curves` realisation curves as pynamodb's documentation says, and give curves per second."""
    now = datetime.now(tz=UTC)
    model = bind(V2Rlzs, settings)
    with open_calculation(path) as calculation:
        n_rlzs = calculation.number_of("realisations")
        n_sites = -(-n_curves // n_rlzs)
        started = time.perf_counter()
        written = 0
        with model.batch_write() as batch:
            for site in range(n_sites):
                curves = calculation.read("realisations", site, site + 1)[0]
                for rlz, curve in enumerate(curves):
                    code, text = calculation.sites.codes[site], rlz_to_text(rlz)
                    values = [
                        ImtValues(imt=imt, lvls=levels.tolist(), vals=poes.tolist())
                        for (imt, levels), poes in zip(calculation.imtls.items(), curve, strict=True)
                    ]
                    batch.save(
                        model(
                            "BASELINE",
                            f"{code}:{text}",
                            loc=code,
                            rlz=text,
                            lat=float(calculation.sites.lat[site]),
                            lon=float(calculation.sites.lon[site]),
                            created=now,
                            values=values,
                        )
                    )
                    written += 1
        return written / (time.perf_counter() - started)
