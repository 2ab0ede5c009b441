"""The Earth's orientation against astropy's own transformations, and identities that any frame obeys."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import ITRS, TETE, EarthLocation, SkyCoord
from astropy.time import Time

from dsa110_contimg import telescope
from dsa110_contimg.errors import BadInputError

MJDS = np.array([59215.3, 60000.1, 60960.7])
ARCSEC = np.pi / 180 / 3600


@pytest.mark.parametrize(("ra", "dec"), [(24.422, 33.160), (359.999, 16.1), (0.001, 71.6), (200.0, -5.0)])
def test_icrs_to_itrs_agrees_with_astropy(ra: float, dec: float) -> None:
    ours = telescope.icrs_to_itrs(ra, dec, MJDS)[:, 0]
    geocentre = EarthLocation.from_geocentric(0, 0, 0, unit="m")
    for mjd, vector in zip(MJDS, ours, strict=True):
        frame = ITRS(obstime=Time(mjd, format="mjd", scale="utc"), location=geocentre)
        theirs = SkyCoord(ra * u.deg, dec * u.deg).transform_to(frame).cartesian.xyz.value
        assert np.linalg.norm(vector - theirs / np.linalg.norm(theirs)) < 0.001 * ARCSEC


def test_itrs_and_back_is_the_same_direction() -> None:
    vectors = telescope.icrs_to_itrs(359.9, 54.6, MJDS)[:, 0]
    ra, dec = telescope.itrs_to_icrs(vectors, MJDS)
    np.testing.assert_allclose(ra, 359.9, atol=1e-7)
    np.testing.assert_allclose(dec, 54.6, atol=1e-7)


def test_tangent_basis_is_right_handed_and_points_north() -> None:
    basis = telescope.tangent_basis_itrs(24.4, 33.2, MJDS)
    np.testing.assert_allclose(basis @ basis.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.cross(basis[:, 0], basis[:, 1]), basis[:, 2], atol=1e-12)
    east_of = telescope.icrs_to_itrs(24.41, 33.2, MJDS)[:, 0]
    assert np.all(np.einsum("ti,ti->t", east_of, basis[:, 0]) > 0)


def test_the_meridian_is_at_the_local_sidereal_time() -> None:
    ra, dec = telescope.meridian_icrs(33.2, MJDS)
    of_date = telescope.lst_deg(MJDS)
    assert np.all(np.abs((ra - of_date + 180) % 360 - 180) < 0.5), "precession since 2000 is about 0.35 deg"
    assert np.all(np.abs(dec - 33.2) < 0.15)
    assert np.all(np.abs(ra - of_date) > 0.05), "ICRS and of-date right ascensions must differ"


def test_aberration_scale_is_what_two_near_directions_show() -> None:
    mjd, ra, dec = 60960.7, 24.422, 33.16
    pair = telescope.icrs_to_itrs([ra, ra], [dec - 0.5, dec + 0.5], mjd)[0]
    measured = 2 * np.arcsin(np.linalg.norm(pair[1] - pair[0]) / 2)
    assert np.radians(1.0) / measured == pytest.approx(telescope.aberration_scale(ra, dec, mjd), abs=2e-7)


def test_a_time_outside_the_table_is_refused_by_name() -> None:
    with pytest.raises(BadInputError, match="astropy-iers-data"):
        telescope.icrs_to_itrs(0.0, 0.0, 90000.0)


@pytest.mark.parametrize("dec_deg", [-10.0, 33.0, 71.6])
def test_transits_are_when_the_sidereal_time_is_the_right_ascension_of_date(dec_deg: float) -> None:
    """Also across RA 0, for times half a day away; the right ascension of date is astropy's."""
    ra = np.array([0.01, 359.99, 90.0, 182.5])
    transits = telescope.transit_mjd(ra, np.full(4, dec_deg), 60300.3)
    assert np.all(np.abs(transits - 60300.3) < 0.5)
    for direction, mjd in zip(ra, transits, strict=True):
        of_date = SkyCoord(direction, dec_deg, unit="deg").transform_to(TETE(obstime=Time(mjd, format="mjd")))
        apart = (float(telescope.lst_deg(mjd)[0]) - of_date.ra.deg + 180.0) % 360.0 - 180.0
        assert abs(apart) < 0.002
