"""Where sources are, seen from the turning Earth: astropy and nothing else.

Directions are unit vectors in ITRS. ICRS positions get there by SkyCoord at the middle of an integration, with
UT1 and polar motion of the packaged IERS table, so that no network is touched. The correlator stops fringes
toward hour angle 0 at the tee center and an apparent declination: a direction fixed to the Earth.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import astropy.units as u
import numpy as np
from astropy.coordinates import ICRS, ITRS, CartesianRepresentation, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError

TEE_LONGITUDE_RAD = -2.064427799136453
SIDEREAL_DAY_S = 86164.0905
EARTH_TURN_RAD_S = 7.292115e-5


@functools.cache
def _table() -> "iers.IERS_A":
    return iers.IERS_A.open(iers.IERS_A_FILE)


@contextmanager
def packaged_earth_rotation() -> Iterator[None]:
    """Use the packaged table of Earth rotation inside the block, and no download."""
    with iers.conf.set_temp("auto_download", False), iers.earth_orientation_table.set(_table()):
        yield


def check_dates(first_mjd: float, last_mjd: float) -> None:
    """Refuse dates for which the packaged table knows no Earth rotation.

    Raises
    ------
    ConfigurationError
        With the range that the table covers.
    """
    low, high = (float(_table()["MJD"][i].value) for i in (0, -1))
    if not (low <= first_mjd and last_mjd <= high):
        first, last = (Time(mjd, format="mjd").iso[:10] for mjd in (low, high))
        raise ConfigurationError(
            f"MJD {first_mjd:.2f} to {last_mjd:.2f} is outside the packaged Earth-rotation table, "
            f"which runs from {first} to {last}: choose --start and --days within it"
        )


def meridian(dec_app_deg: float) -> NDArray[np.float64]:
    """Return the ITRS direction of hour angle 0 at an apparent declination, shape (3,)."""
    dec = np.radians(dec_app_deg)
    return np.array([np.cos(dec) * np.cos(TEE_LONGITUDE_RAD), np.cos(dec) * np.sin(TEE_LONGITUDE_RAD), np.sin(dec)])


def source_directions(
    ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], mjd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ITRS unit vectors of ICRS positions, shape (n_time, n_source, 3)."""
    shape = (len(mjd), len(ra_deg))
    with packaged_earth_rotation():
        sky = SkyCoord(np.broadcast_to(ra_deg, shape) * u.deg, np.broadcast_to(dec_deg, shape) * u.deg, frame=ICRS())
        earth = sky.transform_to(ITRS(obstime=Time(mjd[:, None], format="mjd", scale="utc")))
        xyz = np.asarray(earth.cartesian.xyz.value)
    return np.moveaxis(xyz / np.linalg.norm(xyz, axis=0), 0, -1)


def pointing_icrs(dec_app_deg: float, mjd: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ICRS (ra_deg, dec_deg) of the stopped direction at each time."""
    x, y, z = np.repeat(meridian(dec_app_deg)[:, None], len(mjd), axis=1)
    with packaged_earth_rotation():
        frame = ITRS(CartesianRepresentation(x, y, z), obstime=Time(mjd, format="mjd", scale="utc"))
        sky = SkyCoord(frame).transform_to(ICRS())
        return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def transit_mjd(ra_deg: float, dec_deg: float, after_mjd: float) -> float:
    """Return the first time (MJD, UTC) after another at which a source crosses hour angle 0 at the tee center."""
    mjd, ahead = after_mjd, -1.0
    for _ in range(6):
        x, y, _z = source_directions(np.array([ra_deg]), np.array([dec_deg]), np.array([mjd]))[0, 0]
        ahead = (np.arctan2(y, x) - TEE_LONGITUDE_RAD + np.pi) % (2 * np.pi) - np.pi
        if mjd == after_mjd:
            ahead %= 2 * np.pi
        mjd += ahead / (2 * np.pi) * SIDEREAL_DAY_S / 86400.0
    return float(mjd)


def separation_deg(
    ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], ra0_deg: float, dec0_deg: float
) -> NDArray[np.float64]:
    """Return angular distances from one position in degrees, across RA 0 and at any declination."""
    ra, dec, ra0, dec0 = (np.radians(angle) for angle in (ra_deg, dec_deg, ra0_deg, dec0_deg))
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.minimum(half, 1.0)))))
