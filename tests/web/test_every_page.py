"""Every page that the application has: opened with data and without, light and dark, on a laptop and on a phone.

A page that is new must be entered in `EXAMPLES` if its address has parameters.
"""

import html
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from tests.api.conftest import PASSWORD
from tests.api.survey import CANDIDATE, FAILED_GROUP, HELD, Survey
from tests.web.browser import LAPTOP, PHONE, Visit

from dsa110_contimg.dashboard import app as dashboard
from dsa110_contimg.database import accounts, get_session
from dsa110_contimg.database.models import Role, TransientCandidate

MAX_BYTES = 300_000
EXAMPLES: dict[str, Callable[[Survey], str]] = {
    "/calibration/{table_id}": lambda survey: f"/calibration/{survey.caltable_id}",
    "/mosaics/{mosaic_id}": lambda survey: f"/mosaics/{survey.mosaic_id}",
    "/mosaics/{mosaic_id}/qa": lambda survey: f"/mosaics/{survey.held_id}/qa",
    "/publishing/{data_id}": lambda _: f"/publishing/{HELD}",
    "/queue/{group_id}": lambda _: f"/queue/{FAILED_GROUP}",
    "/sources/{source_id}": lambda _: f"/sources/{quote(CANDIDATE.name)}",
    "/tiles/{reference}": lambda survey: f"/tiles/{survey.image_id}",
    "/invitation/{secret}": lambda _: f"/invitation/{accounts.add_user('ada', Role.ADMIN)}",
}
"""An address of each page whose address has parameters."""
OF_ADMINS = {"/account", "/audit"}
NOT_PAGES = {"/sky/tiles/{data_id}/{part:path}"}
"""What pages load."""


def routes() -> list[str]:
    """Return the addresses of all pages, parameters in braces."""
    found = [route for router in (*dashboard.ROUTERS, *dashboard.OPEN_ROUTERS) for route in router.routes]
    gets = [route for route in found if isinstance(route, APIRoute) and "GET" in (route.methods or ())]
    return [route.path for route in gets if route.path not in NOT_PAGES]


def address_of(route: str, survey: Survey) -> str:
    return EXAMPLES[route](survey) if "{" in route else route


def name_of(route: str) -> str:
    return route.strip("/").replace("/", "_").replace("{", "").replace("}", "") or "home"


def look(visit: Visit, name: str) -> None:
    """Look at the open page in light and dark, wide and narrow."""
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme)
        visit.settle()
        visit.check_accessible()
        visit.photograph(f"{name}_{scheme}")
    visit.page.emulate_media(color_scheme="light")
    visit.page.set_viewport_size(PHONE)
    visit.settle()
    visit.check_fits()
    visit.photograph(f"{name}_phone")
    visit.page.set_viewport_size(LAPTOP)
    visit.check_fits()


def test_every_page_with_parameters_has_an_example() -> None:
    assert {route for route in routes() if "{" in route} == set(EXAMPLES)


@pytest.mark.parametrize("route", [route for route in routes() if route not in OF_ADMINS])
def test_a_page_with_data(visit: Visit, survey: Survey, route: str) -> None:
    visit.open(address_of(route, survey))
    visit.settle()
    assert visit.bytes_of_page() < MAX_BYTES
    look(visit, name_of(route))


@pytest.mark.parametrize("route", [route for route in routes() if route not in OF_ADMINS and "{" not in route])
def test_a_page_without_data(empty_visit: Visit, route: str) -> None:
    page = empty_visit.open(route)
    empty_visit.settle()
    look(empty_visit, name_of(route))
    assert page.locator("main").inner_text().strip()


def test_every_link_leads_somewhere(surveyed: TestClient, survey: Survey) -> None:
    with get_session("products") as session:
        session.query(TransientCandidate).update({"source_id": "DSA J000029.5+364200"})
    links: dict[str, str] = {}
    for page in (address_of(route, survey) for route in routes() if route not in OF_ADMINS):
        shown = surveyed.get(page, headers={"accept": "text/html"}).text
        links |= {html.unescape(link): page for link in re.findall(r'href="(/[^"#]*)', shown)}
    assert len(links) > 100
    answers = {link: surveyed.get(link, headers={"accept": "text/html"}).status_code for link in links}
    # The small survey lacks some files, and most of its nights have an image of a mosaic that nobody made.
    lacking = {link for link in links if "/api/" in link or (link.startswith("/tiles/") and "/sources/" in links[link])}
    broken = {link: links[link] for link, status in answers.items() if status >= 400 and link not in lacking}
    assert broken == {}


@pytest.mark.parametrize("route", sorted(OF_ADMINS))
def test_a_page_for_admins(visit: Visit, log_in: Callable[[Visit, str, str], None], route: str) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.ADMIN), PASSWORD)
    log_in(visit, "ada", PASSWORD)
    visit.open(route)
    look(visit, name_of(route))
