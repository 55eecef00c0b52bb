"""pynamodb models of every table.

The classes here are templates without a table name: stage, region and endpoint belong to a run, not to a class. Give
one its table with ``bind(Model, settings)``; the class it returns is an ordinary pynamodb model.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from pynamodb.attributes import (
    Attribute,
    BinaryAttribute,
    BooleanAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
    UTCDateTimeAttribute,
    VersionAttribute,
)
from pynamodb.constants import NUMBER, PAY_PER_REQUEST_BILLING_MODE
from pynamodb.models import Model

from hazard_store.settings import Settings
from hazard_store.storage.connection import PatientClient
from hazard_store.storage.faults import RetryPolicy


class EpochSecondsAttribute(Attribute[datetime]):
    """A moment as whole seconds since 1970, as the V2 tables store ``created``."""

    attr_type = NUMBER

    def serialize(self, value: datetime) -> str:
        """``datetime`` to N."""
        return str(int(value.timestamp()))

    def deserialize(self, value: str) -> datetime:
        """N to an aware ``datetime`` in UTC."""
        return datetime.fromtimestamp(int(value), tz=UTC)


class ImtValues(MapAttribute[str, Any]):
    """One IMT of a `list` item: its levels and the poes at them."""

    imt = UnicodeAttribute()
    lvls: ListAttribute[Any] = ListAttribute(of=NumberAttribute)
    vals: ListAttribute[Any] = ListAttribute(of=NumberAttribute)


class StoreModel(Model):
    """What the templates have in common: the table's name without the stage."""

    table_base: ClassVar[str]

    def put(self) -> float:
        """Write the item, whatever is there; gives the write units that it took."""
        arguments, named = self._get_save_args(add_version_condition=False)
        answer: Any = self._get_connection().put_item(*arguments, **(named | {"return_consumed_capacity": "TOTAL"}))
        return float(answer["ConsumedCapacity"]["CapacityUnits"])


class V2Meta(StoreModel):
    """A calculation, as V2 readers find it; written when the calculation is complete."""

    table_base = "ToshiOpenquakeHazardMeta"

    partition_key = UnicodeAttribute(hash_key=True, default="ToshiOpenquakeHazardMeta")
    hazsol_vs30_rk = UnicodeAttribute(range_key=True)
    updated = UTCDateTimeAttribute()
    version = VersionAttribute()
    haz_sol_id = UnicodeAttribute()
    vs30 = NumberAttribute()
    imts = UnicodeSetAttribute()
    locs = UnicodeSetAttribute(null=True)
    srcs = UnicodeSetAttribute(null=True)
    aggs = UnicodeSetAttribute(null=True)
    inv_time = NumberAttribute(null=True)
    src_lt = JSONAttribute(null=True)
    gsim_lt = JSONAttribute(null=True)
    rlz_lt = JSONAttribute(null=True)


class _ListCurve(StoreModel):
    loc = UnicodeAttribute()
    lat = NumberAttribute()
    lon = NumberAttribute()
    created = EpochSecondsAttribute()
    values: ListAttribute[Any] = ListAttribute(of=ImtValues)
    version = VersionAttribute()


class V2Stats(_ListCurve):
    """`list` + `solution`, statistics."""

    table_base = "ToshiOpenquakeHazardCurveStatsV2"

    haz_sol_id = UnicodeAttribute(hash_key=True)
    loc_agg_rk = UnicodeAttribute(range_key=True)
    agg = UnicodeAttribute()


class V2Rlzs(_ListCurve):
    """`list` + `solution`, realisations."""

    table_base = "ToshiOpenquakeHazardCurveRlzsV2"

    haz_sol_id = UnicodeAttribute(hash_key=True)
    loc_rlz_rk = UnicodeAttribute(range_key=True)
    rlz = UnicodeAttribute()


class ListStatsByLocation(_ListCurve):
    """`list` + `location`, statistics."""

    table_base = "HazardStoreListStatsByLocation"

    location_bin = UnicodeAttribute(hash_key=True)
    loc_sol_agg_rk = UnicodeAttribute(range_key=True)
    haz_sol_id = UnicodeAttribute()
    agg = UnicodeAttribute()


class ListRlzsByLocation(_ListCurve):
    """`list` + `location`, realisations."""

    table_base = "HazardStoreListRlzsByLocation"

    location_bin = UnicodeAttribute(hash_key=True)
    loc_sol_rlz_rk = UnicodeAttribute(range_key=True)
    haz_sol_id = UnicodeAttribute()
    rlz = UnicodeAttribute()


class _PackedCurve(StoreModel):
    # Short names, for they count as bytes of every item.
    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    poes = BinaryAttribute(legacy_encoding=False)


class PackedStats(_PackedCurve):
    """`packed` + `solution`, statistics."""

    table_base = "HazardStorePackedStats"


class PackedRlzs(_PackedCurve):
    """`packed` + `solution`, realisations."""

    table_base = "HazardStorePackedRlzs"


class PackedStatsByLocation(_PackedCurve):
    """`packed` + `location`, statistics."""

    table_base = "HazardStorePackedStatsByLocation"


class PackedRlzsByLocation(_PackedCurve):
    """`packed` + `location`, realisations."""

    table_base = "HazardStorePackedRlzsByLocation"


class CalculationMeta(StoreModel):
    """A calculation's meta in any layout, whole: a head item, and segments where it is large."""

    table_base = "HazardStoreMeta"

    haz_sol_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)  # `{layout}` for the head, `{layout}#{generation}#{number}` for segments
    complete = BooleanAttribute(null=True)
    parts = UnicodeSetAttribute(null=True)
    generation = UnicodeAttribute(null=True)
    segments = NumberAttribute(null=True)
    payload = BinaryAttribute(legacy_encoding=False, null=True)


class LedgerEntry(StoreModel):
    """What has been stored: one item a chunk and one a calculation, each a JSON document."""

    table_base = "HazardStoreLedger"

    haz_sol_id = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)  # `{layout}#calculation` or `{layout}#chunk#{chunk id}`
    status = UnicodeAttribute()
    fingerprint = UnicodeAttribute()
    record = JSONAttribute()
    attempt = UnicodeAttribute(null=True)  # of a chunk: which attempt of which run wrote this


MODELS: tuple[type[StoreModel], ...] = (
    V2Meta,
    V2Stats,
    V2Rlzs,
    ListStatsByLocation,
    ListRlzsByLocation,
    PackedStats,
    PackedRlzs,
    PackedStatsByLocation,
    PackedRlzsByLocation,
    CalculationMeta,
    LedgerEntry,
)

M = TypeVar("M", bound=StoreModel)


def table_name(base: str, settings: Settings) -> str:
    """``HazardStoreMeta`` at stage ``LOCAL`` is ``HazardStoreMeta-LOCAL``."""
    return f"{base}-{settings.stage}"


@lru_cache(maxsize=256)
def bind(
    model: type[M], settings: Settings, policy: RetryPolicy | None = None, timeout_secs: float | None = None
) -> type[M]:
    """Give a template its table: a model class of `settings`' stage, region and endpoint.

    Parameters
    ----------
    policy, timeout_secs
        How long its requests are sent again, and how long each waits: as ``PatientClient``.
    """
    meta = type(
        "Meta",
        (),
        {
            "table_name": table_name(model.table_base, settings),
            "region": settings.region,
            "host": settings.endpoint,
            "billing_mode": PAY_PER_REQUEST_BILLING_MODE,
        },
    )
    bound: type[M] = type(model.__name__, (model,), {"Meta": meta, "__module__": model.__module__})
    # pynamodb gives every model class a botocore client of its own; ten of them take seconds to make.
    bound._get_connection().connection._client = PatientClient(settings, timeout_secs, policy)  # type: ignore[assignment]
    return bound
