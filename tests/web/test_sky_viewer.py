"""The sky viewer in a real browser: our HiPS or FITS, sources over it, by mouse and keyboard, and without WebGL."""

import hashlib
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.api.survey import PUBLISHED, SOURCES, Survey, picture
from tests.web.browser import Visit

from dsa110_contimg import naming
from dsa110_contimg.dashboard.render import STATIC
from dsa110_contimg.formats import hips
from dsa110_contimg.visibilities import SkyPosition

READY = "[data-sky][data-ready]"


@pytest.fixture
def atlas(survey: Survey) -> Path:
    """The published mosaic's HiPS."""
    folder = naming.beside_mosaic(survey.root / "products" / "mosaics" / f"{PUBLISHED}.fits", "hips")
    if not folder.is_dir():
        hips.save(picture(SkyPosition(0.4, 37.0), "mosaic"), folder, identifier=PUBLISHED, order=3)
    return folder


@pytest.mark.usefixtures("atlas")
@pytest.mark.parametrize("what", ["hips", "fits"])
def test_an_image_is_shown_with_its_sources(visit: Visit, survey: Survey, what: str) -> None:
    page = visit.open(f"/mosaics/{PUBLISHED}" if what == "hips" else f"/tiles/{survey.image_id}")
    page.wait_for_selector(READY)
    assert page.locator(".sky-picture").is_hidden()
    measured = page.get_by_role("button", name="Measured")
    number = sum(bool(truth.fluxes_jy) for truth in SOURCES) if what == "hips" else 0
    expect(measured).to_contain_text(f"({number})")
    expect(measured).to_have_attribute("aria-pressed", "true")
    measured.click()
    expect(measured).to_have_attribute("aria-pressed", "false")
    catalog = page.get_by_role("button", name="Catalogue")
    catalog.press("Enter")
    expect(catalog).to_have_attribute("aria-pressed", "true")
    shown = page.locator("[data-sky]")
    shown.focus()
    for key in ("ArrowLeft", "ArrowUp", "+", "-", "Home"):
        shown.press(key)
    page.get_by_role("button", name="Grid").click()
    visit.settle()
    visit.check_accessible()
    visit.photograph(f"viewer_{what}")
    visit.check_quiet()


def test_a_source_of_the_table_is_shown_in_the_viewer(visit: Visit) -> None:
    page = visit.open(f"/mosaics/{PUBLISHED}")
    page.wait_for_selector(READY)
    go = page.get_by_role("button", name=re.compile(f"Show {re.escape(SOURCES[3].name)}"))
    go.click()
    expect(page.locator("[data-sky]")).to_be_focused()


def test_without_webgl_and_without_javascript_the_picture_stands_in(visit: Visit, survey: Survey) -> None:
    visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
    page = visit.open(f"/tiles/{survey.image_id}")
    expect(page.locator(".sky-told")).to_contain_text("no WebGL")
    assert page.locator(".sky-picture img").is_visible()
    assert page.locator("[data-sky]").is_hidden()
    plain = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
    still = plain.new_page()
    still.goto(f"{visit.address}/tiles/{survey.image_id}")
    assert still.locator(".sky-picture img").is_visible()
    assert still.get_by_role("link", name="image (FITS)").is_visible()
    plain.close()


def test_vendored_files_are_those_that_were_checked() -> None:
    listed = (STATIC / "vendor" / "README.md").read_text(encoding="utf-8")
    for path in sorted((STATIC / "vendor").iterdir()):
        if path.suffix in {".js", ".css"}:
            assert hashlib.sha256(path.read_bytes()).hexdigest() in listed, path.name
