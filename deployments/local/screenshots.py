"""The pictures of the documentation: ``python -m deployments.local.screenshots`` (`make screenshots`).

Starts services of its own in a temporary folder, stores calculations from the forms of the Prefect UI, one of them
through a database that refuses some writes, and photographs what a person sees into `docs/img`. A picture of another
page is one more function with `@picture`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from benchmarks.synthetic import write_calculation
from deployments.local.browser import HEIGHT, WIDTH, PrefectUi, open_ui
from deployments.local.prefect_worker import CHECKOUT, PrefectWorker, deploy_all
from flows.artifacts import slug
from hazard_store.errors import LocalServiceError
from hazard_store.local.dynamodb import LOCAL_CREDENTIALS, DynamoDbLocal
from hazard_store.local.prefect_server import PrefectServer
from hazard_store.settings import Settings
from hazard_store.storage.tables import create_tables
from tests.integration.fault_proxy import FaultProxy, fault_proxy

IMAGES = CHECKOUT / "docs" / "img"

# 16 items a site in chunks of 6,000: two of statistics and six of realisations, stored in half a minute.
SITES = 3_000
EARLIER_SITES = 600

EARLIER, STORED, FAILING = "NSHM-041", "NSHM-042", "NSHM-043"

# One realisation of one site: the chunk that holds it fails, as when the database refuses a write.
REFUSED = b"[-46.000~166.500]:00003"

STAGE = "PICTURES"

# A run waits for the one before it, in steps of 25 s, and a machine may have other work.
RUN_TIMEOUT_SECS = 600.0

# What the form's picture shows for the calculation's path, which is in a temporary folder.
SHOWN_SOURCE = "/data/openquake/calc_42.hdf5"

MIN_PERCENT = 30
"""Of the items stored, when the picture of a run under way is taken."""

SMALLER = 0.7

COLOURS = 256
"""Of a picture's palette: a page has fewer but for the edges of its letters, and the file is a third as large."""

_PROGRESS = re.compile(r"Progress: ([0-9.]+)%")


@dataclass(frozen=True)
class Scene:
    """What the pictures are taken of, and with."""

    ui: PrefectUi
    proxy: FaultProxy
    folder: Path
    run_pages: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The calculation of the pictures."""
        return str(self.folder / "calc_42.hdf5")

    def store(self, haz_sol_id: str, source: str) -> str:
        """Store a calculation from the form, and return how the run ended; its page stays open."""
        self.ui.open_form("store-hazard")
        self.ui.fill(source=source, haz_sol_id=haz_sol_id)
        self.ui.submit()
        return self.ui.end_of_run(RUN_TIMEOUT_SECS)


Picture = Callable[[Scene], None]
PICTURES: dict[str, Picture] = {}


def picture(take: Picture) -> Picture:
    """Register a function that brings the page to what `ui-{its name}.png` is to show; they run in this order."""
    PICTURES[take.__name__.replace("_", "-")] = take
    return take


@picture
def deployments(scene: Scene) -> None:
    """The list of deployments, after a run of one of them."""
    source = scene.folder / "calc_41.hdf5"
    write_calculation(source, EARLIER_SITES)
    scene.store(EARLIER, str(source))
    scene.ui.open_deployments()
    expect(scene.ui.page.get_by_role("link", name="store-hazard", exact=True)).to_be_visible()


@picture
def form(scene: Scene) -> None:
    """The form of store-hazard, filled in."""
    scene.ui.open_form("store-hazard")
    scene.ui.fill(source=SHOWN_SOURCE, haz_sol_id=STORED)
    to_top(scene.ui.page.get_by_role("heading", name="Parameters"))


@picture
def progress(scene: Scene) -> None:
    """The progress of a run under way."""
    write_calculation(Path(scene.source), SITES)
    scene.ui.fill(source=scene.source)
    scene.ui.submit()
    page = scene.ui.page
    run_page = page.url
    key = page.locator(f'a[href$="/artifacts/key/progress-{slug(STORED)}"]')
    while not key.is_visible():
        # The page of a run asks for its artifacts once.
        page.goto(f"{run_page.partition('?')[0]}?tab=Artifacts")
        page.wait_for_timeout(1000)
    scene.ui.open_artifact(f"progress-{slug(STORED)}")
    while percent(page) < MIN_PERCENT:
        page.wait_for_timeout(1000)
        page.reload()
    scene.run_pages[STORED] = run_page


@picture
def run(scene: Scene) -> None:
    """The page of a run that has ended: its tasks over time, and their list."""
    page = scene.ui.page
    page.goto(scene.run_pages[STORED])
    require(scene.ui.end_of_run(RUN_TIMEOUT_SECS), "Completed")
    page.reload()
    scene.ui.open_tab("Task Runs")
    expect(page.get_by_text("Completed", exact=True).nth(3)).to_be_visible()
    smaller(page)


@picture
def log(scene: Scene) -> None:
    """What the tasks of that run said, the last first."""
    page = scene.ui.page
    page.reload()
    shown = scene.ui.open_tab("Logs")
    page.get_by_role("combobox", name="log sort order").click()
    page.get_by_role("option", name="Newest to oldest").click()
    expect(shown.get_by_text("Finished in state Completed").first).to_be_visible()
    to_top(page.get_by_role("tablist"))


@picture
def throughput(scene: Scene) -> None:
    """The table of that run."""
    scene.ui.open_artifact("throughput-store-hazard")
    expect(scene.ui.page.get_by_text("State Message")).to_be_visible()
    smaller(scene.ui.page)


@picture
def summary(scene: Scene) -> None:
    """The summary of that run, and the run before it."""
    scene.ui.page.goto(scene.run_pages[STORED])
    expect(scene.ui.open_artifact("summary-store-hazard")).to_contain_text(EARLIER)
    expect(scene.ui.page.get_by_text("State Message")).to_be_visible()
    smaller(scene.ui.page)


@picture
def failed_run(scene: Scene) -> None:
    """The page of a run with a failed chunk."""
    scene.proxy.rule = lambda operation, body: (400, "ValidationException") if REFUSED in body else None
    require(scene.store(FAILING, scene.source), "Failed")
    scene.run_pages[FAILING] = scene.ui.page.url
    scene.ui.page.reload()
    expect(scene.ui.open_tab("Details")).to_contain_text("1 of 9 chunks failed")
    smaller(scene.ui.page)


@picture
def failed_chunks(scene: Scene) -> None:
    """What failed, and how to store it again."""
    scene.ui.open_artifact(f"failed-chunks-{slug(FAILING)}")
    expect(scene.ui.page.get_by_text("State Message")).to_be_attached()


def percent(page: Page) -> float:
    """Read the progress that an artifact's page shows."""
    shown = page.get_by_text(_PROGRESS).first
    match = _PROGRESS.search(shown.inner_text())
    assert match is not None, "the text was found by this pattern"
    return float(match.group(1))


def require(ended: str, wanted: str) -> None:
    """Take no picture of what did not go as it should."""
    if ended != wanted:
        raise LocalServiceError(f"a run ended {ended}, not {wanted}: `make up` and its worker's log tell why")


def to_top(element: Locator) -> None:
    """Scroll until this stands at the top."""
    element.evaluate("element => element.scrollIntoView({block: 'start'})")


def smaller(page: Page) -> None:
    """Make room for a wide table or a long list: the picture shows more, in smaller letters."""
    page.set_viewport_size({"width": round(WIDTH / SMALLER), "height": round(HEIGHT / SMALLER)})


def save(page: Page, path: Path) -> None:
    """Photograph the page once all that it loads is there."""
    page.wait_for_load_state("networkidle")
    # The notification that a run was scheduled stays for some seconds.
    expect(page.get_by_role("link", name="View run")).to_have_count(0)
    taken = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    if taken.size != (WIDTH, HEIGHT):
        taken = taken.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    taken.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(CHECKOUT)}: {path.stat().st_size / 1000:.0f} KB", flush=True)


def take_all(scene: Scene) -> None:
    """Take every picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, take in PICTURES.items():
        take(scene)
        save(scene.ui.page, IMAGES / f"ui-{name}.png")


def main() -> int:
    """Start the services, take the pictures, stop the services; return the exit code."""
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hazard-store-screenshots-")))
            database = stack.enter_context(DynamoDbLocal.start())
            proxy = stack.enter_context(fault_proxy(database.endpoint))
            server = stack.enter_context(PrefectServer.start(home=folder / "server"))
            variables = {"HAZARD_STORE_ENDPOINT": proxy.endpoint, "HAZARD_STORE_STAGE": STAGE, **LOCAL_CREDENTIALS}
            home = folder / "worker"
            stack.enter_context(PrefectWorker.start(api_url=server.api_url, home=home, variables=variables))
            deploy_all(server.api_url, home)
            os.environ.update(LOCAL_CREDENTIALS)
            create_tables(Settings(endpoint=proxy.endpoint, stage=STAGE))
            take_all(Scene(stack.enter_context(open_ui(server.ui_url)), proxy, folder))
    except LocalServiceError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
