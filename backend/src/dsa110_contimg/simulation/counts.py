r"""How many radio sources the sky has: differential counts at 1.4 GHz.

    log10[ (dN/dS) / (S^-2.5) ] = Σ a_i (log10 S/mJy)^i          Jy^1.5 sr^-1

is the sixth-order fit of Hopkins et al. 2003 (AJ 125, 465) from 0.05 mJy up. Its printed coefficients have three
decimals, which is a factor 1.5 at 1 Jy: above 0.2 Jy the Euclidean-normalized counts are held at their value there,
320 Jy^1.5 sr^-1, which is what the NVSS has up to 1 Jy. Nothing brighter is drawn: the brightest sources are known.
"""

import numpy as np
from numpy.typing import NDArray

COEFFICIENTS = (0.859, 0.508, 0.376, -0.049, -0.121, 0.057, -0.008)
FAINTEST_JY, FLAT_FROM_JY, BRIGHTEST_JY = 5e-5, 0.2, 1.0
_GRID_POINTS = 4001


def differential_counts(flux_jy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return dN/dS in sources per Jy and steradian."""
    log_mjy = np.log10(np.minimum(flux_jy, FLAT_FROM_JY) * 1e3)
    normalized = 10.0 ** np.polynomial.polynomial.polyval(log_mjy, COEFFICIENTS)
    return np.asarray(normalized * np.asarray(flux_jy) ** -2.5)


def _cumulative(min_jy: float, max_jy: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ln S and the number per steradian between the faint limit and S."""
    log_flux = np.linspace(np.log(min_jy), np.log(max_jy), _GRID_POINTS)
    flux = np.exp(log_flux)
    density = differential_counts(flux) * flux
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(log_flux)
    return log_flux, np.concatenate([[0.0], np.cumsum(steps)])


def number_per_sr(min_jy: float, max_jy: float = BRIGHTEST_JY) -> float:
    """Return the expected number of sources per steradian between two flux densities."""
    return float(_cumulative(min_jy, max_jy)[1][-1])


def draw_fluxes(
    solid_angle_sr: float, min_jy: float, rng: np.random.Generator, max_jy: float = BRIGHTEST_JY
) -> NDArray[np.float64]:
    """Draw the flux densities (Jy) of a patch: a Poisson number, by inversion of the integral counts."""
    if min_jy >= max_jy:
        return np.empty(0)
    log_flux, number = _cumulative(max(min_jy, FAINTEST_JY), max_jy)
    total = rng.poisson(number[-1] * solid_angle_sr)
    return np.asarray(np.exp(np.interp(rng.random(total) * number[-1], number, log_flux)))
