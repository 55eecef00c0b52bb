import re
from pathlib import Path

import pytest

from hazard_store.errors import UsageError
from hazard_store.names import haz_sol_id_from_text, rlz_to_text
from hazard_store.settings import Settings
from hazard_store.storage.metrics import Metrics
from hazard_store.storage.rate import WcuBudget


def test_defaults() -> None:
    assert Settings.from_environment({}) == Settings(None, "LOCAL", "us-east-1", None)


def test_new_names_win_over_the_older_ones() -> None:
    environ = {
        "HAZARD_STORE_ENDPOINT": "http://localhost:8000",
        "HAZARD_STORE_STAGE": "test",
        "NZSHM22_HAZARD_STORE_STAGE": "old",
        "NZSHM22_HAZARD_STORE_REGION": "ap-southeast-2",
        "NZSHM22_HAZARD_STORE_NUM_WORKERS": "4",
    }
    assert Settings.from_environment(environ) == Settings("http://localhost:8000", "test", "ap-southeast-2", 4)
    del environ["HAZARD_STORE_STAGE"]
    assert Settings.from_environment(environ).stage == "OLD"


@pytest.mark.parametrize(
    "environ",
    [
        {"HAZARD_STORE_WORKERS": "0"},
        {"HAZARD_STORE_WORKERS": "many"},
        {"HAZARD_STORE_REGION": "us_east"},
        *(
            {"HAZARD_STORE_ENDPOINT": url}
            for url in ("localhost", "http://", "http://h:abc", "http://h:99999", "http://h:0")
        ),
    ],
)
def test_bad_values_are_refused_by_name(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(environ))):
        Settings.from_environment(environ)


@pytest.mark.parametrize("text", ["", "a:b", "a#b", "a b", "-a", "a\n", "ä", "a" * 201, 'a"', "a|b", "a`b"])
def test_ids_that_keys_or_shells_would_trip_over_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="reserve"):
        haz_sol_id_from_text(text)


@pytest.mark.parametrize("text", ["DEMO", "T3BlbnF1YWtlOjEwMA==", "a/b_c.d-1"])
def test_ids_of_the_team_pass(text: str) -> None:
    assert haz_sol_id_from_text(text) == text


def test_ordinals_have_five_digits_or_more() -> None:
    assert [rlz_to_text(n) for n in (0, 42, 123_456)] == ["00000", "00042", "123456"]


def test_a_budget_lets_no_more_through_than_its_rate() -> None:
    now = 0.0

    def sleep(secs: float) -> None:
        nonlocal now
        now += secs

    budget = WcuBudget(100, clock=lambda: now, sleep=sleep)
    for _ in range(50):
        budget.take(lambda: 10)
    assert now == pytest.approx(4.9)


def test_metrics_add_up() -> None:
    a, b = Metrics(items=1, wcu=2, seconds=1), Metrics(items=2, wcu=4, seconds=1)
    for metrics, latencies in ((a, [0.001] * 9), (b, [0.1])):
        for latency in latencies:
            metrics.observe_latency(latency)
    a.add(b)
    assert (a.items, a.wcu, a.items_per_sec) == (3, 6, 1.5)
    assert 0.001 <= a.latency_secs(0.5) < 0.0012
    assert 0.1 <= a.latency_secs(0.95) < 0.12
    assert Metrics().latency_secs(0.5) == 0.0


def test_every_variable_is_told_to_its_user() -> None:
    root = Path(__file__).parents[2]
    files = [path for room in ("hazard_store", "flows", "tasks", "deployments") for path in (root / room).rglob("*.py")]
    # What ends in an underscore is the beginning of several names.
    used = set(re.findall(r"(?<!NZSHM22_)HAZARD_STORE_[A-Z0-9_]*[A-Z0-9]\b", "\n".join(p.read_text() for p in files)))
    told = "\n".join(path.read_text() for path in (root / "README.md", *(root / "docs").glob("*.md")))
    assert "HAZARD_STORE_DEBUG" in used
    assert {name for name in used if name not in told} == set()
