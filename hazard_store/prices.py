"""What a write unit and an hour on Fargate cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hazard_store.errors import UsageError

# On-demand writes in us-east-1, standard table class; other regions and provisioned tables differ.
DEFAULT_USD_PER_MILLION_WCU = 0.625

VARIABLE = "HAZARD_STORE_USD_PER_MILLION_WCU"


@dataclass(frozen=True)
class FargatePrices:
    """Fargate's list prices in us-east-1, Linux on x86; docs/aws.md says of when, and has all other prices.

    Parameters
    ----------
    spot_share : float
        What Spot costs of the price on demand; the market moves it.
    usd_per_address_hour : float
        Of each task's public IPv4 address, which Spot does not make cheaper; 0 in private subnets.
    """

    usd_per_vcpu_hour: float = 0.04048
    usd_per_gb_hour: float = 0.004445
    spot_share: float = 0.3
    usd_per_address_hour: float = 0.005

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> FargatePrices:
        """Read ``HAZARD_STORE_FARGATE_USD_PER_VCPU_HOUR`` and its like.

        Raises
        ------
        UsageError
            If a variable does not hold a number of at least 0.
        """
        prefix = "HAZARD_STORE_FARGATE_"
        return cls(
            _number(environ, f"{prefix}USD_PER_VCPU_HOUR", cls.usd_per_vcpu_hour),
            _number(environ, f"{prefix}USD_PER_GB_HOUR", cls.usd_per_gb_hour),
            _number(environ, f"{prefix}SPOT_SHARE", cls.spot_share),
            _number(environ, f"{prefix}USD_PER_ADDRESS_HOUR", cls.usd_per_address_hour),
        )


def usd_per_million_wcu(environ: Mapping[str, str] = os.environ) -> float:
    """Give the price of a million write units: the environment's, or that of on-demand writes.

    Raises
    ------
    UsageError
        If the variable does not hold a number of at least 0.
    """
    return _number(environ, VARIABLE, DEFAULT_USD_PER_MILLION_WCU)


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise UsageError(f"{name} must be a price in USD such as {default:g}, not {text!r}")
    return price
