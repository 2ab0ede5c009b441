"""What a person does: the keyboard alone, without JavaScript, the theme, logging in, and where nothing is."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser
from tests.api.conftest import PASSWORD
from tests.api.survey import SOURCES
from tests.web.browser import LAPTOP, Visit

from dsa110_contimg.dashboard.render import NAVIGATION
from dsa110_contimg.database import accounts
from dsa110_contimg.database.models import Role

LogIn = Callable[[Visit, str, str], None]


def focused(visit: Visit) -> str:
    told: str = visit.page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
    return told


def test_the_keyboard_reaches_every_page_and_skips_to_the_content(visit: Visit) -> None:
    page = visit.open("/sources")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert focused(visit) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    visit.open("/sources")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(len(NAVIGATION) + 4):
        page.keyboard.press("Tab")
        reached.append(focused(visit))
        ring: str = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none", f"{reached[-1]} has no visible focus"
    assert [name for _, name in NAVIGATION if name not in reached] == []


def test_a_link_of_the_navigation_opens_with_enter(visit: Visit) -> None:
    page = visit.open("/login")
    page.get_by_role("link", name="Sources").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{visit.address}/sources")
    assert page.get_by_role("link", name="Sources", exact=True).first.get_attribute("aria-current") == "page"


def test_the_theme_is_chosen_kept_and_does_not_flash(visit: Visit) -> None:
    page = visit.open("/login")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    button = page.locator("#theme")
    for expected in ("light", "dark"):
        button.click()
        assert button.get_attribute("aria-label") == f"Theme: {expected}"
    dark = page.evaluate(ground)
    assert dark != light
    visit.open("/sources")
    assert page.evaluate(ground) == dark
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_person_logs_in_makes_a_token_and_logs_out(visit: Visit, log_in: LogIn) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.OPERATOR), PASSWORD)
    log_in(visit, "ada", PASSWORD)
    page = visit.page
    page.get_by_role("link", name="ada").click()
    page.get_by_label("What it is for").fill("a report")
    page.keyboard.press("Enter")
    assert page.locator("pre").inner_text().startswith("contimg_")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke token 1").click()
    page.get_by_text("revoked").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{visit.address}/login")
    visit.open("/account", status=401)
    assert page.get_by_role("link", name="Log in").count() >= 1


def test_an_operator_writes_a_note_and_flags_a_source_by_keyboard(visit: Visit, log_in: LogIn) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.OPERATOR), PASSWORD)
    log_in(visit, "ada", PASSWORD)
    page = visit.open(f"/sources/{quote(SOURCES[0].name)}")
    page.locator("#lightcurve canvas").wait_for()
    page.get_by_label("Note on this source").fill("beside a sidelobe of 3C48")
    page.keyboard.press("Enter")
    page.get_by_role("list", name="Notes").get_by_text("ada: beside a sidelobe of 3C48").wait_for()
    page.get_by_label("Flag it as a candidate: why").fill("dips")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Dismiss").wait_for()
    visit.check_accessible()


def test_on_a_laptop_nothing_that_is_to_be_pressed_is_out_of_view(visit: Visit, log_in: LogIn) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.OPERATOR), PASSWORD)
    log_in(visit, "ada", PASSWORD)
    for address in ("/candidates", "/sources"):
        page = visit.open(address)
        hidden: int = page.locator(".table").evaluate("box => box.scrollWidth - box.clientWidth")
        assert hidden <= 0, f"{hidden} pixels of the table of {address} are out of view"
        header = page.locator(".top").bounding_box()
        assert header is not None
        assert header["height"] < 64, "the navigation has one line"


@pytest.mark.parametrize("address", ["/tiles", "/mosaics", "/"])
def test_a_gallery_shows_pictures_whole(visit: Visit, address: str) -> None:
    picture = visit.open(address).locator(".gallery img").first
    shape: list[float] = picture.evaluate("one => [one.clientWidth, one.clientHeight]")
    if address == "/tiles":
        assert shape[0] == pytest.approx(shape[1], abs=1)
    else:
        assert picture.evaluate("one => getComputedStyle(one).objectFit") == "contain"


def test_a_wrong_password_is_told_where_it_was_typed(visit: Visit) -> None:
    page = visit.open("/login")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("not the password")
    page.keyboard.press("Enter")
    assert "name or password is wrong" in page.get_by_role("alert").inner_text()
    visit.trouble = [each for each in visit.trouble if "401" not in each]


@pytest.mark.parametrize("address", [address for address, _ in NAVIGATION])
def test_pages_say_the_same_without_javascript(visit: Visit, browser: Browser, address: str) -> None:
    context = browser.new_context(viewport=LAPTOP, java_script_enabled=False)
    page = context.new_page()
    answer = page.goto(visit.address + address)
    assert answer is not None
    assert answer.status == 200
    assert page.locator("h1").is_visible()
    assert len(page.locator("main").inner_text()) > 40
    context.close()


def test_a_missing_database_is_a_page_that_says_so(empty_visit: Visit, installation: Path) -> None:
    (installation / "state" / "products.sqlite3").unlink()
    page = empty_visit.open("/sources", status=503)
    told = page.get_by_role("alert").inner_text()
    assert "contimg init" in told
    assert str(installation) not in page.content()
    empty_visit.check_accessible()


def test_what_does_not_exist_is_a_page_that_says_so(visit: Visit) -> None:
    for address in ("/nosuch", "/sources/nosuch", "/mosaics/999", "/calibration/999", "/queue/nosuch", "/tiles/999"):
        page = visit.open(address, status=404)
        assert page.locator("h1").inner_text() == "Not Found"
        assert page.get_by_role("link", name="Home").count() >= 1
