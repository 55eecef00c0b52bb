"""The Prefect UI as a person has it, in a headless Chromium: pages opened by their links, forms filled by their labels.

::

    with open_ui(server.ui_url) as ui:
        ui.open_form("store-hazard")
        ui.fill(source="calc_12.hdf5", haz_sol_id="A")
        ui.submit()
        assert ui.end_of_run() == "Completed"

It is the default UI of Prefect 3.8 (under ``/v2``). All waiting is for what a person waits for: something on the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import Locator, Page, expect, sync_playwright

from deployments.local.chromium import ensure_chromium
from hazard_store.errors import LocalServiceError

WIDTH, HEIGHT = 1280, 800

# A page of the UI takes one or two seconds; 20 s were seen on a machine that had other work.
PAGE_TIMEOUT_SECS = 90.0

RUN_TIMEOUT_SECS = 180.0

_ENDS = re.compile("^(Completed|Failed|Crashed|Cancelled|TimedOut)$")
# A server whose database is busy asks for another time, which Prefect's own clients take for themselves.
_UNAVAILABLE, _SUBMITS = 503, 5
_MAKES_A_RUN = re.compile("/api/deployments/[^/]+/create_flow_run$")
_DEPLOYMENT_PAGE = re.compile(r"/deployments/deployment/[^/?]+(\?.*)?$")

# Of what pops up in a corner, each text once, in `window.notified`.
_REMEMBER_NOTIFICATIONS = """() => {
    const seen = window.notified = new Set();
    const look = () => document.querySelectorAll("[data-sonner-toast]").forEach(toast => seen.add(toast.innerText));
    new MutationObserver(look).observe(document.body, {childList: true, characterData: true, subtree: true});
}"""


@contextmanager
def open_ui(ui_url: str) -> Iterator[PrefectUi]:
    """Start a Chromium that reaches the UI and nothing else, with the UI's first page open.

    Raises
    ------
    LocalServiceError
        There is no Chromium, and none can be fetched.
    """
    chromium = ensure_chromium()
    host = urlsplit(ui_url).hostname
    arguments = [
        "--disable-gpu",
        "--disable-quic",
        "--no-proxy-server",
        # The page asks a service on the Internet for its analytics, whatever the server's settings.
        f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {host}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.program,
            args=arguments,
            env={**os.environ, **chromium.variables},
        )
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(1000 * PAGE_TIMEOUT_SECS)
            expect.set_options(timeout=1000 * PAGE_TIMEOUT_SECS)
            page.goto(ui_url)
            yield PrefectUi(page)
        finally:
            browser.close()


class PrefectUi:
    """What a person does in the UI; `page` is for what is done once only."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open_deployments(self) -> None:
        """Go to the list of deployments."""
        self.page.get_by_role("link", name="Deployments", exact=True).first.click()
        expect(self.page.get_by_role("table")).to_be_visible()

    def open_form(self, deployment: str) -> None:
        """Go to the form of a deployment by the way of its page: *Run*, *Custom run*."""
        self.open_deployments()
        self.page.get_by_role("link", name=deployment, exact=True).click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.wait_for_form()

    def wait_for_form(self) -> None:
        """Wait until a form can be filled in: its fields come after the rest of it, each with a menu of its own."""
        expect(self.page.get_by_role("button", name="Open menu").first).to_be_visible()
        expect(self.page.get_by_role("button", name="Submit")).to_be_enabled()

    def label(self, field: str) -> Locator:
        """The name above a field."""
        return self.page.locator("label").filter(has_text=_labelled(field))

    def field(self, field: str) -> Locator:
        """The text box of a parameter; of a list there are several, without a name of their own."""
        return self.page.get_by_role("textbox", name=_labelled(field))

    def values(self) -> list[str]:
        """Return what stands in all text boxes of the form, in its order."""
        return [box.input_value() for box in self.page.get_by_role("textbox").all()]

    def wait_for_value(self, text: str) -> None:
        """Wait until some text box holds this text: those of a list have no label to find them by."""
        holds = "text => [...document.querySelectorAll('input, textarea')].some(box => box.value === text)"
        self.page.wait_for_function(holds, arg=text)

    def fill(self, **texts: str) -> None:
        """Write into text boxes."""
        for field, text in texts.items():
            self.field(field).fill(text)
            expect(self.field(field)).to_have_value(text)

    def submit(self) -> None:
        """Submit the form, and go to the page of the run that it made.

        Raises
        ------
        LocalServiceError
            The server made none.
        """
        for _ in range(_SUBMITS):
            with self.page.expect_response(lambda answer: bool(_MAKES_A_RUN.search(answer.url))) as made:
                self.page.get_by_role("button", name="Submit").click()
            answer = made.value
            if answer.status != _UNAVAILABLE:
                break
        if not answer.ok:
            raise LocalServiceError(f"the form made no run: HTTP {answer.status}: {answer.text()}")
        # The notification that links to the run is gone after four seconds, and until it stands still to be clicked a
        # busy machine has taken as long. What stays is the page of the deployment, to which the form gives way.
        self.page.wait_for_url(_DEPLOYMENT_PAGE)
        self.page.goto(urljoin(self.page.url, f"/v2/runs/flow-run/{answer.json()['id']}"))
        expect(self.tab("Task Runs")).to_be_visible()

    def remember_notifications(self) -> None:
        """Keep what pops up on this page from now on: after four seconds it is gone, seen or not."""
        self.page.evaluate(_REMEMBER_NOTIFICATIONS)

    def wait_for_notification(self, text: str) -> None:
        """Wait until something with this text has popped up."""
        self.page.wait_for_function("text => [...window.notified].some(seen => seen.includes(text))", arg=text)

    def end_of_run(self, timeout_secs: float = RUN_TIMEOUT_SECS) -> str:
        """Wait on a run's page until it has ended; return its state as the page names it."""
        state = self.page.get_by_text(_ENDS).first
        state.wait_for(timeout=1000 * timeout_secs)
        return state.inner_text()

    def tab(self, name: str) -> Locator:
        """A tab of the page."""
        return self.page.get_by_role("tab", name=name, exact=True)

    def open_tab(self, name: str) -> Locator:
        """Go to a tab of a page; return what it shows."""
        self.tab(name).click()
        panel = self.page.get_by_role("tabpanel", name=name, exact=True)
        expect(panel).to_be_visible()
        return panel

    def open_artifact(self, key: str) -> Locator:
        """From the page of a run, go to what it left under a key; return what the page shows of it."""
        self.open_tab("Artifacts").locator(f'a[href$="/artifacts/key/{key}"]').click()
        # A key's page lists the artifact of every run, the newest first.
        self.page.locator('a[href*="/artifacts/artifact/"]').first.click()
        panel = self.page.get_by_role("tabpanel", name="Artifact", exact=True)
        expect(panel).to_be_visible()
        return panel


def table_rows(table: Locator) -> list[dict[str, str]]:
    """Read a table of the page: a row is its cells by the heads of their columns."""
    expect(table.get_by_role("cell").first).to_be_visible()
    heads = table.get_by_role("columnheader").all_inner_texts()
    rows = table.get_by_role("row").filter(has=table.page.get_by_role("cell")).all()
    return [dict(zip(heads, row.get_by_role("cell").all_inner_texts(), strict=True)) for row in rows]


def _labelled(field: str) -> re.Pattern[str]:
    return re.compile(rf"^{re.escape(field)}( \(Optional\))?$")
