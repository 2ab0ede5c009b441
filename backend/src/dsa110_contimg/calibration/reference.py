"""Phases mean something relative to a reference antenna.

Every set of gains is free by one phase per interval, channel and polarization. We choose it so that the reference
antenna's phase is zero, separately in each polarization. Where the reference has no solution for a while, or in some
channels, phases stay referred to it through the others: the slot is turned so that, on the mean over antennas, phases
run on from the nearest slots that have the reference. In a polarization in which it is dead, the antenna with the most
solutions stands in.
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


def anchors(gains: NDArray[np.complex128], reference: int) -> NDArray[np.int64]:
    """Return the antenna of each polarization whose phase is zero, (n_pol,).

    The reference, or where it has no solution at all in a polarization, the antenna with the most.
    """
    solved = (gains != 0.0).sum(axis=(0, 2))
    return np.where(solved[reference] > 0, reference, solved.argmax(axis=0))


def referenced(gains: NDArray[np.complex128], reference: int) -> NDArray[np.complex128]:
    """Return gains (n_interval, n_antenna, n_group, n_pol) with the reference antenna's phase zero.

    Zero marks a missing solution. A slot (interval and group) in which the reference has none is turned so that the
    other antennas go on from its neighbors: the nearest groups on either side that have the reference, in the same
    interval, or else the nearest intervals.
    """
    turned = gains.copy()
    for pol, anchor in enumerate(anchors(gains, reference)):
        size = np.abs(gains[:, anchor, :, pol])
        there = size > 0.0
        turn = np.where(there, np.conj(gains[:, anchor, :, pol]) / np.where(there, size, 1.0), 1.0)
        turned[..., pol] = gains[..., pol] * turn[:, None]
        turned[:, anchor, :, pol] = size
        _carry_on(turned[..., pol], there)
    return turned


def _carry_on(gains: NDArray[np.complex128], there: NDArray[np.bool_]) -> None:
    """Turn the slots of (n_interval, n_antenna, n_group) that lack the reference, in place; zero those that cannot."""
    some = np.asarray(there.any(axis=1))
    missing = ~there & (gains != 0.0).any(axis=1)
    for interval, group in np.argwhere(missing):
        near = _neighbors(there[interval], int(group))
        beside = [(gains[interval, :, i], share) for i, share in near]
        if not near:
            near = _neighbors(some, int(interval))
            beside = [(gains[i, :, group], share) for i, share in near]
        slot = gains[interval, :, group]
        want = sum((share * _phasors(values) for values, share in beside), np.zeros(slot.size, np.complex128))
        total = np.vdot(_phasors(slot), want)
        gains[interval, :, group] = slot * total / abs(total) if abs(total) > 0.0 else 0.0


def _neighbors(there: NDArray[np.bool_], place: int) -> list[tuple[int, float]]:
    """Return the nearest places on either side that are there, and their shares (the nearer the more)."""
    places = np.flatnonzero(there)
    cut = np.searchsorted(places, place)
    found = [int(i) for i in (*places[max(cut - 1, 0) : cut], *places[cut : cut + 1])]
    return [(i, 1.0 / abs(i - place)) for i in found]


def _phasors(gains: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return gains of length one, zero where there is none."""
    size = np.abs(gains)
    return np.asarray(np.where(size > 0.0, gains / np.where(size > 0.0, size, 1.0), 0.0))
