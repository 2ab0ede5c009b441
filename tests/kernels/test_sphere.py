"""Directions against Cartesian vectors, at seams and poles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dsa110_contimg.kernels.sphere import direction_cosines, from_direction_cosines, mean_direction, separation

longitudes = st.floats(0.0, 2.0 * np.pi)
latitudes = st.floats(-0.5 * np.pi, 0.5 * np.pi)
ARCSEC = np.pi / 180.0 / 3600.0


def vector(ra: float, dec: float) -> NDArray[np.float64]:
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


@given(longitudes, latitudes, longitudes, latitudes)
def test_direction_cosines_are_projections_on_east_north_and_center(
    ra: float, dec: float, ra0: float, dec0: float
) -> None:
    center = vector(ra0, dec0)
    east = np.array([-np.sin(ra0), np.cos(ra0), 0.0])
    basis = np.stack([east, np.cross(center, east), center])
    np.testing.assert_allclose(direction_cosines(ra, dec, ra0, dec0), basis @ vector(ra, dec), atol=1e-14)


@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), longitudes, st.floats(-1.5, 1.5))
def test_directions_come_back(lcos: float, mcos: float, ra0: float, dec0: float) -> None:
    ra, dec = from_direction_cosines(lcos, mcos, ra0, dec0)
    assert 0.0 <= float(ra) <= 2.0 * np.pi
    np.testing.assert_allclose(direction_cosines(ra, dec, ra0, dec0)[:2], [lcos, mcos], atol=1e-13)


def test_what_is_beyond_the_horizon_is_not_a_number() -> None:
    ra, dec = from_direction_cosines([0.0, 0.8], [0.0, 0.8], 1.0, 0.5)
    assert np.isfinite([ra[0], dec[0]]).all()
    assert np.isnan([ra[1], dec[1]]).all()


@given(longitudes, latitudes, longitudes, latitudes)
def test_separation_is_the_angle_between_vectors(ra1: float, dec1: float, ra2: float, dec2: float) -> None:
    a, b = vector(ra1, dec1), vector(ra2, dec2)
    expected = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    assert float(separation(ra1, dec1, ra2, dec2)) == pytest.approx(float(expected), abs=1e-14)


def test_small_and_opposite_separations_keep_their_digits() -> None:
    tiny = float(separation(1.0, 0.5, 1.0, 0.5 + 1e-6 * ARCSEC))
    assert tiny == pytest.approx(1e-6 * ARCSEC, rel=1e-3)
    assert float(separation(0.0, 0.3, np.pi, -0.3)) == pytest.approx(np.pi, abs=1e-12)
    assert float(separation(2.0 * np.pi - 1e-4, 0.0, 1e-4, 0.0)) == pytest.approx(2e-4, rel=1e-9)


def test_the_mean_across_ra_zero_lies_at_ra_zero() -> None:
    ra, dec = mean_direction(np.radians([359.0, 1.0]), np.radians([16.1, 16.1]))
    assert np.degrees(ra) % 360.0 == pytest.approx(0.0, abs=1e-9) or np.degrees(ra) == pytest.approx(360.0, abs=1e-9)
    assert np.degrees(dec) == pytest.approx(16.1, abs=0.01)
