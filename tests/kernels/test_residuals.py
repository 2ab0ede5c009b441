"""What neighbors do not share is what the definition says, by sums that are made in other ways."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.residuals import LEAST_REACH, less_channels, less_times, open_channels, open_times


def by_definition(u: NDArray[np.float32], others: NDArray[np.float32], half: int) -> NDArray[np.float64]:
    """|D|² along the last axis."""
    n = u.shape[2]
    out = np.full(u.shape[1:], -1.0)
    value, near = u[0] + 1j * u[1], others[0] + 1j * others[1]
    for place in range(n):
        reach = max(min(half, place, n - 1 - place), min(half, LEAST_REACH))
        around = [i for i in range(max(place - reach, 0), min(place + reach + 1, n)) if i != place]
        number = others[2][:, around].sum(axis=1)
        mean = near[:, around].sum(axis=1) / np.maximum(number, 1.0)
        power = np.abs(value[:, place] - mean) ** 2 * number / (number + 1.0)
        out[:, place] = np.where((number >= 1) & (u[2, :, place] > 0), power, -1.0)
    return out


@pytest.mark.parametrize(("half", "n"), [(2, 40), (4, 40), (8, 40), (16, 40), (2, 3), (8, 12), (16, 5)])
def test_residuals_are_what_they_are_by_definition(half: int, n: int) -> None:
    print(f"seed {half}")
    rng = np.random.default_rng(half)
    u = rng.standard_normal((3, 24, n)).astype(np.float32)
    u[2] = rng.random((24, n)) < 0.9
    others = (u * (rng.random((24, n)) < 0.8)).astype(np.float32)
    others *= others[2]
    out = np.empty((24, n), np.float32)
    less_channels(u, others, half, out)
    np.testing.assert_allclose(out, by_definition(u, others, half), rtol=2e-4, atol=1e-5)
    turned, near = (np.ascontiguousarray(a.swapaxes(1, 2)) for a in (u, others))
    out = np.empty((n, 24), np.float32)
    less_times(turned, near, half, out)
    np.testing.assert_allclose(out.T, by_definition(u, others, half), rtol=2e-4, atol=1e-5)


def test_an_opening_takes_away_what_is_narrow() -> None:
    plane = np.zeros((24, 40), np.float32)
    plane[:, 5:8], plane[:, 20:24], plane[:, 36:] = 3.0, 4.0, 9.0
    along = plane.T.copy()
    open_channels(plane, 5.0)
    assert not plane[:, :20].any()
    assert (plane[:, 20:24] == 4.0).all()
    assert (plane[:, 36:] == 5.0).all()
    open_times(along, np.empty((3, 40, 24), np.float32), 5.0)
    np.testing.assert_array_equal(along.T, plane)
