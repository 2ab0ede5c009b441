r"""The DSA-110: site, band, dishes, and the Earth's orientation.

Directions are unit vectors. The array turns with the Earth, so its natural frame is ITRS: the correlator
stops fringes toward the meridian (hour angle 0 at the tee centre's longitude, declination of date δ),

    s0 = (cos δ cos λ, cos δ sin λ, sin δ)         fixed to the Earth,

while the sky is catalogued in ICRS. `icrs_to_itrs` carries one to the other with precession, nutation,
aberration, light deflection, UT1 and polar motion (IAU 2006/2000A, ERFA; SOFA "Astrometry Tools" cookbook).
Times are MJD in UTC. Nothing here touches the network: the IERS table is the packaged one.
"""

import functools

import erfa
import numpy as np
from astropy.utils import iers
from numpy.typing import ArrayLike, NDArray

from dsa110_contimg.errors import BadInputError

iers.conf.auto_download = False

SPEED_OF_LIGHT = 299792458.0
TEE_LONGITUDE_RAD = -2.064427799136453
TEE_LATITUDE_RAD = 0.6498455107238486
TEE_HEIGHT_M = 1188.0519
DISH_DIAMETER_M = 4.65
SEFD_JY = 6500.0
N_SUBBANDS = 16
BAND_LOW_HZ, BAND_HIGH_HZ = 1311.25e6, 1498.75e6
SUBBAND_WIDTH_HZ = (BAND_HIGH_HZ - BAND_LOW_HZ) / N_SUBBANDS
MID_BAND_HZ = 1405.0e6
TILE_SECONDS = 309.2376
TELESCOPE_NAME = "OVRO_MMA"
UNIX_EPOCH_MJD = 40587.0
JD_MINUS_MJD = 2400000.5
SIDEREAL_DAY_S = 86164.0905


def mjd_to_unix(mjd: float) -> float:
    """Return the unix time (s) of an MJD (UTC)."""
    return (mjd - UNIX_EPOCH_MJD) * 86400.0


def unix_to_mjd(unix: float) -> float:
    """Return the MJD (UTC) of a unix time (s)."""
    return unix / 86400.0 + UNIX_EPOCH_MJD


def unit_vector(lon_deg: ArrayLike, lat_deg: ArrayLike) -> NDArray[np.float64]:
    """Return unit vectors, shape (..., 3), of spherical coordinates in degrees."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon], axis=-1)


def spherical(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (longitude in [0, 360), latitude) in degrees of vectors, shape (..., 3)."""
    lon = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0
    lat = np.degrees(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))
    return lon, lat


def meridian_itrs(dec_app_deg: float) -> NDArray[np.float64]:
    """Return the ITRS unit vector of hour angle 0 at an apparent declination, shape (3,)."""
    return unit_vector(np.degrees(TEE_LONGITUDE_RAD), dec_app_deg)


@functools.cache
def _iers_table() -> "iers.IERS_A":
    return iers.IERS_A.open(iers.IERS_A_FILE)


def _earth_rotation(mjd: NDArray[np.float64]) -> tuple[NDArray[np.void], NDArray[np.float64]]:
    """Return ERFA's star-independent parameters and the CIRS → ITRS rotations, one per time."""
    table = _iers_table()
    first, last = float(table["MJD"][0].value), float(table["MJD"][-1].value)
    if mjd.size and not (first <= mjd.min() and mjd.max() <= last):
        raise BadInputError(
            f"MJD {mjd.min():.3f} to {mjd.max():.3f} is outside the packaged Earth-rotation table "
            f"({first:.0f} to {last:.0f}): upgrade astropy-iers-data, or check the file's times"
        )
    dut1 = table.ut1_utc(JD_MINUS_MJD, mjd).to_value("s")
    xp, yp = (angle.to_value("rad") for angle in table.pm_xy(JD_MINUS_MJD, mjd))
    tai1, tai2 = erfa.utctai(JD_MINUS_MJD, mjd)
    tt1, tt2 = erfa.taitt(tai1, tai2)
    ut1, ut2 = erfa.utcut1(JD_MINUS_MJD, mjd, dut1)
    astrom, _eo = erfa.apci13(tt1, tt2)
    polar = erfa.pom00(xp, yp, erfa.sp00(tt1, tt2))
    rotation = polar @ erfa.rz(erfa.era00(ut1, ut2), np.eye(3))
    return astrom, rotation


def icrs_to_itrs(ra_deg: ArrayLike, dec_deg: ArrayLike, mjd: ArrayLike) -> NDArray[np.float64]:
    """Carry ICRS directions to ITRS, as the array sees them.

    Parameters
    ----------
    ra_deg, dec_deg
        ICRS coordinates, shape (n_direction,) or scalars.
    mjd
        UTC, shape (n_time,) or scalar.

    Returns
    -------
    NDArray
        Unit vectors, shape (n_time, n_direction, 3); scalars count as length 1.
    """
    times = np.atleast_1d(np.asarray(mjd, dtype=float))
    ra, dec = np.radians(np.atleast_1d(ra_deg)), np.radians(np.atleast_1d(dec_deg))
    astrom, rotation = _earth_rotation(times)
    cirs = np.stack(erfa.atciqz(ra[None, :], dec[None, :], astrom[:, None]), axis=-1)
    return np.asarray(np.einsum("tij,tsj->tsi", rotation, erfa.s2c(cirs[..., 0], cirs[..., 1])))


def itrs_to_icrs(vectors: NDArray[np.float64], mjd: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Carry one ITRS direction (3,) or one per time (n_time, 3) to ICRS (ra_deg, dec_deg), shape (n_time,)."""
    times = np.atleast_1d(np.asarray(mjd, dtype=float))
    astrom, rotation = _earth_rotation(times)
    cirs = np.einsum("tji,tj->ti", rotation, np.broadcast_to(vectors, (times.size, 3)))
    ra, dec = erfa.aticq(*erfa.c2s(cirs), astrom)
    return np.degrees(ra) % 360.0, np.degrees(dec)


def meridian_icrs(dec_app_deg: float, mjd: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ICRS (ra_deg, dec_deg) on which the dishes look at each time, shape (n_time,)."""
    return itrs_to_icrs(meridian_itrs(dec_app_deg), mjd)


def tangent_basis_itrs(ra_deg: float, dec_deg: float, mjd: ArrayLike) -> NDArray[np.float64]:
    """Return the orthonormal (east, north, center) of an ICRS direction in ITRS, shape (n_time, 3, 3).

    East and north are the ICRS tangent directions at the center, carried to ITRS by the frame's rotation,
    so that uvw are a pure rotation of the baseline. Axis 1 runs over (east, north, center).
    """
    step = 1.0 / 3600.0
    north_point = (ra_deg, dec_deg + step) if dec_deg + step < 90.0 else (ra_deg, dec_deg - step)
    vectors = icrs_to_itrs([ra_deg, north_point[0]], [dec_deg, north_point[1]], mjd)
    center = vectors[:, 0]
    toward = np.sign(north_point[1] - dec_deg) * (vectors[:, 1] - center)
    north = toward - np.sum(toward * center, axis=1, keepdims=True) * center
    north /= np.linalg.norm(north, axis=1, keepdims=True)
    return np.stack([np.cross(north, center), north, center], axis=1)


def aberration_scale(ra_deg: float, dec_deg: float, mjd: float) -> float:
    """Return 1 + s·β: offsets from a direction look smaller by this factor seen from the moving Earth.

    Aberration shrinks the field around a direction s toward the Earth's motion β = v/c; true offsets are the
    measured ones times this factor (first order, at most 1e-4).
    """
    _pvh, pvb = erfa.epv00(JD_MINUS_MJD, mjd)
    beta = np.asarray(pvb["v"]) * (erfa.DAU / erfa.DAYSEC / SPEED_OF_LIGHT)
    return float(1.0 + beta @ unit_vector(ra_deg, dec_deg))


def lst_deg(mjd: ArrayLike) -> NDArray[np.float64]:
    """Return the apparent local sidereal time at the tee centre (deg): the right ascension of date on the meridian."""
    times = np.atleast_1d(np.asarray(mjd, dtype=float))
    dut1 = _iers_table().ut1_utc(JD_MINUS_MJD, times).to_value("s")
    ut1, ut2 = erfa.utcut1(JD_MINUS_MJD, times, dut1)
    tt1, tt2 = erfa.taitt(*erfa.utctai(JD_MINUS_MJD, times))
    return np.asarray(np.degrees(erfa.gst06a(ut1, ut2, tt1, tt2) + TEE_LONGITUDE_RAD) % 360.0)


def transit_mjd(ra_deg: ArrayLike, dec_deg: ArrayLike, near_mjd: float) -> NDArray[np.float64]:
    """Return when ICRS directions cross the meridian next to a time (MJD, UTC), shape (n_direction,)."""
    longitude, _latitude = spherical(icrs_to_itrs(ra_deg, dec_deg, near_mjd)[0])
    east = (longitude - np.degrees(TEE_LONGITUDE_RAD) + 180.0) % 360.0 - 180.0
    return np.asarray(near_mjd + east / 360.0 * SIDEREAL_DAY_S / 86400.0)
