r"""What an image shows of a source of 1 Jy, by direction: the primary beam, less the loss by averaging.

The beam is the mean over pointings and channels (`kernels.beams`). Averaging, the correlator's over an integration and
a channel and our own over channels, takes the mean of D (`kernels.smearing`) off the peak of a point source; an image
is divided by the product, so that a source shows its flux wherever it lies.

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
from dsa110_contimg.imaging.samples import Block
from dsa110_contimg.kernels.beams import BeamMap, from_nodes, image_nodes, mean_beam_image
from dsa110_contimg.kernels.predict import motion_axis
from dsa110_contimg.kernels.smearing import mean_loss
from dsa110_contimg.telescope import DISH_DIAMETER_M
from dsa110_contimg.visibilities import Visibilities

NODES = 25
MOST_ROWS = 4000
"""The loss is so smooth that some of the rows tell it."""
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
    vis: Visibilities, field: Field, weight: NDArray[np.float64], blocks: list[Block], *, smeared: bool
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
    blocks
        With imaging weights.
    smeared
        Whether the correlator's averaging counts, beside our own.
    """
    if vis.pointing_mjd.size == 0:
        return None
    ra, dec = np.radians(vis.phase_center)
    beam = mean_beam_image(
        field.size, field.cell_rad * vis.aberration, (float(ra), float(dec)), np.radians(vis.pointing_icrs_deg),
        vis.freq_hz, weight, vis.beam_map or DISH_DIAMETER_M,
    )  # fmt: skip
    nodes, directions = image_nodes(field.size, NODES)
    lm = directions * field.cell_rad
    lmn = np.column_stack([lm, np.sqrt(np.maximum(0.0, 1.0 - np.sum(lm**2, axis=1)))])
    return np.asarray(beam * from_nodes(nodes, loss_toward(vis, blocks, lmn, smeared=smeared), field.size))


def loss_toward(
    vis: Visibilities, blocks: list[Block], lmn: NDArray[np.float64], *, smeared: bool
) -> NDArray[np.float64]:
    """Return what averaging leaves of point sources, shape (n_direction,).

    Parameters
    ----------
    vis
        Gives integration and channels.
    blocks
        With imaging weights.
    lmn
        (n_direction, 3), in the frame of the uvw.
    smeared
        Whether the correlator's averaging counts, beside our own.
    """
    step = max(1, sum(block.rows.size for block in blocks) // MOST_ROWS)
    uvw, freq, weight, n_average = [], [], [], []
    for block in blocks:
        chosen = block.weights[::step]
        total = chosen.sum(axis=1, dtype=np.float64)
        uvw.append(block.uvw_m[::step])
        freq.append(chosen @ block.freq_hz / np.where(total > 0.0, total, 1.0))
        weight.append(total)
        n_average.append(np.full(total.size, block.n_average))
    if not sum(part.sum() for part in weight) > 0.0:
        return np.ones(lmn.shape[0])
    moving = motion_axis(lmn, np.radians(vis.phase_center.dec_deg), vis.integration_s)[:, 0]
    rows = np.concatenate(freq), np.concatenate(weight), np.concatenate(n_average)
    moving = moving if smeared else np.zeros_like(moving)
    return np.asarray(mean_loss(np.concatenate(uvw), rows, vis.channel_width_hz, lmn, moving))
