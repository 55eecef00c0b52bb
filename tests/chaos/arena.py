"""Where a scenario takes place: a database, a proxy with faults before it, calculations, and an audit."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.limited_dynamodb import LimitedDynamoDb, limited_dynamodb
from benchmarks.synthetic import write_calculation
from hazard_store.jobs import StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS, layout_from_names
from hazard_store.ledger import ChunkRecord, Ledger
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.names import ChunkId
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables
from hazard_store.storing import store_in_process
from hazard_store.verification import verify
from tests.chaos.report import Row

UNLIMITED = {"partition_wcu": 1e9, "table_wcu": 1e9}
STAGE = "CHAOS"
PACKED = LAYOUTS["packed+solution"]
CURVES_PER_SITE = 16
PATIENCE_SECS = 180.0


def until(condition: Callable[[], Any], what: str, timeout_secs: float = PATIENCE_SECS) -> Any:
    """Wait for what must come.

    Raises
    ------
    TimeoutError
        It did not.
    """
    deadline = time.monotonic() + timeout_secs
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {timeout_secs:g} s")
        time.sleep(0.05)
    return result


@dataclass
class Arena:
    """What all scenarios of a run share.

    Parameters
    ----------
    direct : Settings
        The database without a proxy.
    home : Path
        Takes calculations and logs.
    seed : int
    """

    direct: Settings
    home: Path
    seed: int

    @contextmanager
    def proxy(self, **options: Any) -> Iterator[LimitedDynamoDb]:
        with limited_dynamodb(self.direct.endpoint, **{"seed": self.seed} | UNLIMITED | options) as proxy:
            yield proxy

    def behind(self, proxy: LimitedDynamoDb) -> Settings:
        return replace(self.direct, endpoint=proxy.endpoint)

    def new_id(self) -> str:
        return f"CHAOS-{uuid.uuid4().hex[:8]}"

    def random(self, name: str) -> random.Random:
        """Give the same numbers for the same seed and scenario."""
        return random.Random(f"{self.seed} {name}")

    def calculation(self, n_sites: int) -> Path:
        """Give a calculation of 16 items a site, two IMTs x three levels."""
        path = self.home / f"calc_{n_sites}.hdf5"
        if not path.exists():
            # Others may want it at this moment.
            fresh = path.with_suffix(f".{uuid.uuid4().hex}")
            write_calculation(fresh, n_sites, n_imts=2, n_levels=3)
            with suppress(FileExistsError):
                path.hardlink_to(fresh)
        return path

    def chunks(self, request: StoreRequest) -> dict[ChunkId, ChunkRecord]:
        """What the ledger has, whatever the proxy does."""
        layout = layout_from_names(request.encoding, request.partition)
        return Ledger(self.direct).chunks(request.haz_sol_id, layout)

    def done(self, request: StoreRequest) -> dict[ChunkId, ChunkRecord]:
        return {chunk_id: record for chunk_id, record in self.chunks(request).items() if record.status == "done"}

    def audit(self, row: Row, request: StoreRequest, settings: Settings | None = None) -> None:
        """Compare every stored value with the file."""
        layout = layout_from_names(request.encoding, request.partition)
        row.audit(verify(request.source, request.haz_sol_id, layout=layout, settings=settings or self.direct))

    def store(self, row: Row, request: StoreRequest, settings: Settings) -> StoreReport:
        """Store in this process, and count how that ended."""
        row.runs += 1
        report = store_in_process(request, settings)
        if report.failed:
            row.endings["Failed, chunks named"] += 1
        else:
            row.endings["Completed"] += 1
            row.expect(report.complete, f"{request.haz_sol_id} ended Completed and is not complete")
        return report


class DoneChunks:
    """What was done stays as it was: done chunks are not stored again, however often their run dies."""

    def __init__(self, arena: Arena, request: StoreRequest) -> None:
        self._arena = arena
        self._request = request
        self._seen: dict[ChunkId, ChunkRecord] = {}

    def look(self) -> None:
        for chunk_id, record in self._arena.done(self._request).items():
            self._seen.setdefault(chunk_id, record)

    def count(self, row: Row) -> None:
        """Count those that were stored again since they were seen; the meta, one item, may be."""
        now = self._arena.chunks(self._request)
        again = [one for one, record in self._seen.items() if one != "meta" and now.get(one) != record]
        row.duplicated += len(again)
        row.expect(not again, f"done chunks were stored again: {again}")


@contextmanager
def own_arena(home: Path, seed: int) -> Iterator[Arena]:
    """An arena with a database of its own."""
    with DynamoDbLocal.start(max_heap_mb=768) as database, arena(home, seed, database.endpoint) as made:
        yield made


@contextmanager
def arena(home: Path, seed: int, endpoint: str) -> Iterator[Arena]:
    """A set of tables in a database, and an environment that points to nobody's account."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [one for one in os.environ if one.startswith(("AWS_", "HAZARD_STORE_", "NZSHM22_"))]:
            environment.delenv(name)
        for name, value in LOCAL_CREDENTIALS.items():
            environment.setenv(name, value)
        environment.setenv("AWS_CONFIG_FILE", str(home / "no-such-file"))
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-such-file"))
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        direct = Settings(endpoint=endpoint, stage=STAGE)
        create_tables(direct)
        yield Arena(direct, home, seed)
