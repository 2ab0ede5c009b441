import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.api import conftest as api_fixtures
from tests.api.serving import serving
from tests.api.survey import Survey
from tests.web.browser import CHROMIUM, Visit, chromium

from dsa110_contimg.dashboard.app import create_app

built_survey, survey = api_fixtures.built_survey, api_fixtures.survey
built_night, night = api_fixtures.built_night, api_fixtures.night
surveyed = api_fixtures.surveyed
installation, house, root = api_fixtures.installation, api_fixtures.house, api_fixtures.root
empty_databases = api_fixtures.empty_databases


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; not for longer than a module, since its loop of events is in the way of other tests' loops."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian's package chromium): its tests are left out")
    with chromium() as started:
        yield started


@pytest.fixture
def photographs() -> Path | None:
    """Where photographs are kept, if anybody wants them."""
    wanted = os.environ.get("CONTIMG_PHOTOGRAPHS")
    return Path(wanted) if wanted else None


@pytest.fixture
def visit(browser: Browser, survey: Survey, photographs: Path | None) -> Iterator[Visit]:
    """A tab at a server with the small survey; whatever goes wrong in it fails the test."""
    assert survey.root.is_dir()
    yield from visiting(browser, photographs)


@pytest.fixture
def empty_visit(browser: Browser, installation: Path, photographs: Path | None) -> Iterator[Visit]:
    """A tab at a server with empty databases."""
    assert installation.is_dir()
    yield from visiting(browser, None if photographs is None else photographs / "empty")


def visiting(browser: Browser, photographs: Path | None) -> Iterator[Visit]:
    with serving(create_app()) as address:
        tab = Visit(browser, address, photographs)
        try:
            yield tab
            tab.check_quiet()
        finally:
            tab.close()


@pytest.fixture
def log_in() -> Callable[[Visit, str, str], None]:
    """Log in through the page."""

    def do(tab: Visit, name: str, password: str) -> None:
        page = tab.open("/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{tab.address}/")

    return do
