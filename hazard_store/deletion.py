"""Taking a calculation out of the store: it, whole, and nothing else.

What the tables hold is asked of the tables, never of the ledger, so that what a crash or another program left is found.
The order makes a delete that was killed one that is repeated:

1. the meta says incomplete and the V2 meta goes: readers stop;
2. the ledger forgets the chunks: a store that starts now skips nothing;
3. the items go;
4. the meta goes, which until here said in which bins the items are;
5. the ledger's record goes, by which an operator sees until here that something is left.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from hazard_store import meta as meta_room
from hazard_store import v2_fetching
from hazard_store.errors import CorruptItemError, LedgerError, NotStoredError, TableMissingError
from hazard_store.fetching import place_of
from hazard_store.layouts import LAYOUTS, Layout
from hazard_store.lease import held, lost_error
from hazard_store.ledger import META_CHUNK, CalculationRecord, Ledger, now_text
from hazard_store.meta import Meta
from hazard_store.names import CURVE_PARTS, require_stored_id
from hazard_store.removal import remove_items
from hazard_store.settings import Settings
from hazard_store.storage.models import CalculationMeta, table_name
from hazard_store.storage.reader import Reader
from hazard_store.stored import Place, StoredCurves
from hazard_store.v2_meta import delete_v2_meta

OnProgress = Callable[[int, int], None]
"""Takes the items deleted so far, and how many the ledger expects (0 if it does not know)."""


@dataclass(frozen=True)
class DeleteReport:
    """What was taken away.

    Attributes
    ----------
    layouts : tuple of str
        Layouts in which something was stored.
    items, meta_items, ledger_entries : int
    """

    haz_sol_id: str
    layouts: tuple[str, ...]
    items: int
    meta_items: int
    ledger_entries: int

    @property
    def summary(self) -> str:
        """One line: ``deleted MY-ID from packed+solution: 85 items, 1 meta item, 4 ledger entries``."""
        return (
            f"deleted {self.haz_sol_id} from {', '.join(self.layouts)}: {self.items:,} items, "
            f"{self.meta_items:,} meta items, {self.ledger_entries:,} ledger entries"
        )


@dataclass(frozen=True)
class _Found:
    """What there is of a calculation in one layout.

    Attributes
    ----------
    places : tuple of Place
        Its sites as far as a meta names them.
    entries : int
        How many chunks the ledger knows, the meta's among them.
    has_chunks : bool
        Whether the ledger knows a chunk of curves.
    """

    layout: Layout
    places: tuple[Place, ...]
    meta: Meta | None
    has_meta_items: bool
    has_v2_meta: bool
    record: CalculationRecord | None
    entries: int
    has_chunks: bool
    has_items: bool

    @property
    def bins(self) -> tuple[str, ...]:
        """Where else an earlier content's items may be."""
        return () if self.record is None else self.record.bins

    def __bool__(self) -> bool:
        known = self.record is not None or self.entries > 0
        return known or self.has_meta_items or self.has_v2_meta or self.has_items


def delete(
    haz_sol_id: str,
    *,
    layout: Layout | None = None,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
) -> DeleteReport:
    """Delete a calculation.

    Parameters
    ----------
    layout : Layout, optional
        Only there; by default in every layout that has anything of it.
    on_progress : callable, optional

    Raises
    ------
    NotStoredError
        If nothing is stored under the id.
    LeaseHeldError
        If a run is storing it.
    LedgerError
        If items stand in a `location` table and nothing is left that says in which bins; nothing was deleted then.
    UnacknowledgedError
        With the keys that DynamoDB did not delete before the deadline. Repeat the delete.
    LeaseLostError
        If a store took the lease over meanwhile: what is left is that store's. Repeat the delete when it has ended.
    """
    require_stored_id(haz_sol_id)
    settings = settings or Settings.from_environment()
    reader = Reader(settings)
    layouts = list(LAYOUTS.values()) if layout is None else [layout]
    # A layout whose own meta is gone has, as a rule, the sites of another one.
    metas = (_read_meta(haz_sol_id, each, settings) for each in LAYOUTS.values())
    known = next((_places(meta) for meta in metas if meta is not None), ())
    found = [one for each in layouts if (one := _find(haz_sol_id, each, known, reader, settings))]
    if not found:
        where = f" in {layout.name}" if layout else ""
        raise NotStoredError(
            f"nothing is stored under {haz_sol_id!r}{where} at stage {settings.stage}: "
            "`hazard-store status` lists what is"
        )
    for one in found:
        _require_places(haz_sol_id, one)
    expected = sum(one.record.items for one in found if one.record is not None)
    items = meta_items = entries = 0
    for seen in found:
        with _lease(haz_sol_id, seen.layout, settings) as check:
            # Once more: before the lease was held, another run may have stored, or deleted.
            one = _find(haz_sol_id, seen.layout, seen.places, reader, settings)
            _require_places(haz_sol_id, one)
            meta_items += _stop_readers(haz_sol_id, one, settings)
            check()
            entries += _forget_chunks(haz_sol_id, one, settings)
            for part in CURVE_PARTS:
                stored = StoredCurves(haz_sol_id, one.layout, part, settings, reader, one.bins)
                for deleted in remove_items(stored, stored.everything(one.places, keys_only=True)):
                    items += deleted
                    if on_progress is not None:
                        on_progress(items, expected)
                    check()
            check()
            if one.has_meta_items:
                meta_items += meta_room.delete_meta(haz_sol_id, one.layout, settings)
            check()
            if one.record is not None:
                entries += Ledger(settings).delete(haz_sol_id, one.layout)
    return DeleteReport(haz_sol_id, tuple(one.layout.name for one in found), items, meta_items, entries)


@contextmanager
def _lease(haz_sol_id: str, layout: Layout, settings: Settings) -> Iterator[Callable[[], None]]:
    """Keep stores out meanwhile; gives what raises `LeaseLostError` once one took the lease over."""
    with ExitStack() as stack:
        try:
            lost = stack.enter_context(held(haz_sol_id, layout, f"delete-{uuid.uuid4().hex[:12]}", settings))
        except TableMissingError:
            # Where no ledger is, no run of ours stores: these are an old program's items.
            lost = threading.Event()

        def check() -> None:
            if lost.is_set():
                raise lost_error(haz_sol_id)

        yield check


def _find(haz_sol_id: str, layout: Layout, known: tuple[Place, ...], reader: Reader, settings: Settings) -> _Found:
    meta = _read_meta(haz_sol_id, layout, settings)
    places = known if meta is None else _places(meta)
    ledger = Ledger(settings)
    record, chunk_ids, has_v2_meta, has_items = None, set[str](), False, False
    with suppress(TableMissingError):
        record = ledger.calculation(haz_sol_id, layout)
        chunk_ids = set(ledger.chunks(haz_sol_id, layout))
    with suppress(TableMissingError):
        has_v2_meta = layout.is_v2 and v2_fetching.find_calculation(haz_sol_id, settings) is not None
    for part in CURVE_PARTS:
        with suppress(TableMissingError):
            stored = StoredCurves(haz_sol_id, layout, part, settings, reader, () if record is None else record.bins)
            has_items = has_items or next(stored.everything(places, keys_only=True), None) is not None
    return _Found(
        layout=layout,
        places=places,
        meta=meta,
        has_meta_items=_has_meta_items(haz_sol_id, layout, settings, reader),
        has_v2_meta=has_v2_meta,
        record=record,
        entries=len(chunk_ids),
        has_chunks=bool(chunk_ids - {META_CHUNK}),
        has_items=has_items,
    )


def _read_meta(haz_sol_id: str, layout: Layout, settings: Settings) -> Meta | None:
    try:
        return meta_room.read_meta(haz_sol_id, settings, layout)
    except (NotStoredError, CorruptItemError, TableMissingError):
        return None


def _has_meta_items(haz_sol_id: str, layout: Layout, settings: Settings, reader: Reader) -> bool:
    """Whether any meta item of a layout is there, be it a segment that lost its head."""
    names = ("haz_sol_id", "entry")
    table = table_name(CalculationMeta.table_base, settings)
    with suppress(TableMissingError):
        items = reader.query(table, names, haz_sol_id, prefix=layout.name, attributes=names)
        return any(item["entry"]["S"].partition("#")[0] == layout.name for item in items)
    return False


def _places(meta: Meta) -> tuple[Place, ...]:
    return tuple(place_of(meta, site) for site in range(len(meta.codes)))


def _require_places(haz_sol_id: str, found: _Found) -> None:
    """Refuse to forget a calculation whose items are somewhere in a `location` table, nobody knows where."""
    if found.layout.is_by_bin and found.has_chunks and not found.places:
        source = f" from {found.record.source}" if found.record else ""
        raise LedgerError(
            f"the meta of {haz_sol_id!r} in {found.layout.name} is gone, and with it the bins in which its items are: "
            f"store it again{source} in this layout, then delete it"
        )


def _stop_readers(haz_sol_id: str, found: _Found, settings: Settings) -> int:
    """Say that the calculation is not whole any more; gives the number of V2 meta items removed."""
    if found.meta is not None:
        meta_room.mark_complete(haz_sol_id, found.layout, settings, complete=False)
    return delete_v2_meta(haz_sol_id, settings) if found.has_v2_meta else 0


def _forget_chunks(haz_sol_id: str, found: _Found, settings: Settings) -> int:
    """Let the ledger know of no stored chunk; gives the number of entries removed for good."""
    ledger = Ledger(settings)
    if found.entries:
        # Not the record, which until the end shows an operator that something is left, and where.
        ledger.delete_chunks(haz_sol_id, found.layout)
    if found.record is not None:
        ledger.save_calculation(replace(found.record, status="failed", items=0, updated=now_text()))
    return found.entries
