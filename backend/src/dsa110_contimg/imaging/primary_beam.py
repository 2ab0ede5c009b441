r"""What an image shows of a source of 1 Jy, by direction: the primary beam, less the loss by averaging.

The beam is the mean over pointings and channels (`kernels.beams`), with the spectrum of the source: as the beam
narrows toward high frequencies, a steep source shows 0.2 % more than a flat one at the center and 0.5 % where the beam
is 0.3. Averaging, the correlator's over an integration and a channel and our own over channels, takes some off the
peak of a point source (`smearing`); an image is divided by the product, so that a source shows its flux wherever it
lies.

A FITS image of the power beam, the pointing at its reference pixel, can take the place of the Airy disk. If it has a
frequency it is stretched with the wavelength, else it holds for the whole band.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ImagingError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.smearing import AveragingLoss, image_directions
from dsa110_contimg.kernels.beams import BeamMap, from_nodes, mean_beam_image
from dsa110_contimg.telescope import DISH_DIAMETER_M
from dsa110_contimg.visibilities import Visibilities

NODES = 25
PEAK_TOLERANCE = 0.02


def with_beam_file(vis: Visibilities, path: str) -> Visibilities:
    """Return visibilities that were seen through the beam of a file; unchanged without one.

    Raises
    ------
    BadInputError
        If the file is no image.
    ImagingError
        If it is not a beam of 1 toward the pointing.
    """
    if not path:
        return vis
    picture = fits_image.load(Path(path))
    (x, y), (ny, nx) = picture.center_pixel, picture.data.shape
    power = np.nan_to_num(picture.data.astype(np.float64))
    inside = 0.0 <= x <= nx - 1.0 and 0.0 <= y <= ny - 1.0
    peak = float(power[round(y), round(x)]) if inside else float("nan")
    if not abs(peak - 1.0) <= PEAK_TOLERANCE:
        raise ImagingError(
            f"{path} is {peak:.3g} at its reference pixel: a beam is 1 toward the pointing; scale it, or set CRPIX"
        )
    reach = max(x, nx - 1.0 - x, y, ny - 1.0 - y)
    size = 2 * int(np.ceil(reach)) + 1
    centered = np.zeros((size, size))
    first_y, first_x = size // 2 - round(y), size // 2 - round(x)
    centered[first_y : first_y + ny, first_x : first_x + nx] = power
    return replace(vis, beam_map=BeamMap(centered, float(np.radians(picture.cell_deg)), picture.freq_hz))


def response_image(
    vis: Visibilities, field: Field, weight: NDArray[np.float64], loss: AveragingLoss, spectral_index: float
) -> NDArray[np.float32] | None:
    """Return what the image shows of a source of 1 Jy at each pixel, (size, size); None if the beam is not known.

    Parameters
    ----------
    vis
        Gives phase center, pointings and channels.
    field
        The pixel grid.
    weight
        (n_pointing, n_chan), imaging weights.
    loss
        By averaging.
    spectral_index
        Of the source, whose 1 Jy is at the mean frequency of the weights.
    """
    if vis.pointing_mjd.size == 0:
        return None
    mean_hz = float((weight @ vis.freq_hz).sum() / weight.sum())
    spectrum = weight * (vis.freq_hz / mean_hz) ** spectral_index
    ra, dec = np.radians(vis.phase_center)
    beam = mean_beam_image(
        field.size, field.cell_rad * vis.aberration, (float(ra), float(dec)), np.radians(vis.pointing_icrs_deg),
        vis.freq_hz, spectrum, vis.beam_map or DISH_DIAMETER_M,
    )  # fmt: skip
    beam *= spectrum.sum() / weight.sum()
    nodes, lmn = image_directions(field, NODES)
    return np.asarray(beam * from_nodes(nodes, loss.mean(lmn), field.size))
