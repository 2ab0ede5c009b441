"""Normal equations of sources against numerical derivatives of a plain sum."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.source_fit import source_normal_equations

C = 299792458.0
SEED = 20260110
SPACING_HZ = 2e6
FULL_HZ = 1.4e9 + SPACING_HZ * np.arange(16, dtype=np.float64)


def model(
    uvw: NDArray[np.float64], lm: NDArray[np.float64], factor: NDArray[np.float64], amplitude: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Sum sources at full resolution, then average pairs of channels."""
    total = np.zeros((uvw.shape[0], 16), complex)
    for s in range(len(factor)):
        lmn = np.array([*lm[s], np.sqrt(1 - lm[s] @ lm[s]) - 1])
        total += factor[s] * amplitude[s] * np.exp(2j * np.pi * (uvw @ lmn)[:, None] * FULL_HZ / C)
    return np.asarray(total.reshape(-1, 8, 2).mean(axis=2))


@pytest.mark.parametrize("shifted", [False, True])
def test_one_step_finds_fluxes_and_positions(shifted: bool) -> None:
    rng = np.random.default_rng(SEED)
    uvw = rng.normal(0.0, 300.0, (500, 3))
    lm = np.array([[0.02, -0.01], [-0.013, 0.004]])
    amplitude = np.array([5.0, 2.0])
    truth = np.array([1.1, 0.93])
    moved = lm + np.radians(np.array([[0.4, -0.3], [-0.2, 0.5]]) / 3600.0) * shifted
    vis = model(uvw, moved, truth, amplitude).astype(np.complex64)
    weights = rng.uniform(0.0, 2.0, vis.shape).astype(np.float32)
    weights[:9] = 0.0
    vis[:9] = 1e6
    lmn = np.column_stack([lm, np.sqrt(1 - np.sum(lm**2, axis=1))])
    planes = np.broadcast_to(amplitude[None, :, None], (1, 2, 8)).copy()
    matrix, vector = source_normal_equations(
        (vis, weights), uvw, np.zeros(500, np.int64), (FULL_HZ.reshape(8, 2).mean(axis=1), 2, SPACING_HZ),
        (lmn, np.zeros((2, 2, 3))), planes, np.ones(2),
    )  # fmt: skip
    np.testing.assert_allclose(matrix, matrix.T)
    step = np.linalg.solve(matrix, vector).reshape(2, 3)
    np.testing.assert_allclose(1.0 + step[:, 0], truth, rtol=5e-4 if shifted else 2e-5)
    # The derivative of a position scales with the flux assumed, which is up to 10 % off in the first round.
    np.testing.assert_allclose(step[:, 1:], (moved - lm) * truth[:, None], atol=np.radians(0.005 / 3600.0))


def test_a_gaussian_has_the_flux_that_its_short_baselines_show() -> None:
    rng = np.random.default_rng(SEED)
    uvw = rng.normal(0.0, 1000.0, (400, 3))
    lm = np.array([[0.02, -0.01]])
    axes = np.array([[[2e-13, 1e-13, 0.0], [-4e-14, 8e-14, 0.0]]])
    taper = np.exp(-np.sum((uvw @ axes[0].T) ** 2, axis=1)[:, None] * FULL_HZ**2)
    lmn = np.append(lm[0], np.sqrt(1.0 - lm[0] @ lm[0]))
    phase = 2.0 * np.pi * (uvw @ (lmn - [0.0, 0.0, 1.0]))[:, None] * FULL_HZ / C
    vis = (3.0 * 1.07 * taper * np.exp(1j * phase)).astype(np.complex64)
    amplitude, weights = np.full((1, 1, 16), 3.0), np.ones(vis.shape, np.float32)

    def flux(shape: NDArray[np.float64]) -> float:
        matrix, vector = source_normal_equations(
            (vis, weights), uvw, np.zeros(400, np.int64), (FULL_HZ, 1, SPACING_HZ),
            (lmn[None, :], shape), amplitude, np.ones(1),
        )  # fmt: skip
        return float(1.0 + np.linalg.solve(matrix, vector)[0])

    assert taper.min() < 0.3
    assert flux(axes) == pytest.approx(1.07, rel=1e-4)
    assert flux(np.zeros((1, 2, 3))) < 0.98
