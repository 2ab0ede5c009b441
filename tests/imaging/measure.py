"""Peaks by a Gaussian through the brightest pixel and its neighbors."""

from typing import NamedTuple

import numpy as np

from dsa110_contimg.visibilities import SkyImage, SkyModel


class Peak(NamedTuple):
    """A peak and its distance in pixels from where a source is."""

    flux_jy: float
    dx: float
    dy: float


def peak_near(image: SkyImage, sky: SkyModel, index: int, reach: int = 4) -> Peak:
    """Measure the peak nearest to a source; the WCS is spelled out here, apart from the package's."""
    ra, dec = np.radians(sky.ra_deg[index]), np.radians(sky.dec_deg[index])
    ra0, dec0 = np.radians(image.center)
    east = np.cos(dec) * np.sin(ra - ra0)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)
    cell, half = np.radians(image.cell_deg), image.data.shape[0] // 2
    x, y = half - east / cell, half + north / cell
    xi, yi = round(float(x)), round(float(y))
    cut = image.data[yi - reach : yi + reach + 1, xi - reach : xi + reach + 1]
    j, i = (int(k) for k in np.unravel_index(cut.argmax(), cut.shape))
    j, i = j + yi - reach, i + xi - reach
    box = np.log(image.data[j - 1 : j + 2, i - 1 : i + 2].astype(float)).ravel()
    v, u = (axis.ravel() for axis in np.mgrid[-1:2, -1:2].astype(float))
    c = np.linalg.lstsq(np.stack([np.ones(9), u, v, u * u, u * v, v * v], axis=1), box, rcond=None)[0]
    dx, dy = np.linalg.solve(np.array([[2 * c[3], c[4]], [c[4], 2 * c[5]]]), -c[1:3])
    top = c[0] + 0.5 * (c[1] * dx + c[2] * dy)
    return Peak(float(np.exp(top)), float(i + dx - x), float(j + dy - y))
