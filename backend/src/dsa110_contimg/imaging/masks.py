"""Where CLEAN may start components: at catalogue sources, at what stands out of the noise, or at both."""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities, apparent_spectrum, sky_directions

MASKS = ("auto", "catalog", "both")


def catalog_mask(
    vis: Visibilities, field: Field, sky: SkyModel | None, options: ImagingOptions
) -> NDArray[np.bool_] | None:
    """Return discs around the catalogue sources that are bright enough behind the beam; None if none are wanted.

    Parameters
    ----------
    vis
        Gives phase center, pointings and channels.
    field
        The pixel grid.
    sky
        Catalogue sources around the field.
    options
        Kind of mask, radius and faintest source.

    Raises
    ------
    ImagingError
        If the kind of mask is not known, or sources are asked for and there are none.
    """
    if options.mask not in MASKS:
        raise ImagingError(f"mask {options.mask!r} is not known: choose {', '.join(MASKS)}")
    if options.mask == "auto":
        return None
    mask = np.zeros((field.size, field.size), bool)
    chosen = _bright_enough(vis, sky, options)
    if options.mask == "catalog" and (chosen is None or len(chosen) == 0):
        raise ImagingError(
            f"no catalog source reaches {options.mask_min_jy:g} Jy behind the beam of {vis.field_name or 'the set'}: "
            "import a catalog, lower --mask-min-jy, or give --mask auto"
        )
    if chosen is None:
        return mask
    radius = np.radians(options.mask_arcsec / 3600.0) / field.cell_rad
    reach = int(np.ceil(radius)) + 1
    for lmn in sky_directions(vis, chosen):
        x, y = field.size // 2 - lmn[0] / field.cell_rad, field.size // 2 + lmn[1] / field.cell_rad
        if lmn[2] > 0.0 and -reach < x < field.size + reach and -reach < y < field.size + reach:
            rows = np.arange(max(0, int(y) - reach), min(field.size, int(y) + reach + 1))
            columns = np.arange(max(0, int(x) - reach), min(field.size, int(x) + reach + 1))
            mask[np.ix_(rows, columns)] |= np.hypot(rows[:, None] - y, columns[None, :] - x) <= radius
    return mask


def _bright_enough(vis: Visibilities, sky: SkyModel | None, options: ImagingOptions) -> SkyModel | None:
    if sky is None or len(sky) == 0:
        return sky
    return sky.select(apparent_spectrum(vis, sky).mean(axis=1) >= options.mask_min_jy)
