"""The sky of all published mosaics: versions that grow, forget what was retracted, and are products like any other."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.formats.sky_images import pixel_at, sources_of, true_value
from tests.pipeline.published_mosaics import ORDER, mosaic_name, publish_mosaic

from dsa110_contimg.cli.main import app
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.data_registry import list_links
from dsa110_contimg.database.fixity import verify
from dsa110_contimg.database.models import QACheck
from dsa110_contimg.database.registry_rows import ProductRow, find_rows, get_data, open_registry
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.formats import hips_tiles, moc
from dsa110_contimg.options import PhotometryOptions, PipelineOptions, ProductOptions
from dsa110_contimg.pipeline import chores, sky
from dsa110_contimg.pipeline.reconcile import follow_products
from dsa110_contimg.pipeline.sky import make_sky, make_sky_when_due
from dsa110_contimg.visibilities import SkyPosition

EAST, WEST = SkyPosition(0.8, 33.0), SkyPosition(358.9, 33.1)
FAR = SkyPosition(120.0, 85.0)
OPTIONS = ProductOptions()
DAY_S = 86400.0


@pytest.fixture
def survey(house: Settings) -> Settings:
    """Two mosaics on either side of right ascension 0 that share tiles and no pixels, published."""
    publish_mosaic(house, 1, EAST)
    publish_mosaic(house, 2, WEST)
    return house


def product(data_id: str) -> ProductRow:
    with open_registry() as connection:
        return get_data(connection, data_id)


def take_back(data_id: str) -> None:
    with open_registry() as connection:
        retract(connection, data_id, reason="bad gains", by="anna")
    follow_products(PhotometryOptions())


def shown(data_id: str | None, center: SkyPosition) -> list[bool]:
    """Return whether a version shows the sources of a mosaic, each at its place with its flux, or nothing there."""
    folder, found = Path(product(str(data_id)).published_path or ""), []
    for ra, dec, flux in sources_of(center):
        pixel = pixel_at(ra, dec, ORDER, hips_tiles.WIDTH)
        path = hips_tiles.tile_path(folder, ORDER, pixel.tile)
        value = hips_tiles.load_tile(path)[0][pixel.row, pixel.column] if path.exists() else np.nan
        truth = float(true_value(center, np.array(pixel.ra_deg), np.array(pixel.dec_deg)))
        assert np.isnan(value) or value == pytest.approx(truth, abs=0.03 * flux)
        found.append(bool(np.isfinite(value)))
    return found


def test_the_sky_is_a_product_with_its_companions(survey: Settings) -> None:
    name = make_sky(survey, OPTIONS)
    assert name == "sky_2025-10-02"
    row = product(name)
    assert (row.data_type, row.status, row.publish_error) == ("image", "published", None)
    folder = survey.products / "images"
    assert Path(row.published_path or "") == folder / f"{name}-hips"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}-hips",
        f"{name}-moc.fits",
        f"{name}-weight-hips",
    ]
    assert row.details["mosaics"] == [mosaic_name(1), mosaic_name(2)]
    with get_session("products", read_only=True) as session:
        checks = {check.name: check for check in session.scalars(select(QACheck).where(QACheck.subject == name))}
    assert 0.8 < (checks["shown_fraction"].value or 0.0) < 1.0
    assert checks["mosaics_not_standing"].value == 0.0
    assert all(shown(name, EAST))
    assert all(shown(name, WEST))
    told = hips_tiles.load_properties(folder / f"{name}-hips")
    assert (told["hips_order"], told["hips_tile_format"]) == (str(ORDER), "png fits")
    assert hips_tiles.load_properties(folder / f"{name}-weight-hips")["hips_tile_format"] == "fits"
    covered = moc.load(folder / f"{name}-moc.fits")
    assert covered == moc.load(folder / f"{name}-hips" / "Moc.fits")
    parts = [moc.load(survey.products / "mosaics" / f"{mosaic_name(day)}-moc.fits") for day in (1, 2)]
    assert covered == moc.union(parts)
    with open_registry() as connection:
        assert verify(connection).intact
        parents = {parent for parent, _, kind in list_links(connection, name) if kind == "derived_from"}
    assert parents == {mosaic_name(1), mosaic_name(2)}
    assert list((survey.stage / "images").iterdir()) == []


def test_nothing_new_makes_no_version(survey: Settings) -> None:
    assert make_sky(survey, OPTIONS) is not None
    assert make_sky(survey, OPTIONS) is None


def test_a_version_goes_on_from_the_one_before_and_supersedes_it(survey: Settings) -> None:
    first = make_sky(survey, OPTIONS)
    old = {path: path.read_bytes() for path in Path(product(str(first)).published_path or "").rglob("*.fits")}
    publish_mosaic(survey, 3, FAR)
    second = make_sky(survey, OPTIONS)
    assert second == "sky_2025-10-03"
    assert (product(str(first)).status, product(str(first)).superseded_by) == ("published", second)
    assert all(path.read_bytes() == content for path, content in old.items())
    assert all([*shown(second, EAST), *shown(second, WEST), *shown(second, FAR)])
    with open_registry() as connection:
        assert verify(connection).intact


def test_a_retracted_mosaic_leaves_the_sky_and_takes_the_old_version_with_it(survey: Settings) -> None:
    first = make_sky(survey, OPTIONS)
    take_back(mosaic_name(2))
    second = make_sky(survey, OPTIONS)
    assert second == "sky_2025-10-01"
    assert all(shown(second, EAST))
    assert not all(shown(second, WEST))
    gone = product(str(first))
    assert (gone.status, gone.superseded_by) == ("retracted", second)
    assert mosaic_name(2) in str(gone.retract_reason)
    tombstone = survey.products / "retracted" / mosaic_name(2) / "mosaics"
    assert (tombstone / f"{mosaic_name(2)}-hips" / "properties").is_file(), "a HiPS is retracted with its mosaic"
    assert (tombstone / f"{mosaic_name(2)}-moc.fits").is_file()
    with open_registry() as connection:
        assert verify(connection).intact
    take_back(mosaic_name(1))
    assert make_sky(survey, OPTIONS) is None
    assert product(str(second)).status == "retracted"


def test_of_versions_that_gave_way_the_newest_are_kept(survey: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ProductOptions(nightly_mosaics=1, nightly_kept=1)
    names = [str(make_sky(survey, few)) for _ in range(2)]
    assert [product(name).status for name in names] == ["published", "published"]
    old = Path(product(names[0]).published_path or "")
    publish_mosaic(survey, 3, FAR)

    def die(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dsa110_contimg.database.retraction.remove", die)
        with pytest.raises(KeyboardInterrupt):
            make_sky(survey, few)
    gone = product(names[0])
    assert (gone.status, gone.superseded_by) == ("retracted", "sky_2025-10-03")
    assert "1 versions that gave way are kept" in str(gone.retract_reason)
    assert not old.exists()
    assert Path(gone.published_path or "").is_dir(), "it was killed before it removed anything"
    assert make_sky(survey, few) is None
    assert not list((survey.products / "retracted").iterdir()), "what was begun is finished, with nothing new to show"
    assert product(names[1]).status == "published"
    assert all([*shown("sky_2025-10-03", EAST), *shown("sky_2025-10-03", WEST), *shown("sky_2025-10-03", FAR)])
    assert (survey.products / "mosaics" / f"{mosaic_name(1)}-hips").is_dir()
    with open_registry() as connection:
        assert verify(connection).intact


def test_what_a_person_retracted_stays_where_it_was_set_aside(survey: Settings) -> None:
    few = ProductOptions(nightly_mosaics=1, nightly_kept=0)
    first = str(make_sky(survey, few))
    with open_registry() as connection:
        tombstone = retract(connection, first, reason="I do not like it", by="anna")
    make_sky(survey, few)
    assert (tombstone / "properties").is_file()


def test_no_more_mosaics_are_added_than_asked_for(survey: Settings) -> None:
    few = ProductOptions(nightly_mosaics=1)
    held = [product(str(make_sky(survey, few))).details["mosaics"] for _ in range(2)]
    assert held == [[mosaic_name(1)], [mosaic_name(1), mosaic_name(2)]]


def test_a_mosaic_without_a_hips_is_left_out(survey: Settings) -> None:
    publish_mosaic(survey, 3, FAR, with_hips=False)
    assert product(str(make_sky(survey, OPTIONS))).details["mosaics"] == [mosaic_name(1), mosaic_name(2)]


def test_what_was_registered_before_a_crash_is_published_first(
    survey: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sky, "_publish", die)
        with pytest.raises(KeyboardInterrupt):
            make_sky(survey, OPTIONS)
    with open_registry() as connection:
        assert [row.status for row in find_rows(connection, sky.OURS)] == ["staging"]
    assert make_sky(survey, OPTIONS) is None
    assert product("sky_2025-10-02").status == "published"


def test_a_failure_in_the_middle_leaves_nothing(survey: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _sigma: float) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hips_tiles, "draw_tile", full)
        with pytest.raises(OSError, match="No space"):
            make_sky(survey, OPTIONS)
    assert list((survey.stage / "images").iterdir()) == []
    assert make_sky(survey, OPTIONS) == "sky_2025-10-02"


def test_a_sky_that_lacks_what_it_should_show_is_not_published(
    survey: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hips_tiles, "tiles_of", lambda *_: [])
    name = make_sky(survey, OPTIONS)
    row = product(str(name))
    assert (row.status, row.qa_status, row.finalization_status) == ("staging", "failed", "rejected")


def test_it_is_due_once_a_day(survey: Settings) -> None:
    first = make_sky_when_due(survey, OPTIONS, now=0.0)
    publish_mosaic(survey, 3, FAR)
    staged = product(str(first)).staged_at
    assert make_sky_when_due(survey, OPTIONS, now=staged + 0.9 * DAY_S) is None
    assert make_sky_when_due(survey, OPTIONS, now=staged + DAY_S) == "sky_2025-10-03"


def test_a_run_makes_it_only_if_asked(house: Settings) -> None:
    def names(options: PipelineOptions) -> list[str]:
        return [chore.name for chore in chores.chores_of(house, options)]

    assert "hips" not in names(PipelineOptions())
    assert "hips" in names(PipelineOptions(products=ProductOptions(nightly_hips=True)))


def test_the_command_tells_what_it_made(survey: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call: Callable[[list[str]], object] = lambda words: app(words, standalone_mode=False)  # noqa: E731
    call(["hips", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["status"], told["order"]) == ("sky_2025-10-02", "published", ORDER)
    assert Path(told["folder"]).is_dir()
    call(["hips"])
    assert "nothing to do" in capsys.readouterr().out
    image = survey.products / "mosaics" / f"{mosaic_name(1)}.fits"
    call(["hips", str(image), "--out", str(tmp_path / "one"), "--order", "2", "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "id": mosaic_name(1),
        "folder": str(tmp_path / "one"),
        "order": 2,
    } | {"tiles": len(list((tmp_path / "one").rglob("Npix*.fits")))}
