r"""What averaging leaves of sources, in the image and in the model of CLEAN.

The peak of a point source falls by ⟨D⟩, the mean of D (`kernels.smearing`) with the weights of the image, and the image
is divided by it. That holds for what is in the dirty image. CLEAN, whose components are points, would describe the
fading on long baselines by components beside each other; restored with the beam, these lose another fraction, which
depends on how deep a source was cleaned. So the visibilities of a component of c Jy/beam are c D/⟨D⟩: it takes c off
the peak as it should, faint and bright sources lose the same, and ⟨D⟩ holds for all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.samples import Block, nearest_pointing, parts
from dsa110_contimg.kernels.beams import airy_radius, image_nodes
from dsa110_contimg.kernels.predict import smearing_axes
from dsa110_contimg.kernels.smearing import averaging_loss, separated
from dsa110_contimg.telescope import DISH_DIAMETER_M
from dsa110_contimg.visibilities import Visibilities, followed_directions

MOST_ROWS = 4000
"""The loss is so smooth that some of the rows tell it."""
NODES = 7
LEFT_OUT = 6e-3
"""rms of D/⟨D⟩ that the model of CLEAN may do without: on a full tile, 0.25 % of a flux where the beam is above 0.3."""
TOLD_LEVEL = 0.5
"""Beam within which D/⟨D⟩ is separated; beyond it stays what it is there."""


class AveragingLoss:
    """D of the rows of a set toward any direction."""

    def __init__(self, vis: Visibilities, blocks: list[Block], *, smeared: bool) -> None:
        """Take rows with imaging weights.

        Parameters
        ----------
        vis
            Gives integration, channels and where the dishes looked.
        blocks
            With imaging weights.
        smeared
            Whether the correlator's averaging counts, beside our own.
        """
        self._vis, self._smeared = vis, smeared
        pointing = nearest_pointing(vis)
        self.uvw_m = np.concatenate([block.uvw_m for block in blocks])
        self.time_index = np.concatenate([pointing[block.rows] for block in blocks])
        self.n_average = np.concatenate([np.full(block.rows.size, block.n_average) for block in blocks])
        self.weight = np.concatenate([block.weights.sum(axis=1, dtype=np.float64) for block in blocks])
        turned = np.concatenate([block.weights @ block.freq_hz for block in blocks])
        self.freq_hz = turned / np.where(self.weight > 0.0, self.weight, 1.0)

    def toward(self, lmn: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
        """Return D of some rows toward directions (n_direction, 3) in the frame of the uvw, (n_row, n_direction)."""
        axes = np.zeros((len(lmn), 2, 3))
        if self._smeared:
            dec = float(np.radians(self._vis.phase_center.dec_deg))
            away = smearing_axes(lmn, followed_directions(self._vis), dec, self._vis.integration_s)
            axes = np.concatenate([axes, away], axis=1)
        known = self.freq_hz[rows], self.n_average[rows]
        where = np.ascontiguousarray(self.uvw_m[rows]), np.ascontiguousarray(self.time_index[rows])
        return np.asarray(averaging_loss(*where, known, self._vis.channel_width_hz, lmn, axes))

    def some(self, lmn: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return D of every so-manieth row toward directions, and those rows' weights; no row without a weight."""
        step = max(1, self.weight.size // MOST_ROWS)
        weight = self.weight[::step]
        if not weight.sum() > 0.0:
            return np.ones((1, len(lmn))), np.ones(1)
        return self.toward(lmn, slice(None, None, step)), weight

    def mean(self, lmn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ⟨D⟩ toward directions, (n_direction,)."""
        loss, weight = self.some(lmn)
        return np.asarray(weight @ loss / weight.sum())


@dataclass(frozen=True)
class SeparatedLoss:
    """D/⟨D⟩ as a sum of products of a factor of the row and one of the direction."""

    of_row: NDArray[np.float32]
    """(n_term, n_row), rows of the blocks one after the other."""
    splines: tuple[RectBivariateSpline, ...]
    """One per term, of (y, x) in pixels from the phase center."""

    def at(self, term: int, offsets: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a term's factor of directions, (n_pixel,); `offsets` are (y, x) in pixels from the phase center."""
        return np.asarray(self.splines[term](offsets[:, 0], offsets[:, 1], grid=False))


def image_directions(field: Field, n_node: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return evenly spaced nodes over an image, and their directions in the frame of the uvw, (n_node², 3)."""
    nodes, directions = image_nodes(field.size, n_node)
    lm = directions * field.cell_rad
    return nodes, np.column_stack([lm, np.sqrt(np.maximum(0.0, 1.0 - np.sum(lm**2, axis=1)))])


def separate(loss: AveragingLoss, field: Field) -> SeparatedLoss:
    """Return the loss relative to its mean, in as few terms as describe it over an image or the beam."""
    reach = (
        airy_radius(TOLD_LEVEL, loss.freq_hz[loss.weight > 0.0].mean(keepdims=True), DISH_DIAMETER_M) / field.cell_rad
    )
    nodes, lmn = image_directions(field._replace(size=min(field.size, 2 * int(reach))), NODES)
    some, weight = loss.some(lmn)
    mean = weight @ some / weight.sum()
    factors = separated(some / mean, weight, LEFT_OUT)
    onto = factors.T / (mean[:, None] * len(lmn))
    of_row = np.empty((len(factors), loss.weight.size), np.float32)
    for rows in parts(loss.weight.size):
        of_row[:, rows] = (loss.toward(lmn, rows) @ onto).T
    shape = nodes.size, nodes.size
    return SeparatedLoss(of_row, tuple(RectBivariateSpline(nodes, nodes, one.reshape(shape)) for one in factors))
