"""What validation and QA measure on tiles: every defect of a tile is a figure beyond its limit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.models import MSIndex
from dsa110_contimg.database.repositories import (
    ImageRepository,
    PhotometryRepository,
    QARepository,
    ms_index_upsert,
)
from dsa110_contimg.mosaic.astrometry import TileOffset
from dsa110_contimg.mosaic.build import TileContribution
from dsa110_contimg.mosaic.consistency import validate_tiles_consistency
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.options import MosaicOptions, QAOptions
from dsa110_contimg.photometry.forced import PhotometryFlag
from dsa110_contimg.pipeline.rows import check_rows
from dsa110_contimg.pipeline.tile_figures import (
    consistency_checks,
    noise_over_thermal,
    offset_check,
    thermal_check_of,
    tile_fluxes,
)
from dsa110_contimg.qa.checks import Check, Verdict, thermal_check
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

OPTIONS, QA = MosaicOptions(), QAOptions()
STEP_DEG, TILE_DAYS = 1.29, 309.2376 / 86400.0


def make_tile(index: int) -> Tile:
    start = 60690.5 + index * TILE_DAYS
    shared: dict[str, Any] = {
        "center": SkyPosition(24.4 + index * STEP_DEG, 33.2),
        "cell_deg": 0.03,
        "freq_hz": 1.405e9,
        "bandwidth_hz": 187.5e6,
        "start_mjd": start,
        "end_mjd": start + TILE_DAYS,
        "exposure_s": 309.0,
    }
    pixels = np.random.default_rng(index).normal(scale=1e-3, size=(40, 40)).astype(np.float32)
    pixels[20, 20] = 1.0
    image = SkyImage(pixels, **shared, beam=Beam(400.0, 360.0, 90.0), header={"CALTABLES": f"{index}_bpcal"})
    beam = SkyImage(np.full((40, 40), 0.95, np.float32), **shared, kind="beam")
    group_id = f"2025-01-15T12:{5 * index:02d}:00"
    return Tile(group_id, group_id, image, beam, start + TILE_DAYS / 2, 1e-3)


@pytest.fixture
def good() -> list[Tile]:
    return [make_tile(index) for index in range(3)]


def with_image(tile: Tile, **changes: Any) -> Tile:
    return replace(tile, image=replace(tile.image, **changes))


def figures(tiles: list[Tile], n_given: int | None = None) -> tuple[bool, dict[str, Check]]:
    result = validate_tiles_consistency(tiles, OPTIONS, QA)
    checks = consistency_checks(result.metrics, n_given or len(tiles), OPTIONS, QA)
    return result.ok, {check.name: check for check in checks}


def test_good_tiles_have_figures_within_their_limits(good: list[Tile]) -> None:
    ok, checks = figures(good)
    assert ok
    assert {check.verdict for check in checks.values()} == {Verdict.PASSED}
    assert all(check.value is not None and check.failure is not None for check in checks.values())
    assert checks["tile_gap_min"].value == pytest.approx(309.2376 / 60.0)
    assert checks["tile_noise_ratio"].value == pytest.approx(1.0)
    assert checks["tile_dynamic_range"].value == pytest.approx(1000.0)
    assert all(name.startswith("tile") for name in checks), "validation's figures are told from QA's by their names"


DEFECTS: dict[str, Callable[[Tile], Tile]] = {
    "tiles_uncalibrated": lambda tile: with_image(tile, header={}),
    "tiles_without_pbcor": lambda tile: replace(tile, has_pbcor=False),
    "tiles_without_beam": lambda tile: with_image(tile, beam=None),
    "tiles_without_noise": lambda tile: replace(tile, noise_jy=float("nan")),
    "tiles_repeated": lambda tile: replace(tile, group_id="2025-01-15T12:05:00", name="again"),
    "tile_noise_ratio": lambda tile: replace(tile, noise_jy=6e-3),
    "tile_dynamic_range": lambda tile: replace(tile, noise_jy=0.9),
    "tile_beam_peak_min": lambda tile: replace(tile, beam=replace(tile.beam, data=tile.beam.data * np.float32(0.3))),
    "tile_beam_peak_max": lambda tile: replace(tile, beam=replace(tile.beam, data=tile.beam.data * np.float32(1.1))),
    "tile_beam_spread": lambda tile: with_image(tile, beam=Beam(600.0, 360.0, 90.0)),
    "tile_gap_min": lambda tile: replace(tile, mid_mjd=tile.mid_mjd + 1.5 / 1440.0),
    "tile_span_min": lambda tile: replace(tile, mid_mjd=tile.mid_mjd + 1.0 / 24.0),
    "tile_dec_spread_deg": lambda tile: with_image(tile, center=SkyPosition(tile.image.center.ra_deg, 33.7)),
    "tile_cell_spread": lambda tile: with_image(tile, cell_deg=tile.image.cell_deg * 1.001),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_that_validation_names_is_a_figure_that_fails(good: list[Tile], name: str) -> None:
    ok, checks = figures([good[0], good[1], DEFECTS[name](good[2])])
    assert not ok
    assert checks[name].verdict is Verdict.FAILED, checks[name]
    assert checks[name].reason


def test_tiles_that_cannot_be_read_are_counted(good: list[Tile]) -> None:
    _ok, checks = figures(good, n_given=4)
    assert (checks["tiles_unreadable"].value, checks["tiles_unreadable"].verdict) == (1, Verdict.FAILED)
    none = consistency_checks(validate_tiles_consistency([], OPTIONS).metrics, 3, OPTIONS, QA)
    failed = {check.name: check.value for check in none if check.verdict is Verdict.FAILED}
    assert failed == {"tiles_readable": 0, "tiles_unreadable": 3}


def test_one_tile_spans_nothing(good: list[Tile]) -> None:
    ok, checks = figures(good[:1])
    assert not ok
    assert checks["tiles_readable"].verdict is Verdict.FAILED
    assert checks["tile_gap_min"].verdict is Verdict.UNMEASURED


def test_fluxes_of_tiles_come_in_one_order_and_unfit_sources_have_no_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    measured = {"a": {"S1": 0, "S2": 0}, "b": {"S2": int(PhotometryFlag.CONFUSED), "S3": 0}, "unimaged": {}}
    with get_session("products") as session:
        for index, (name, sources) in enumerate(measured.items()):
            image = f"/images/{name}.fits" if sources else None
            ms_index_upsert(session, f"/ms/{name}.ms", group_id=name, mid_mjd=float(index), imagename=image)
            if image is not None:
                ImageRepository.add(session, path=image, ms_path=f"/ms/{name}.ms", type="image", created_at=0.0)
                rows = [row(image, source, flags) for source, flags in sources.items()]
                PhotometryRepository.store(session, rows)
        tiles = list(session.scalars(select(MSIndex).order_by(MSIndex.mid_mjd)))
        first, second = tile_fluxes(session, tiles)
    assert (first.name, second.name) == ("a", "b")
    np.testing.assert_array_equal(first.flux_jy, [0.1, 0.2, np.nan])
    np.testing.assert_array_equal(first.reference_jy, [0.11, 0.11, np.nan])
    np.testing.assert_array_equal(second.flux_jy, [np.nan, 0.2, 0.3])
    np.testing.assert_array_equal(second.reference_jy, [np.nan, np.nan, 0.11])


def test_the_noise_of_a_mosaic_follows_from_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    ratios = {"a": 2.0, "b": 3.0, "c": 2.5, "never measured": None}
    with get_session("products") as session:
        for index, (name, ratio) in enumerate(ratios.items()):
            ms_index_upsert(session, f"/ms/{name}.ms", group_id=name, mid_mjd=float(index))
            if ratio is not None:
                QARepository.store(session, check_rows(name, [thermal_check(ratio, "a tile's noise", QA)]))
        measured = noise_over_thermal(session, list(session.scalars(select(MSIndex))))
    assert sorted(measured) == [2.0, 2.5, 3.0]
    coadded = replace(make_tile(0).image, header={"NOISEFAC": 1.2})
    for factor, verdict in ((1.2, Verdict.PASSED), (2.4, Verdict.WARNING), (7.0, Verdict.FAILED)):
        check = thermal_check_of(replace(coadded, header={"NOISEFAC": factor}), measured, QA)
        assert check.value == pytest.approx(2.5 * factor)
        assert check.verdict is verdict
    assert thermal_check_of(coadded, [], QA).verdict is Verdict.UNMEASURED
    assert thermal_check_of(make_tile(0).image, measured, QA).verdict is Verdict.UNMEASURED


def row(image: str, source: str, flags: int) -> dict[str, str | float | int | None]:
    return {
        "image_path": image,
        "source_id": source,
        "ra_deg": 1.0,
        "dec_deg": 2.0,
        "peak_jyb": 0.1,
        "flux_jy": int(source[1]) / 10,
        "flux_err_jy": 0.001,
        "nvss_flux_mjy": 110.0,
        "flags": flags,
        "measured_at": 0.0,
    }


def brought(name: str, east: float | None, *, shifted: bool = False) -> TileContribution:
    offset = None if east is None else TileOffset(east, -0.5, 0.1, 0.2, 12)
    return TileContribution(name, name, 60690.5, 1e-3, offset=offset, shifted=shifted, reused=False)


def test_the_offset_that_is_left_is_judged() -> None:
    """Beams of 100 arcsec: 0.1 and 0.25 of them are 10 and 25 arcsec."""
    mosaic = SkyImage(np.zeros((2, 2), np.float32), SkyPosition(0.0, 0.0), 0.01, beam=Beam(125.0, 80.0, 90.0))
    tiles = [brought("a", 1.0), brought("b", None), brought("c", -30.0)]
    check = offset_check(tiles, mosaic, QA)
    assert check.verdict is Verdict.FAILED
    assert check.value == pytest.approx(0.3, abs=1e-3)
    assert 'c lies -30.00 ± 0.10" east, -0.50 ± 0.20" north of the catalogue, by 12 sources' in check.reason
    assert "2 of 3 tiles" in check.reason
    assert offset_check([tiles[0], brought("d", 12.0)], mosaic, QA).verdict is Verdict.WARNING
    assert offset_check(tiles[:2], mosaic, QA).verdict is Verdict.PASSED
    corrected = offset_check([brought("c", -30.0, shifted=True)], mosaic, QA)
    assert corrected.verdict is Verdict.PASSED
    assert "taken out" in corrected.reason
    assert offset_check(tiles[1:2], mosaic, QA).verdict is Verdict.UNMEASURED
