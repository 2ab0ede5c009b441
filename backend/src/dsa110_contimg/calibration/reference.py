"""Phases mean something relative to a reference antenna.

Every set of gains is free by one phase per interval, channel and polarization. We choose it so that the reference
antenna's phase is zero, separately in each polarization. Where the reference has no solution, nobody has one.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.visibilities import Visibilities

CLOSE_TO_BEST = 0.02


def choose_reference(
    vis: Visibilities,
    antennas: NDArray[np.int64],
    solved: NDArray[np.bool_],
    snr: NDArray[np.float64],
    wanted: str = "",
) -> int:
    """Return which of the *antennas* (an index into them) the phases are referred to.

    Parameters
    ----------
    vis
        Gives names and positions.
    antennas
        Table indices of the antennas that were solved.
    solved, snr
        (n_interval, n_antenna, n_group, n_pol), from the solver.
    wanted
        A name; empty takes, among the antennas with (nearly) the most solutions, the half that is nearest to the
        array's median position, and of these the one with the highest median signal-to-noise ratio.

    Raises
    ------
    CalibrationError
        If the wanted antenna has no solution, or none has.
    """
    names = [vis.antenna_names[i] for i in antennas]
    share = solved.mean(axis=(0, 2, 3))
    if not share.any():
        raise CalibrationError(
            f"no antenna of {vis.field_name or 'the tile'} has a solution: look at its flags and at its sky model"
        )
    if wanted:
        if wanted not in names or share[names.index(wanted)] == 0.0:
            raise CalibrationError(
                f"reference antenna {wanted} has no data: name another, or none to pick the healthiest"
            )
        return names.index(wanted)
    both = solved.any(axis=(0, 2)).min(axis=1)
    healthy = (share >= share.max() - CLOSE_TO_BEST) & both
    candidates = np.flatnonzero(healthy if healthy.any() else share == share.max())
    position = vis.antenna_itrf_m[antennas]
    middle = np.nanmedian(position, axis=0) if np.isfinite(position).all(axis=1).any() else np.zeros(3)
    distance = np.linalg.norm(position[candidates] - middle, axis=1)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    central = candidates[np.argsort(distance, kind="stable")[: (candidates.size + 1) // 2]]
    strength = np.median(np.where(solved, snr, 0.0)[:, central], axis=(0, 2, 3))
    return int(central[strength.argmax()])


def referenced(gains: NDArray[np.complex128], reference: int) -> NDArray[np.complex128]:
    """Return gains (n_interval, n_antenna, n_group, n_pol) with the reference antenna's phase zero.

    Zero marks a missing solution; where the reference's is missing, all are.
    """
    anchor = gains[:, reference : reference + 1]
    size = np.abs(anchor)
    turned = gains * np.where(size > 0.0, np.conj(anchor) / np.where(size > 0.0, size, 1.0), 0.0)
    turned[:, reference] = np.abs(gains[:, reference])
    return np.asarray(turned)
