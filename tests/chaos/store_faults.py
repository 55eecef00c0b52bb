"""Faults of the store, by the proxy: under load, alone and mixed, and those that do not pass."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.limited_dynamodb import LimitedDynamoDb
from benchmarks.limited_dynamodb.faults import KINDS
from hazard_store import lease, planning, storing
from hazard_store.jobs import StoreReport, StoreRequest
from hazard_store.layouts import LAYOUTS
from hazard_store.settings import Settings
from hazard_store.storage import connection, reader, sender
from hazard_store.storage.models import PackedRlzs, bind, table_name
from hazard_store.storage.tables import create_tables
from hazard_store.verification import verify
from tests.chaos.arena import Arena, until
from tests.chaos.report import Row

LASTING = ("table_deleted", "credentials_expired", "gone")
PASSING = tuple(name for name in KINDS if name not in LASTING)
# Throttled stores are slow, as they should be, and silent ones wait.
SITES_OF = {name: 60 for name in PASSING if name.startswith(("throttled", "timeout"))}
RATE = 0.3
GONE_SECS = 60.0
# A store in the middle of which something happens: after the statistics and some realisations.
MIDDLE_SITES, MIDDLE_WCU, MIDDLE_ITEMS = 100, 500, 700
# From the moment at which a store cannot go on to the end of its run.
AT_ONCE_SECS = 10.0


@contextmanager
def small_requests() -> Iterator[None]:
    """Many small requests, so that few items meet many faults, and clients that do not wait long for silent ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sender, "MAX_BATCH_ITEMS", 2)
        patch.setattr(reader, "FIRST_PAGE_ITEMS", 20)
        patch.setattr(reader, "MAX_PAGE_ITEMS", 20)
        patch.setattr(planning, "ITEMS_PER_CHUNK", 600)
        patch.setattr(connection, "READ_TIMEOUT_SECS", 0.5)
        patch.setattr(connection, "MODEL_READ_TIMEOUT_SECS", 0.5)
        patch.setattr(lease, "LEASE_TIMEOUT_SECS", 0.5)
        patch.setattr(storing, "CHUNK_RETRY_DELAYS_SECS", (0.05, 0.2))
        yield


def passing_faults(
    arena: Arena, row: Row, faults: Mapping[str, float], n_sites: int, layout_name: str = "packed+solution"
) -> None:
    """Store and read back while requests of all kinds fail; what a run could not store, the next one does."""
    encoding, partition = layout_name.split("+")
    request = StoreRequest(str(arena.calculation(n_sites)), arena.new_id(), encoding=encoding, partition=partition)
    with small_requests(), arena.proxy() as proxy:
        settings = arena.behind(proxy)
        proxy.set_faults(**faults)
        until(lambda: not arena.store(row, request, settings).failed, "a store under faults")
        arena.audit(row, request, settings)
        row.faults += sum(proxy.counts()["faults"].values())
    arena.audit(row, request)


def mixed(rate: float = RATE) -> dict[str, float]:
    """All faults that pass, in equal shares."""
    return dict.fromkeys(PASSING, rate / len(PASSING))


class _Running:
    """A store in a thread of its own, so that something can happen to it."""

    def __init__(self, arena: Arena, row: Row, request: StoreRequest, settings: Settings) -> None:
        self._reports: list[StoreReport | Exception] = []
        self.ended_at = float("inf")

        def run() -> None:
            try:
                self._reports.append(arena.store(row, request, settings))
            except Exception as exc:
                self._reports.append(exc)
            self.ended_at = time.monotonic()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait_for_items(self, proxy: LimitedDynamoDb, items: int) -> None:
        until(lambda: proxy.counts()["items"] >= items or not self._thread.is_alive(), f"{items} items")

    def end(self, timeout_secs: float = 300.0) -> StoreReport:
        self._thread.join(timeout_secs)
        if not self._reports:
            raise TimeoutError(f"the store did not end within {timeout_secs:g} s")
        (outcome,) = self._reports
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def gone_for_a_minute(arena: Arena, row: Row) -> None:
    """The port is closed for 60 s in the middle of a store, with all timeouts as they are."""
    request = StoreRequest(str(arena.calculation(200)), arena.new_id(), max_wcu=600)
    with arena.proxy() as proxy:
        running = _Running(arena, row, request, arena.behind(proxy))
        running.wait_for_items(proxy, 800)
        proxy.set_faults(gone={"for_secs": GONE_SECS})
        report = running.end()
        row.expect(report.complete, f"a store gone for {GONE_SECS:g} s ended a run: {failures(report)}")
        row.faults += proxy.counts()["faults"].get("gone", 0)
    arena.audit(row, request)


def table_deleted(arena: Arena, row: Row) -> None:
    """A table is deleted in the middle: the run fails at once and says so, and the next one stores all anew."""
    own = replace(arena.direct, stage=arena.new_id().replace("-", ""))
    create_tables(own)
    request = StoreRequest(str(arena.calculation(MIDDLE_SITES)), arena.new_id(), max_wcu=MIDDLE_WCU)
    with small_requests(), arena.proxy() as proxy:
        settings = replace(own, endpoint=proxy.endpoint)
        running = _Running(arena, row, request, settings)
        running.wait_for_items(proxy, MIDDLE_ITEMS)
        bind(PackedRlzs, own).delete_table()
        deleted = time.monotonic()
        report = running.end()
        row.faults += 1
        row.expect(running.ended_at - deleted < AT_ONCE_SECS, f"it took {running.ended_at - deleted:.1f} s to fail")
        name = table_name(PackedRlzs.table_base, own)
        _expect_named(row, report, f"table {name} does not exist")
        create_tables(own)
        row.expect(arena.store(row, request, settings).complete, "the same command did not mend a deleted table")
    row.audit(verify(request.source, request.haz_sol_id, settings=own))


def credentials_renewed(arena: Arena, row: Row, by: str) -> None:
    """Credentials are refused in the middle, and their source has new ones: the run goes on."""
    keys = arena.home / f"keys-{by}"
    profile = arena.home / f"profile-{by}"

    def give(access_key: str) -> None:
        if by == "process":
            keys.write_text(
                f'{{"Version": 1, "AccessKeyId": "{access_key}", "SecretAccessKey": "s", "SessionToken": "t"}}'
            )
        else:
            _replace(
                profile,
                f"[chaos]\naws_access_key_id = {access_key}\naws_secret_access_key = s\naws_session_token = t\n",
            )

    if by == "process":
        program = f"{sys.executable} -c \"print(open('{keys}').read())\""
        _replace(profile, f"[profile chaos]\ncredential_process = {program}\n")
    give("OLD")
    variable = "AWS_CONFIG_FILE" if by == "process" else "AWS_SHARED_CREDENTIALS_FILE"
    with _credentials(AWS_PROFILE="chaos", **{variable: str(profile)}):
        report, proxy_faults, request = _expire(arena, row, lambda: give("NEW"))
    row.faults += proxy_faults
    row.expect(report.complete, f"credentials were there and not taken: {failures(report)}")
    arena.audit(row, request)


def credentials_gone(arena: Arena, row: Row) -> None:
    """Credentials are refused in the middle and there are no others: the run fails at once and says so."""
    with _credentials(AWS_ACCESS_KEY_ID="OLD", AWS_SECRET_ACCESS_KEY="s"):
        report, proxy_faults, request = _expire(arena, row, lambda: None)
    row.faults += proxy_faults
    _expect_named(row, report, "AWS credentials are missing or refused")
    row.expect(arena.store(row, request, arena.direct).complete, "the same command did not end what is left")
    arena.audit(row, request)


def _expire(arena: Arena, row: Row, renew: Callable[[], None]) -> tuple[StoreReport, int, StoreRequest]:
    request = StoreRequest(str(arena.calculation(MIDDLE_SITES)), arena.new_id(), max_wcu=MIDDLE_WCU)
    with small_requests(), arena.proxy() as proxy:
        running = _Running(arena, row, request, arena.behind(proxy))
        running.wait_for_items(proxy, MIDDLE_ITEMS)
        renew()
        proxy.set_faults(credentials_expired={"access_keys": "OLD"})
        expired = time.monotonic()
        report = running.end()
        if report.failed:
            took = running.ended_at - expired
            row.expect(took < AT_ONCE_SECS, f"it took {took:.1f} s to fail")
        return report, proxy.counts()["faults"].get("credentials_expired", 0), request


@contextmanager
def _credentials(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.delenv(name)
        for name, value in variables.items():
            environment.setenv(name, value)
        yield


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def _expect_named(row: Row, report: StoreReport, why: str) -> None:
    row.expect(bool(report.failed) and not report.complete, "it should have failed")
    row.expect(any(why in str(one.error) for one in report.failed), f"not said clearly: {failures(report)}")


def failures(report: StoreReport) -> str:
    return "; ".join(f"{one.chunk_id}: {one.error}" for one in report.failed)[:500]


def scenarios() -> dict[str, Callable[[Arena, Row], Any]]:
    """All of them by name, the long ones first."""

    def alone(name: str) -> Callable[[Arena, Row], None]:
        return lambda arena, row: passing_faults(arena, row, {name: RATE}, SITES_OF.get(name, 120))

    def all_in(layout_name: str) -> Callable[[Arena, Row], None]:
        n_sites = 120 if layout_name.startswith("list") else 500
        return lambda arena, row: passing_faults(arena, row, mixed(), n_sites, layout_name)

    return {
        "gone for 60 s": gone_for_a_minute,
        **{f"mixed, {name}": all_in(name) for name in LAYOUTS},
        **{name: alone(name) for name in PASSING},
        "table deleted": table_deleted,
        "credentials renewed by credential_process": lambda arena, row: credentials_renewed(arena, row, "process"),
        "credentials renewed in the profile": lambda arena, row: credentials_renewed(arena, row, "profile"),
        "credentials expired": credentials_gone,
    }
