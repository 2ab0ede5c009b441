"""Which registered calibrator crosses the meridian when, and which tile saw it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.calibration.transits import Calibrator, StripTransit, rises, strip_transits
from dsa110_contimg.database import get_session
from dsa110_contimg.database.calibrators import get_bandpass_calibrators
from dsa110_contimg.database.models import BandpassCalibrator, MSIndex
from dsa110_contimg.errors import CalibrationError, ConfigurationError
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.context import mid_time, pointing
from dsa110_contimg.telescope import MID_BAND_HZ, icrs_to_itrs, spherical

LONGEST_TILE_DAYS = 1.0 / 24.0
"""Bounds the search for a tile by its middle, which has an index."""


@dataclass(frozen=True)
class SeenTransit:
    """A transit, the tile that holds it, and whether it is worth a solve."""

    transit: StripTransit
    tile: str | None
    """Group id; None: no tile of the strip holds it (yet)."""
    solves: bool
    """Whether it may set the flux scale and is bright enough behind the beam."""


def list_transits(
    dec_deg: float, start_mjd: float, end_mjd: float, options: CalibrationOptions, names: Sequence[str] = ()
) -> list[SeenTransit]:
    """Return the transits of registered calibrators over a strip, in order of time.

    Parameters
    ----------
    dec_deg
        Where the dishes look: a declination of date.
    start_mjd, end_mjd
        Span of time, UTC.
    options
        `min_calibrator_jy` says what is bright enough.
    names
        Calibrators to look at; none for all of them.

    Raises
    ------
    CalibrationError
        If a named calibrator never rises, or the span or the strip is impossible.
    ConfigurationError
        If a named calibrator is not registered.
    """
    known = {row.calibrator_name: calibrator_of(row) for row in get_bandpass_calibrators()}
    for name in names:
        if name not in known:
            raise ConfigurationError(f"no active calibrator is called {name}: see `contimg calibrators list`")
        if not rises(known[name].dec_deg):
            raise CalibrationError(f"{name} never rises at the telescope: its declination is {known[name].dec_deg:.2f}")
    chosen = [known[name] for name in names or sorted(known)]
    found = strip_transits(chosen, dec_deg, start_mjd, end_mjd)
    with get_session("products", read_only=True) as session:
        newest = session.scalar(select(func.max(MSIndex.end_mjd))) or 0.0
        return [
            SeenTransit(
                transit,
                _tile_at(session, transit.mjd, dec_deg, options.dec_tolerance_deg) if transit.mjd < newest else None,
                transit.systematic is not None and (transit.apparent_jy or 0.0) >= options.min_calibrator_jy,
            )
            for transit in found
        ]


def calibrator_of(row: BandpassCalibrator) -> Calibrator:
    """Return a registered calibrator with its flux density at mid-band; None where the row tells too little."""
    flux: float | None = None
    if row.calibrator_name in POSITIONS:
        flux = float(calibrator_model(row.calibrator_name).flux_at(np.array([MID_BAND_HZ]))[0, 0])
    elif row.flux_jy is not None and row.flux_freq_ghz is not None:
        ratio = MID_BAND_HZ / 1e9 / row.flux_freq_ghz
        near = abs(ratio - 1.0) < 0.01
        index = 0.0 if near and row.spectral_index is None else row.spectral_index
        flux = None if index is None else float(row.flux_jy * ratio**index)
    return Calibrator(row.calibrator_name, row.ra_deg, row.dec_deg, flux)


def latest_strip_deg() -> float:
    """Return the declination of date on which the newest tile was observed.

    Raises
    ------
    ConfigurationError
        If there is no tile.
    """
    with get_session("products", read_only=True) as session:
        newest = select(MSIndex).where(MSIndex.mid_mjd.is_not(None), MSIndex.pointing_dec_deg.is_not(None))
        tile = session.scalars(newest.order_by(MSIndex.mid_mjd.desc()).limit(1)).first()
    if tile is None:
        raise ConfigurationError("there is no tile yet whose strip could be meant: give --dec")
    _longitude, latitude = spherical(icrs_to_itrs(*pointing(tile), mid_time(tile))[0])
    return float(latitude[0])


def _tile_at(session: Session, mjd: float, dec_deg: float, tolerance_deg: float) -> str | None:
    """Return the tile of a strip that holds a time."""
    near = MSIndex.mid_mjd.between(mjd - LONGEST_TILE_DAYS, mjd + LONGEST_TILE_DAYS)
    for tile in session.scalars(select(MSIndex).where(near, MSIndex.start_mjd <= mjd, MSIndex.end_mjd > mjd)):
        if tile.pointing_dec_deg is not None and abs(tile.pointing_dec_deg - dec_deg) <= tolerance_deg:
            return tile.group_id
    return None
