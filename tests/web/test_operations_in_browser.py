"""The operators' pages in a real browser: they bring themselves up to date, and a keyboard is enough."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.api.conftest import PASSWORD
from tests.api.night import DEAD, Night
from tests.web.browser import PHONE, Visit
from tests.web.conftest import visiting

from dsa110_contimg.api import events
from dsa110_contimg.database import accounts, get_session, ingest_queue
from dsa110_contimg.database.models import Job, Role


@pytest.fixture
def night_visit(
    browser: Browser, night: Night, photographs: Path | None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Visit]:
    """A tab at a server with the night; whatever goes wrong in it fails the test."""
    assert night.root.is_dir()
    monkeypatch.setattr(events, "LOOK_S", 0.2)
    yield from visiting(browser, None if photographs is None else photographs / "night")


def test_the_queue_follows_what_happens_without_a_reload(night_visit: Visit, night: Night) -> None:
    page = night_visit.open("/queue?state=failed")
    row = page.get_by_role("row", name=night.refused.replace("T", " "))
    expect(row).to_be_visible()
    page.evaluate("window.unchanged = true")
    page.wait_for_timeout(1500)
    with get_session("ingest") as session:
        assert ingest_queue.reopen_group(session, night.refused)
    expect(row).to_be_hidden(timeout=15_000)
    assert page.evaluate("window.unchanged"), "the page was not loaded again"
    expect(page.locator("#live")).to_have_text("The queue has been brought up to date.")


def test_a_failed_group_is_found_and_opened_again_by_keyboard(
    night_visit: Visit, night: Night, log_in: Callable[[Visit, str, str], None]
) -> None:
    accounts.accept_invitation(accounts.add_user("ada", Role.OPERATOR), PASSWORD)
    log_in(night_visit, "ada", PASSWORD)
    page = night_visit.open("/queue")
    link = page.locator("#queue .plain a", has_text=night.failed).first
    for _ in range(80):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/queue/{night.failed}")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Open again").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Opened again: 1 piece of work")).to_be_visible()
    with get_session("products", read_only=True) as session:
        assert session.get(Job, f"image:{night.failed}").state == "pending"  # type: ignore[union-attr]


def test_a_filter_works_as_soon_as_it_is_chosen_and_without_scripts_by_its_button(
    night_visit: Visit, browser: Browser, night: Night
) -> None:
    page = night_visit.open("/queue")
    page.get_by_label("State").select_option("collecting")
    page.wait_for_url("**state=collecting**")
    expect(page.get_by_role("row", name="3/16")).to_be_visible()
    plain = browser.new_context(java_script_enabled=False)
    bare = plain.new_page()
    bare.goto(f"{night_visit.address}/queue")
    bare.get_by_label("State").select_option("failed")
    bare.get_by_role("button", name="Show").click()
    assert night.refused.replace("T", " ") in bare.locator("#groups ~ .table").inner_text()
    plain.close()


def test_an_antenna_is_chosen_and_drawn(night_visit: Visit, night: Night) -> None:
    page = night_visit.open(f"/calibration/{night.tables[-1]}")
    expect(page.locator("figure.chart canvas").first).to_be_visible()
    page.get_by_label("Antenna", exact=True).select_option("9")
    page.wait_for_url("**antenna=9**")
    expect(page.locator("#one-amplitude figcaption")).to_contain_text("Amplitude of 9")
    expect(page.get_by_role("row", name=f" {DEAD} 100 %")).to_be_attached()


def test_at_two_in_the_morning_on_a_phone(night_visit: Visit, night: Night) -> None:
    """The verdict and its first reason stand on the first screen; each page fits; what is wrong is two taps away."""
    night_visit.page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    begun = time.monotonic()
    page = night_visit.open("/")
    verdict = page.locator("#verdict")
    expect(verdict).to_contain_text("Look today")
    assert time.monotonic() - begun < 10.0
    box = verdict.locator("li").first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < PHONE["height"]
    night_visit.photograph("home_at_two")
    verdict.get_by_role("link", name="failed work").click()
    page.wait_for_url("**/queue#failures")
    night_visit.check_fits()
    page.locator("#failures ~ .plain a", has_text=night.failed).click()
    page.wait_for_url(f"**/queue/{night.failed}")
    expect(page.get_by_text("Way out:")).to_be_visible()
    night_visit.check_fits()
    for address in ("/observing", "/calibration", "/health", "/inventory", f"/calibration/{night.tables[0]}"):
        night_visit.open(address)
        night_visit.settle()
        night_visit.check_fits()
        here = page.locator(".nav [aria-current]").bounding_box()
        assert here is not None
        assert -1.0 <= here["x"] < PHONE["width"], "the page's own name in the navigation is in view"
