"""Transits are where astropy sees the source on the meridian, and their flux is behind the beam."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, HADec, SkyCoord
from astropy.time import Time

from dsa110_contimg.calibration.transits import Calibrator, rises, strip_transits
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.telescope import TEE_HEIGHT_M, TEE_LATITUDE_RAD, TEE_LONGITUDE_RAD

START = 60700.0
TEE = EarthLocation.from_geodetic(TEE_LONGITUDE_RAD * u.rad, TEE_LATITUDE_RAD * u.rad, TEE_HEIGHT_M * u.m)
ALL = [Calibrator(name, *position, 10.0) for name, position in POSITIONS.items()]
AT_ZERO = Calibrator("across RA 0", 359.999, 16.0, 12.0)


@pytest.mark.parametrize("calibrator", [*ALL, AT_ZERO], ids=lambda c: c.name)
def test_hour_angle_is_zero_at_a_transit(calibrator: Calibrator) -> None:
    (first, *_rest) = strip_transits([calibrator], calibrator.dec_deg, START, START + 2.0)
    when = Time(first.mjd, format="mjd", scale="utc")
    there = SkyCoord(calibrator.ra_deg * u.deg, calibrator.dec_deg * u.deg).transform_to(
        HADec(obstime=when, location=TEE)
    )
    assert there.ha.wrap_at(180 * u.deg).arcsec == pytest.approx(0.0, abs=3.0)
    # Diurnal aberration and parallax aside, the declination of date is astropy's.
    assert calibrator.dec_deg + first.offset_deg == pytest.approx(there.dec.deg, abs=2e-4)


def test_each_sidereal_day_has_one_transit_and_they_come_in_order() -> None:
    found = strip_transits(ALL, 33.2, START, START + 10.0)
    times = [transit.mjd for transit in found]
    assert times == sorted(times)
    for calibrator in ALL:
        own = [transit.mjd for transit in found if transit.calibrator == calibrator.name]
        assert len(own) == 10
        np.testing.assert_allclose(np.diff(own) * 86400.0, 86164.09, atol=0.5)
    assert all(START <= mjd < START + 10.0 for mjd in times)


def test_the_flux_is_that_behind_the_beam_of_the_strip() -> None:
    calibrator = Calibrator("3C48", *POSITIONS["3C48"], 16.2)
    (on,) = strip_transits([calibrator], 33.25, START, START + 1.0)
    (half,) = strip_transits([calibrator], 33.25 + on.offset_deg + 1.35, START, START + 1.0)
    (off,) = strip_transits([calibrator], 54.6, START, START + 1.0)
    assert on.apparent_jy == pytest.approx(16.2 * on.beam)
    assert on.beam > 0.98
    assert half.beam == pytest.approx(0.5, abs=0.01)
    assert off.beam < 1e-3
    assert on.systematic == 0.03
    assert half.offset_deg == pytest.approx(-1.35, abs=1e-6)


def test_what_may_not_set_the_scale_or_has_no_flux_says_so() -> None:
    (variable,) = strip_transits([Calibrator("3C454.3", 343.4904, 16.1482, None)], 16.1, START, START + 1.0)
    assert (variable.systematic, variable.flux_jy, variable.apparent_jy) == (None, None, None)


def test_what_never_rises_has_no_transit_and_impossible_spans_are_refused() -> None:
    assert not rises(-53.0)
    assert rises(-52.0)
    assert strip_transits([Calibrator("south", 10.0, -70.0, 5.0)], 16.0, START, START + 3.0) == []
    with pytest.raises(CalibrationError, match="never rises"):
        strip_transits(ALL, -70.0, START, START + 1.0)
    for days in (0.0, -1.0, 1e6, float("nan")):
        with pytest.raises(CalibrationError, match="span"):
            strip_transits(ALL, 33.2, START, START + days)
