"""A mosaic shows every source where it is, as bright as it is, on noise that is what its map says."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.errors import MosaicError
from dsa110_contimg.kernels.coadd import robust_scatter
from dsa110_contimg.kernels.sphere import direction_cosines
from dsa110_contimg.mosaic.build import build
from dsa110_contimg.mosaic.common_beam import beam_matrix
from dsa110_contimg.mosaic.tiles import Tile
from dsa110_contimg.options import MosaicOptions
from dsa110_contimg.visibilities import Beam, SkyImage

Strip = Callable[..., list[Tile]]
OPTIONS = MosaicOptions()


def pixel_of(image: SkyImage, ra_deg: float, dec_deg: float) -> tuple[float, float]:
    east, north, _ = direction_cosines(*np.radians([ra_deg, dec_deg]), *np.radians(image.center))
    x_ref, y_ref = image.center_pixel
    cell = np.radians(image.cell_deg)
    return float(x_ref - east / cell), float(y_ref + north / cell)


def fit_peak(data: NDArray[np.float32], x: float, y: float) -> tuple[float, float, float]:
    """(x, y, height) of a Gaussian through the logarithms of the 5 x 5 pixels around a position: exact."""
    i, j = round(x), round(y)
    dy, dx = np.mgrid[-2:3, -2:3]
    values = np.log(data[j - 2 : j + 3, i - 2 : i + 3].astype(float)).ravel()
    u, v = dx.ravel(), dy.ravel()
    terms = np.stack([np.ones(25), u, v, u * u, u * v, v * v], axis=1)
    c = np.linalg.lstsq(terms, values, rcond=None)[0]
    peak = np.linalg.solve([[2 * c[3], c[4]], [c[4], 2 * c[5]]], [-c[1], -c[2]])
    return i + peak[0], j + peak[1], float(np.exp(c[0] + 0.5 * (c[1] * peak[0] + c[2] * peak[1])))


@pytest.mark.parametrize(("ra", "dec"), [(24.4, 33.2), (0.3, 16.1), (359.8, 16.1), (150.0, 71.6), (310.0, 85.0)])
def test_sources_land_where_they_are_with_their_flux(strip: Strip, ra: float, dec: float) -> None:
    east = 1.0 / np.cos(np.radians(dec))
    sources = [
        (ra + 1.3 * east, dec + 0.9, 2.0),
        (ra - 0.8 * east, dec - 1.1, 1.0),
        (ra + 0.05 * east, dec + 0.02, 0.5),
        (ra - 1.7 * east, dec + 0.4, 3.0),
    ]
    mosaic = build(strip(ra, dec, 3, sources), OPTIONS, "strip").image
    assert np.nanmax(mosaic.data) == pytest.approx(3.0, rel=0.1)
    for source in sources:
        expected = pixel_of(mosaic, *source[:2])
        x, y, height = fit_peak(mosaic.data, *expected)
        assert np.hypot(x - expected[0], y - expected[1]) < 0.02
        assert height == pytest.approx(source[2], rel=3e-3)


@pytest.mark.parametrize("dec", [33.2, 85.0])
def test_a_sloping_beam_moves_nothing(strip: Strip, dec: float) -> None:
    """Dividing by the beam moves a peak by σ² ∇ln P, here 0.03 to 0.08 pixels, unless it is made good."""
    east = 1.0 / np.cos(np.radians(dec))
    sources = [(0.0 + 1.5 * east, dec + 1.0, 2.0), (0.0 - 1.2 * east, dec - 1.2, 1.0), (0.2 * east, dec + 1.5, 1.5)]
    mosaic = build(strip(0.0, dec, 3, sources), OPTIONS, "slope").image
    for source in sources:
        expected = pixel_of(mosaic, *source[:2])
        x, y, height = fit_peak(mosaic.data, *expected)
        assert np.hypot(x - expected[0], y - expected[1]) < 0.015
        assert height == pytest.approx(source[2], rel=2e-3)


def test_a_mirrored_tile_does_not_pass_the_position_test(strip: Strip) -> None:
    """The check above can fail: the same comparison on a field mirrored in right ascension."""
    source = (24.4 + 0.6, 33.2 + 0.9, 2.0)
    tiles = [replace(t, image=replace(t.image, data=t.image.data[:, ::-1])) for t in strip(24.4, 33.2, 3, [source])]
    mosaic = build(tiles, OPTIONS, "mirrored").image
    x, y = pixel_of(mosaic, *source[:2])
    assert mosaic.data[round(y), round(x)] < 0.5


def test_noise_map_is_the_scatter(strip: Strip) -> None:
    """Unit pull in the mean over realizations, everywhere, with tiles of unequal noise."""
    rng = np.random.default_rng(20250115)
    pulls, factors = [], []
    for _ in range(8):
        tiles = strip(24.4, 33.2, 3, size=250, cell_arcsec=50.0, beam=Beam(200.0, 160.0, 30.0), sigma=1e-3, rng=rng)
        tiles[1] = replace(tiles[1], image=replace(tiles[1].image, data=tiles[1].image.data * 2.5))
        result = build(tiles, OPTIONS, "noise")
        pulls.append(result.image.data / result.noise.data)
        factors.append(result.noise_factor)
        assert result.tiles[1].noise_jy == pytest.approx(2.5e-3, rel=0.1)
    stack = np.array(pulls)
    seen = np.isfinite(stack[0])
    scatter = np.sqrt(np.mean(stack[:, seen] ** 2, axis=0))
    assert np.mean(scatter) == pytest.approx(1.0, abs=0.05)
    assert np.mean(factors) == pytest.approx(1.0, abs=0.03)
    # Where one tile alone is seen and where three are.
    for quarter in np.array_split(scatter, 4):
        assert np.sqrt(np.mean(quarter**2)) == pytest.approx(1.0, abs=0.08)


def test_shared_noise_is_measured(strip: Strip) -> None:
    """The same noise in every tile averages down not at all: the map says so."""
    rng = np.random.default_rng(7)
    first = strip(24.4, 33.2, 1, sigma=1e-3, rng=rng)[0]
    tiles = [replace(first, name=f"t{k}", mid_mjd=first.mid_mjd + k) for k in range(4)]
    result = build(tiles, OPTIONS, "shared")
    assert result.noise_factor == pytest.approx(2.0, rel=0.05)
    assert robust_scatter(result.image.data / result.noise.data) == pytest.approx(1.0, abs=0.05)


def test_unequal_beams_become_one(strip: Strip) -> None:
    source = (24.4 + 0.7, 33.2 + 0.5, 2.0)
    beams = [Beam(170.0, 125.0, 110.0), Beam(190.0, 120.0, 95.0), Beam(160.0, 140.0, 130.0)]
    tiles = [strip(24.4, 33.2, 3, [source], beam=beam)[k] for k, beam in enumerate(beams)]
    result = build(tiles, OPTIONS, "beams")
    x, y, height = fit_peak(result.image.data, *pixel_of(result.image, *source[:2]))
    assert height == pytest.approx(2.0, rel=3e-3)
    common = result.image.beam
    assert common is not None
    assert 190.0 <= common.major_arcsec < 200.0
    # The source's own width along both axes is the beam in the header.
    patch = result.image.data[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7].astype(float)
    area = patch.sum() / height * (3600.0 * result.image.cell_deg) ** 2
    assert area == pytest.approx(1.1331 * common.major_arcsec * common.minor_arcsec, rel=0.01)


@pytest.mark.parametrize("dec", [33.2, 85.0])
def test_the_beam_is_that_of_the_header_all_over_the_strip(strip: Strip, dec: float) -> None:
    """Tiles turn against each other along the strip, at high declinations by as much as they move."""
    tiles = strip(0.0, dec, 7)
    sources = [(t.image.center.ra_deg + 0.3, dec + 0.4, 2.0) for t in tiles[::3]]
    image = build(strip(0.0, dec, 7, sources), OPTIONS, "turned").image
    assert image.beam is not None
    for source in sources:
        x, y = pixel_of(image, *source[:2])
        patch = image.data[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
        rows, columns = np.mgrid[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
        cell = 3600.0 * image.cell_deg
        inverse = np.linalg.inv(beam_matrix(image.beam))
        east, north = -(columns - x) * cell, (rows - y) * cell
        square = inverse[0, 0] * east**2 + 2 * inverse[0, 1] * east * north + inverse[1, 1] * north**2
        np.testing.assert_allclose(patch, 2.0 * np.exp(-4 * np.log(2) * square), atol=0.01)


def test_result_does_not_depend_on_the_order(strip: Strip) -> None:
    tiles = strip(24.4, 33.2, 3, sigma=1e-3, rng=np.random.default_rng(11))
    first, second = build(tiles, OPTIONS, "a"), build(tiles[::-1], OPTIONS, "a")
    assert first.image.data.tobytes() == second.image.data.tobytes()
    assert first.noise.data.tobytes() == second.noise.data.tobytes()
    assert first.image.header == second.image.header


def test_coverage_counts_the_tiles(strip: Strip) -> None:
    tiles = strip(24.4, 33.2, 3)
    result = build(tiles, OPTIONS, "coverage")
    assert set(np.unique(result.coverage.data)) == {0.0, 1.0, 2.0, 3.0}
    assert np.array_equal(result.coverage.data == 0.0, np.isnan(result.image.data))
    x, y = pixel_of(result.coverage, *tiles[1].image.center)
    assert result.coverage.data[round(y), round(x)] == 3.0
    assert result.coverage.kind == "coverage"


def test_weights_are_the_beams_over_the_noise(strip: Strip) -> None:
    tiles = strip(24.4, 33.2, 2, sigma=2e-3, rng=np.random.default_rng(5))
    result = build(tiles, OPTIONS, "w")
    x, y = pixel_of(result.weight, *tiles[0].image.center)
    here = tiles[0].beam.data[180, 180]
    other = tiles[1].beam.data[round(pixel_of(tiles[1].beam, *tiles[0].image.center)[1])]
    there = other[round(pixel_of(tiles[1].beam, *tiles[0].image.center)[0])]
    expected = here**2 / result.tiles[0].noise_jy ** 2 + there**2 / result.tiles[1].noise_jy ** 2
    assert result.weight.data[round(y), round(x)] == pytest.approx(expected, rel=0.01)


def test_blank_outside_the_beams_and_wide_enough(strip: Strip) -> None:
    tiles = strip(24.4, 33.2, 3)
    for t in tiles:
        t.image.data[:] = np.random.default_rng(1).normal(size=t.image.data.shape)
    image = build(tiles, OPTIONS, "extent").image
    assert not np.isfinite(image.data[[0, -1], :]).any()
    assert not np.isfinite(image.data[:, [0, -1]]).any()
    usable = tiles[1].beam.data >= OPTIONS.tile_pb_limit
    rows = np.isfinite(image.data).any(axis=1).sum()
    assert abs(int(rows) - int(usable.any(axis=1).sum())) <= 8
    narrow = build(tiles, replace(OPTIONS, pb_limit=0.5), "narrow").image
    assert np.isfinite(narrow.data).sum() < 0.75 * np.isfinite(image.data).sum()


def test_metadata_is_carried(strip: Strip) -> None:
    tiles = strip(24.4, 33.2, 3, [(24.4, 33.2, 1.0)])
    image = build(tiles, OPTIONS, "mosaic_2025-01-15_12-30-00").image
    assert image.kind == "mosaic"
    assert image.field_name == "mosaic_2025-01-15_12-30-00"
    assert image.header["NTILES"] == 3
    assert image.header["CALTABLES"] == ",".join(sorted(f"{t.group_id}_{k}" for t in tiles for k in ("bpcal", "gcal")))
    assert image.start_mjd == tiles[0].image.start_mjd
    assert image.end_mjd == tiles[2].image.end_mjd
    assert image.exposure_s == pytest.approx(3 * 309.2376)


def test_one_tile_is_no_mosaic(strip: Strip) -> None:
    with pytest.raises(MosaicError, match="needs two"):
        build(strip(24.4, 33.2, 1), OPTIONS, "one")


def test_tile_outside_its_beam_is_named(strip: Strip) -> None:
    tiles = strip(24.4, 33.2, 2)
    tiles[1].beam.data[:] = 0.1
    with pytest.raises(MosaicError, match="12:01:00"):
        build(tiles, OPTIONS, "dark")
