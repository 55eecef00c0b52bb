"""What a write unit costs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from hazard_store.errors import UsageError

# On-demand writes in us-east-1, standard table class; other regions and provisioned tables differ.
DEFAULT_USD_PER_MILLION_WCU = 0.625

VARIABLE = "HAZARD_STORE_USD_PER_MILLION_WCU"


def usd_per_million_wcu(environ: Mapping[str, str] = os.environ) -> float:
    """Give the price of a million write units: the environment's, or that of on-demand writes.

    Raises
    ------
    UsageError
        If the variable does not hold a number of at least 0.
    """
    text = environ.get(VARIABLE)
    if not text:
        return DEFAULT_USD_PER_MILLION_WCU
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise UsageError(f"{VARIABLE} must be a price in USD such as 0.625, not {text!r}")
    return price
