r"""Self-calibration: a tile's own CLEAN model says what its phases should have been.

The model of an image is a list of pixels with apparent fluxes, the mean over the tile. A component is predicted through
the drifting beam, so that its flux over the mean beam toward it goes into the sky model (`components_sky`), with the
mean spectral index of the sky: one image knows no spectra.

The first round solves the phase of the whole tile (GP), further ones the phase of each minute (2G), each on a model
imaged from what the one before left. Amplitudes are never solved: they would pull the flux scale toward what CLEAN has
found, which is too little. A round whose table lacks more of the present antennas than `max_flagged`, or whose image
has no component, is dropped, and the data stay as they were: a tile with a weak model is better off without.
"""

import logging
from collections.abc import Callable
from functools import reduce
from typing import Literal

import numpy as np

from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.calibration.quality import present_antennas
from dsa110_contimg.calibration.sky_model import joined, referred
from dsa110_contimg.calibration.solve import solve_gains
from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.kernels.beams import airy_power
from dsa110_contimg.kernels.sphere import from_direction_cosines, separation
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import DISH_DIAMETER_M, MID_BAND_HZ
from dsa110_contimg.visibilities import Gains, SkyImage, SkyModel, Visibilities

logger = logging.getLogger(__name__)

MEAN_INDEX = -0.7
MOST_COMPONENTS = 500
LEAST_BEAM = 0.05


def self_calibrate(
    vis: Visibilities, sky_of: Callable[[Visibilities], SkyModel], options: CalibrationOptions
) -> list[Gains]:
    """Solve phases on the tile's own model and apply them, round by round, in place.

    Parameters
    ----------
    vis
        Calibrated visibilities, in Jy.
    sky_of
        Images visibilities and returns the sky model that CLEAN made of them.
    options
        `selfcal_rounds` says how often; 0 does nothing. `max_flagged` says which solutions are too few.

    Returns
    -------
    list of Gains
        The tables that were applied; fewer than rounds where the model was too weak.
    """
    tables: list[Gains] = []
    for number in range(options.selfcal_rounds):
        kind: Literal["GP", "2G"] = "2G" if tables else "GP"
        try:
            gains = solve_gains(vis, sky_of(vis), options, kind=kind, source="selfcal")
        except CalibrationError as error:
            logger.warning("round %d of self-calibration found nothing: %s", number + 1, error)
            break
        missing = float(gains.flags[:, present_antennas(gains)].mean())
        if missing > options.max_flagged:
            logger.warning("round %d of self-calibration lacks %.0f%% of the phases", number + 1, 100.0 * missing)
            break
        apply(vis, [gains], options, measure_weights=False)
        tables.append(gains)
    return tables


def components_sky(vis: Visibilities, model: SkyImage, *subtracted: SkyModel) -> SkyModel:
    """Return the sky model of an image's CLEAN components.

    Parameters
    ----------
    vis
        Gives the pointings; without any the beam is one.
    model
        CLEAN components, Jy per pixel as seen through the mean beam; the strongest 500 pixels count.
    subtracted
        Sources that were taken off the visibilities before CLEAN, with their true fluxes.
    """
    y, x = np.nonzero(model.data)
    order = np.argsort(-np.abs(model.data[y, x]), kind="stable")[:MOST_COMPONENTS]
    y, x = y[order], x[order]
    cell, (x0, y0) = np.radians(model.cell_deg), model.center_pixel
    ra, dec = from_direction_cosines(-(x - x0) * cell, (y - y0) * cell, *np.radians(model.center))
    beam = np.ones(ra.size)
    if vis.pointing_mjd.size:
        pointing = np.radians(vis.pointing_icrs_deg)
        away = separation(pointing[:, :1], pointing[:, 1:], ra, dec)
        beam = airy_power(away, np.array([MID_BAND_HZ]), DISH_DIAMETER_M).mean(axis=0)
    near = beam > LEAST_BEAM
    flux_jy = model.data[y, x][near] / beam[near]
    ra_deg, dec_deg, spectrum = np.degrees(ra[near]), np.degrees(dec[near]), np.full((flux_jy.size, 1), MEAN_INDEX)
    names = [f"component{i}" for i in range(flux_jy.size)]
    own = SkyModel(names, ra_deg, dec_deg, flux_jy.astype(np.float64), spectrum, MID_BAND_HZ)
    return reduce(joined, (referred(sky, MID_BAND_HZ) for sky in subtracted), own)
