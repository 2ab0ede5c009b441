"""The calibrator replaces its catalogue entries, and its transit is found in one tile only."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import TETE, EarthLocation, SkyCoord
from astropy.time import Time

from dsa110_contimg.calibration.sky_model import (
    apparent_flux_jy,
    field_model,
    referred,
    transit_mjd,
    transiting_calibrator,
)
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import TEE_HEIGHT_M, TEE_LATITUDE_RAD, TEE_LONGITUDE_RAD
from dsa110_contimg.visibilities import SkyModel, Visibilities

MakeTile = Callable[..., Visibilities]
OPTIONS = CalibrationOptions()


def catalog() -> SkyModel:
    """3C48 as a survey splits it, a neighbor 3 arcmin away, a faint one, one far away."""
    ra, dec = POSITIONS["3C48"]
    return SkyModel(
        names=["3C48 east", "3C48 west", "neighbor", "faint", "far"],
        ra_deg=np.array([ra + 0.008, ra - 0.004, ra, ra + 0.5, ra + 20.0]),
        dec_deg=np.array([dec, dec, dec + 0.05, dec, dec]),
        flux_jy=np.array([9.0, 6.5, 0.4, 0.01, 3.0]),
        spectrum=np.full((5, 1), -0.7),
    )


def test_the_calibrator_stands_in_for_its_entries(make_tile: MakeTile) -> None:
    sky = field_model(make_tile(), catalog(), OPTIONS)
    assert sky.names == ["3C48", "neighbor"]
    freq = np.array([1.32e9, 1.405e9, 1.49e9])
    np.testing.assert_allclose(sky.flux_at(freq)[0], calibrator_model("3C48").flux_at(freq)[0], rtol=1e-12)
    np.testing.assert_allclose(sky.flux_at(freq)[1], 0.4 * (freq / 1.4e9) ** -0.7, rtol=1e-12)


def test_sizes_stay_with_their_sources(make_tile: MakeTile) -> None:
    extended = replace(catalog(), gaussian=np.outer(np.arange(5.0), [1.0, 0.5, 10.0]))
    sky = field_model(make_tile(), extended, OPTIONS)
    assert sky.names == ["3C48", "neighbor"]
    np.testing.assert_array_equal(sky.gaussian, [[0.0, 0.0, 0.0], [2.0, 1.0, 20.0]])


def test_an_empty_catalogue_still_has_the_calibrator(make_tile: MakeTile) -> None:
    empty = catalog().select(np.zeros(5, bool))
    assert field_model(make_tile(), empty, OPTIONS).names == ["3C48"]


def test_what_is_left_out_hardly_shows(make_tile: MakeTile) -> None:
    """The calibrator sets the measure: 16 Jy drop a crowd of 1 mJy sources, and none that is 5 % of it."""
    vis = make_tile()
    center = vis.pointing_icrs_deg[0]
    n = 60
    crowd = SkyModel(
        [f"s{i}" for i in range(n)],
        np.full(n, center[0]) + np.linspace(-0.2, 0.2, n),
        np.full(n, center[1] + 0.1),
        np.where(np.arange(n) == 7, 0.8, 0.001),
        np.zeros((n, 1)),
        1.4e9,
    )
    faint_too = replace(OPTIONS, model_min_flux_jy=0.0)
    kept = field_model(vis, crowd, faint_too).names
    assert {"3C48", "s7"} <= set(kept)
    assert len(kept) < 10


def test_no_sky_is_an_error(make_tile: MakeTile) -> None:
    vis = make_tile()
    vis.pointing_icrs_deg = vis.pointing_icrs_deg + np.array([0.0, -20.0])
    with pytest.raises(CalibrationError, match="model_min_flux_jy"):
        field_model(vis, catalog(), OPTIONS)


@pytest.mark.parametrize("name", sorted(POSITIONS))
def test_referring_a_spectrum_changes_nothing_but_its_reference(name: str) -> None:
    freq = np.linspace(1.3e9, 1.5e9, 7)
    model = calibrator_model(name)
    moved = referred(model, 1.4e9)
    assert moved.ref_freq_hz == 1.4e9
    np.testing.assert_allclose(moved.flux_at(freq), model.flux_at(freq), rtol=1e-12)


def test_transit_agrees_with_astropy() -> None:
    mjd = transit_mjd(*POSITIONS["3C286"], 60800.0)
    site = EarthLocation.from_geodetic(
        np.degrees(TEE_LONGITUDE_RAD) * units.deg, np.degrees(TEE_LATITUDE_RAD) * units.deg, TEE_HEIGHT_M * units.m
    )
    time = Time(mjd, format="mjd", scale="utc", location=site)
    apparent = SkyCoord(*POSITIONS["3C286"], unit="deg").transform_to(TETE(obstime=time, location=site))
    hour_angle = (time.sidereal_time("apparent").deg - apparent.ra.deg + 180.0) % 360.0 - 180.0
    assert abs(hour_angle) * 3600.0 < 1.0
    assert abs(mjd - 60800.0) <= 0.5


def test_a_transit_belongs_to_exactly_one_tile(make_tile: MakeTile, transit: float) -> None:
    vis = make_tile()
    found = transiting_calibrator(vis, OPTIONS)
    assert found is not None
    assert found.name == "3C48"
    assert found.mjd == pytest.approx(transit, abs=1e-8)
    assert 14.0 < found.apparent_jy < 16.3
    width = np.ptp(vis.time_mjd) + vis.integration_s / 86400.0
    for shift in (-width, width):
        neighbor = replace(vis, time_mjd=vis.time_mjd + shift)
        assert transiting_calibrator(neighbor, OPTIONS) is None
    start_at_transit = replace(vis, time_mjd=vis.time_mjd + 0.5 * width)
    assert (transiting_calibrator(start_at_transit, OPTIONS) is None) != (
        transiting_calibrator(replace(vis, time_mjd=vis.time_mjd - 0.5 * width), OPTIONS) is None
    )


def test_a_faint_calibrator_does_not_count(make_tile: MakeTile) -> None:
    vis = make_tile()
    off_strip = replace(vis, pointing_icrs_deg=vis.pointing_icrs_deg + np.array([0.0, 1.9]))
    assert apparent_flux_jy(off_strip, "3C48") < 5.0
    assert transiting_calibrator(off_strip, OPTIONS) is None
    assert transiting_calibrator(vis, OPTIONS, names=["3C286"]) is None
