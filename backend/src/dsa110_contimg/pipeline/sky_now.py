"""Where the dishes look now and next, and which calibrators come: computed from the strip of the newest tile.

The dishes stand still between changes of declination, so that the strip of the newest tile is where they look until
the next tile says otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dsa110_contimg import telescope
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.pipeline.calibrator_transits import SeenTransit, latest_strip_deg, list_transits

AHEAD_H = (0.0, 1.0, 2.0, 4.0, 8.0, 12.0)
MIN_BEAM = 0.01
"""What the primary beam sees below this response is no calibrator."""


@dataclass(frozen=True)
class Look:
    """Where the dishes look at one time, if nobody moves them."""

    time_unix: float
    mjd: float
    ra_deg: float
    """ICRS, on the meridian."""
    dec_deg: float
    lst_hours: float
    alt_deg: float
    az_deg: float


@dataclass(frozen=True)
class Transit:
    """A calibrator that crosses the strip."""

    calibrator: str
    time_unix: float
    mjd: float
    offset_deg: float
    """Declination of the calibrator minus that of the strip."""
    beam: float
    """Response of the primary beam at mid-band."""
    flux_jy: float | None
    apparent_jy: float | None
    solves: bool
    """Whether it may set the flux scale and is bright enough behind the beam."""
    group_id: str | None
    """The tile that holds it; None: none does yet."""


def looks(strip_deg: float, now_unix: float, ahead_h: Sequence[float] = AHEAD_H) -> list[Look]:
    """Return where the dishes look now and some hours ahead.

    Parameters
    ----------
    strip_deg
        A declination of date.
    now_unix
        The first time.
    ahead_h
        Hours after it.

    Raises
    ------
    BadInputError
        If the Earth's rotation is not known then: the clock is wrong, or the table is old.
    """
    times = [now_unix + 3600.0 * hours for hours in ahead_h]
    mjds = [telescope.unix_to_mjd(time) for time in times]
    ra, dec = telescope.meridian_icrs(strip_deg, mjds)
    lst = telescope.lst_deg(mjds)
    latitude = math.degrees(telescope.TEE_LATITUDE_RAD)
    return [
        Look(
            time_unix=time,
            mjd=mjd,
            ra_deg=float(ra[place]),
            dec_deg=float(dec[place]),
            lst_hours=float(lst[place]) / 15.0,
            alt_deg=90.0 - abs(latitude - strip_deg),
            az_deg=180.0 if strip_deg <= latitude else 0.0,
        )
        for place, (time, mjd) in enumerate(zip(times, mjds, strict=True))
    ]


def strip_now() -> float:
    """Return the declination of date on which the newest tile was observed.

    Raises
    ------
    ConfigurationError
        If there is no tile.
    """
    return latest_strip_deg()


def next_transits(strip_deg: float, start_unix: float, days: float, *, min_beam: float = MIN_BEAM) -> list[Transit]:
    """Return the registered calibrators that cross a strip, in order of time.

    Raises
    ------
    BadInputError
        If the Earth's rotation is not known then.
    CalibrationError
        If the strip is below the horizon, or the span is impossible.
    """
    begin = telescope.unix_to_mjd(start_unix)
    found = list_transits(strip_deg, begin, begin + days, CalibrationOptions())
    return [_transit(seen) for seen in found if seen.transit.beam >= min_beam]


def _transit(seen: SeenTransit) -> Transit:
    told = seen.transit
    return Transit(
        calibrator=told.calibrator,
        time_unix=telescope.mjd_to_unix(told.mjd),
        mjd=told.mjd,
        offset_deg=told.offset_deg,
        beam=told.beam,
        flux_jy=told.flux_jy,
        apparent_jy=told.apparent_jy,
        solves=seen.solves,
        group_id=seen.tile,
    )
