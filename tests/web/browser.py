"""A real server and a real browser, and what may not happen between them.

`Visit` fails its test for: an error on the console, a request to another machine, an answer of 500 and above, a script
that throws, a policy that blocks something. What a test expects it takes out of `Visit.trouble` itself.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    ViewportSize,
    sync_playwright,
)

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).with_name("axe-4.10.3.min.js")
LAPTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
WAIT_S = 20.0
OF_VIEWER = re.compile(r"aladin|/view|/hips|/coverage")
SERIOUS = {"serious", "critical"}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium; as root it has no sandbox, and it speaks to nobody but the pages' server."""
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    gl = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*quiet, *gl])
        yield browser
        browser.close()


class Visit:
    """One tab of a browser at the server, with everything that went wrong in it."""

    def __init__(self, browser: Browser, address: str, photographs: Path | None) -> None:
        self.address, self.photographs = address, photographs
        self.context: BrowserContext = browser.new_context(viewport=LAPTOP, color_scheme="light", timezone_id="UTC")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT_S * 1000)
        self.trouble: list[str] = []
        self.page.on("console", self._told)
        self.page.on("pageerror", lambda error: self.trouble.append(f"script: {error}"))
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)

    def _told(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.trouble.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.trouble.append(f"request to elsewhere: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.trouble.append(f"{response.status} for {response.url}")

    def open(self, path: str, *, status: int = 200) -> Page:
        """Open a page of the server; its answer has a status, and an error page's own console line is expected."""
        answer = self.page.goto(self.address + path)
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"
        if status >= 400:
            told = (f"{status} for {self.address}{path}", "console: Failed to load resource")
            self.trouble = [each for each in self.trouble if not each.startswith(told)]
        return self.page

    def settle(self) -> None:
        """Wait until nothing is loaded any more; a stream of events may stay open."""
        self.page.wait_for_load_state("load")
        self.page.wait_for_timeout(150)

    def check_quiet(self) -> None:
        """Fail if anything went wrong so far."""
        assert self.trouble == []

    def check_accessible(self) -> None:
        """Fail if axe finds anything serious."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = self.page.evaluate("axe.run().then((found) => found.violations)")
        bad = [
            f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
            for one in found
            if one["impact"] in SERIOUS
            for node in one["nodes"][:3]
        ]
        assert bad == [], json.dumps(bad, indent=1)

    def check_fits(self) -> None:
        """Fail if the page must be scrolled sideways, or has not one title, one h1 and one main part."""
        wide: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, f"{self.page.url} is {wide} pixels too wide"
        assert self.page.title().strip(" ·") != "DSA-110 continuum"
        assert self.page.locator("h1").count() == 1
        assert self.page.locator("main").count() == 1

    def photograph(self, name: str) -> None:
        """Keep what the page looks like, if photographs are wanted."""
        if self.photographs is not None:
            self.photographs.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self.photographs / f"{name}.png", full_page=True)

    def bytes_of_page(self) -> int:
        """Return how many bytes the page and all that it loaded took, without the sky viewer and what that asks for."""
        loaded: list[tuple[str, int]] = self.page.evaluate(
            "performance.getEntries().filter((e) => e.transferSize !== undefined).map((e) => [e.name, e.transferSize])"
        )
        return sum(size for name, size in loaded if not OF_VIEWER.search(name))

    def close(self) -> None:
        """Close the tab."""
        self.context.close()
