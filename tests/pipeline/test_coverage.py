"""The coverage of the survey grows with what is published, shrinks with what is taken back, and may be lost."""

import json
import subprocess
from pathlib import Path
from shutil import which

import pytest
from astropy import units
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mocpy import MOC
from tests.pipeline.published_mosaics import mosaic_name, publish_mosaic

from dsa110_contimg.cli.main import app
from dsa110_contimg.config import Settings
from dsa110_contimg.database.registry_rows import open_registry
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.formats import moc
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.coverage import FILE, Coverage, grown, standing_mosaics, update_coverage
from dsa110_contimg.pipeline.reconcile import follow_products
from dsa110_contimg.visibilities import SkyPosition

CENTERS = [SkyPosition(0.4, 33.0), SkyPosition(359.2, 33.1), SkyPosition(77.0, 89.8), SkyPosition(200.0, 16.0)]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return four mosaics with maps beside them, around right ascension 0, at the pole and elsewhere."""
    folder = tmp_path_factory.mktemp("maps")
    found = {}
    for number, center in enumerate(CENTERS):
        cone = MOC.from_cone(
            lon=center.ra_deg * units.deg,
            lat=center.dec_deg * units.deg,
            radius=(1.0 + number) * units.deg,
            max_depth=moc.ORDER,
        )
        moc.save(cone, folder / f"m{number}-moc.fits")
        found[f"m{number}"] = folder / f"m{number}.fits"
    return found


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sets(st.sampled_from(["m0", "m1", "m2", "m3"])), min_size=1, max_size=6))
def test_whatever_came_and_went_it_is_the_union_recomputed(maps: dict[str, Path], steps: list[set[str]]) -> None:
    held: Coverage | None = None
    for names in steps:
        held = grown(held, {name: maps[name] for name in sorted(names)})
        assert held.mosaics == names
        assert held.covered == grown(None, {name: maps[name] for name in names}).covered
        ranges = [moc.load(path.with_name(f"{name}-moc.fits")) for name, path in maps.items() if name in names]
        assert held.covered == moc.union(ranges)


def test_it_grows_and_shrinks_with_the_registry(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    areas = [update_coverage(house).area_deg2]
    for day, center in enumerate(CENTERS[:3], start=1):
        publish_mosaic(house, day, center, with_hips=False)
        areas.append(update_coverage(house).area_deg2)
    assert areas[0] == 0.0
    assert areas[1] < areas[2] < 1.95 * areas[1], "the second overlaps with the first, across right ascension 0"
    assert areas[3] == pytest.approx(areas[2] + areas[1], rel=0.02), "the third, at the pole, does not"
    with open_registry() as connection:
        retract(connection, mosaic_name(3), reason="bad gains", by="anna")
    follow_products(PhotometryOptions())
    held = update_coverage(house)
    assert held.area_deg2 == areas[2]
    assert held.mosaics == set(standing_mosaics()) == {mosaic_name(1), mosaic_name(2)}
    (house.state / FILE).write_bytes(b"damaged")
    assert update_coverage(house).covered == held.covered
    capsys.readouterr()
    out = house.state / "copy.fits"
    app(["moc", "--out", str(out), "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["area_deg2"]) == (2, pytest.approx(areas[2], abs=1e-4))
    assert moc.load(out) == held.covered
    app(["moc", str(house.products / "mosaics" / f"{mosaic_name(1)}.fits")], standalone_mode=False)
    assert capsys.readouterr().out.startswith(f"{areas[1]:.2f} square degrees")


def test_a_mosaic_without_a_map_is_measured_and_one_that_is_gone_left_out(
    house: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (publish_mosaic(house, day, CENTERS[day], with_hips=False) for day in (1, 2))
    beside = first.with_name(f"{mosaic_name(1)}-moc.fits")
    known = moc.load(beside)
    beside.unlink()
    second.with_name(f"{mosaic_name(2)}-moc.fits").unlink()
    second.unlink()
    held = update_coverage(house)
    assert held.covered == known
    assert held.mosaics == {mosaic_name(1)}
    assert f"{mosaic_name(2)} is left out" in caplog.text


@pytest.mark.skipif(which("fitsverify") is None, reason="fitsverify is not installed")
def test_its_file_keeps_to_the_standard(house: Settings) -> None:
    publish_mosaic(house, 1, CENTERS[0], with_hips=False)
    update_coverage(house)
    done = subprocess.run(["fitsverify", "-q", str(house.state / FILE)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("verification OK"), done.stdout
