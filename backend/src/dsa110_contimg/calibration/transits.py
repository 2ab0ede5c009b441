r"""Which calibrator crosses the meridian when, and how bright the dishes see it.

The array looks at a declination of date on the meridian. At a transit the calibrator is on the meridian too, so that
its distance from the pointing is a difference of declinations of date, and its flux behind the beam is

    S_app = S(ν) A(ν, |δ_calibrator − δ_strip|)          ν = 1405 MHz, A the power beam of a dish

A source that never rises above the horizon (δ < φ − 90°, φ the latitude) has no transit that the array could see.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dsa110_contimg.calibration.sky_model import transit_mjds
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import anchor_systematic
from dsa110_contimg.kernels.beams import airy_power
from dsa110_contimg.telescope import (
    DISH_DIAMETER_M,
    MID_BAND_HZ,
    SIDEREAL_DAY_S,
    TEE_LATITUDE_RAD,
    icrs_to_itrs,
    spherical,
)

MAX_SPAN_DAYS = 1000.0


@dataclass(frozen=True)
class Calibrator:
    """A source that could calibrate, with its flux density in the middle of the band (None: not known)."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float | None


@dataclass(frozen=True)
class StripTransit:
    """A calibrator that crosses the meridian while the array looks at a strip."""

    calibrator: str
    mjd: float
    offset_deg: float
    """Declination of the calibrator minus that of the strip, both of date."""
    beam: float
    """Response of the primary beam at mid-band."""
    flux_jy: float | None
    apparent_jy: float | None
    """Behind the beam, at the moment of the transit; the mean over a tile is lower."""
    systematic: float | None
    """Fractional error of its flux as an anchor of the scale; None: it may not set the scale."""


def strip_transits(
    calibrators: Iterable[Calibrator], dec_deg: float, start_mjd: float, end_mjd: float
) -> list[StripTransit]:
    """Return every transit of calibrators in [start, end) with the beam's response, in order of time.

    Parameters
    ----------
    calibrators
        Whichever may be of interest; those that never rise have no transit.
    dec_deg
        Where the dishes look: a declination of date.
    start_mjd, end_mjd
        Span of time, UTC.

    Raises
    ------
    CalibrationError
        If the span is empty or longer than MAX_SPAN_DAYS, or the strip is below the horizon.
    """
    if not 0.0 < end_mjd - start_mjd <= MAX_SPAN_DAYS:
        raise CalibrationError(
            f"a span of {end_mjd - start_mjd:g} days has no list of transits: give more than 0 and at most "
            f"{MAX_SPAN_DAYS:g} days"
        )
    if not rises(dec_deg):
        raise CalibrationError(f"declination {dec_deg:g} never rises at the telescope: the dishes cannot look there")
    found = [
        transit
        for calibrator in calibrators
        if rises(calibrator.dec_deg)
        for transit in _transits(calibrator, (start_mjd, end_mjd), dec_deg)
    ]
    return sorted(found, key=lambda transit: (transit.mjd, transit.calibrator))


def rises(dec_deg: float) -> bool:
    """Return whether a declination comes above the telescope's horizon."""
    return bool(dec_deg > np.degrees(TEE_LATITUDE_RAD) - 90.0)


def _transits(calibrator: Calibrator, span: tuple[float, float], dec_deg: float) -> list[StripTransit]:
    """Return the transits of one calibrator in [start, end)."""
    start, end = span
    day = SIDEREAL_DAY_S / 86400.0
    near = transit_mjds(calibrator.ra_deg, calibrator.dec_deg, np.arange(start - day, end + day, day))
    # Two steps may lead to one transit, a fraction of a microsecond apart.
    near = near[np.diff(near, prepend=-np.inf) > 0.5 * day]
    times = near[(near >= start) & (near < end)]
    if not times.size:
        return []
    _longitude, latitude = spherical(icrs_to_itrs(calibrator.ra_deg, calibrator.dec_deg, times)[:, 0])
    offset = latitude - dec_deg
    beam = airy_power(np.radians(np.abs(offset))[:, None], np.array([MID_BAND_HZ]), DISH_DIAMETER_M).ravel()
    flux, systematic = calibrator.flux_jy, anchor_systematic(calibrator.name)
    return [
        StripTransit(calibrator.name, mjd, away, seen, flux, None if flux is None else flux * seen, systematic)
        for mjd, away, seen in zip(times.tolist(), offset.tolist(), beam.tolist(), strict=True)
    ]
