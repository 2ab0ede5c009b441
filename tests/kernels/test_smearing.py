"""The loss by averaging, against a plain one, and its separation into products."""

import numpy as np

from dsa110_contimg.kernels.predict import smearing_axes
from dsa110_contimg.kernels.smearing import averaging_loss, separated

C = 299792458.0
CENTER = np.array([0.0, 0.0, 1.0])
SPACING = 2.4e5


def directions(lm: np.ndarray) -> np.ndarray:
    return np.column_stack([lm, np.sqrt(1.0 - (lm**2).sum(axis=1))])


def test_the_loss_is_that_of_integration_channel_and_our_own_mean() -> None:
    rng = np.random.default_rng(20261121)
    uvw, freq = rng.normal(0.0, 700.0, (50, 3)), rng.uniform(1.3e9, 1.5e9, 50)
    n_average, when = rng.choice([1, 2, 4], 50), np.arange(50) % 2
    lmn = directions(np.array([[0.0, 0.0], [0.02, -0.01], [-0.03, 0.025]]))
    followed = directions(np.array([[0.008, 0.0], [-0.008, 0.0]]))
    axes = smearing_axes(lmn, followed, 0.6, 12.9)
    delay = uvw @ (lmn - CENTER).T / C
    own = np.sinc(n_average[:, None] * SPACING * delay) / np.sinc(SPACING * delay)
    whole = np.empty_like(own)
    for row in range(50):
        turned, away = (axes[:, 2 * when[row] + step] @ uvw[row] for step in (0, 1))
        np.testing.assert_allclose(away, (lmn - followed[when[row]]) @ uvw[row] / C, rtol=1e-9)
        whole[row] = own[row] * np.sinc(freq[row] * turned) * np.sinc(SPACING * away)
    taper = np.zeros((3, 2, 3))
    rows = freq, n_average
    np.testing.assert_allclose(averaging_loss(uvw, when, rows, SPACING, lmn, taper), own, rtol=1e-9)
    found = averaging_loss(uvw, when, rows, SPACING, lmn, np.concatenate([taper, axes], axis=1))
    np.testing.assert_allclose(found, whole, rtol=1e-9)
    assert 0.0 < 1.0 - whole[:, 0].mean() < 0.2 * (1.0 - whole[:, 2].mean())


def test_a_few_products_make_the_loss() -> None:
    """To the tolerance, with fewer terms the coarser it is; one where nothing is lost."""
    rng = np.random.default_rng(5)
    weight, rate = rng.uniform(0.5, 2.0, 300), rng.normal(0.0, 1.0, (300, 2))
    east, north = (axis.ravel() for axis in np.meshgrid(np.linspace(-1.0, 1.0, 7), np.linspace(-1.0, 1.0, 7)))
    loss = np.sinc(0.3 * (np.outer(rate[:, 0], east) + np.outer(rate[:, 1], north)))
    n_term = []
    for tolerance in (1e-1, 1e-2, 1e-3):
        factors = separated(loss, weight, tolerance)
        np.testing.assert_allclose(factors @ factors.T / east.size, np.eye(len(factors)), atol=1e-9)
        left = loss - (loss @ factors.T / east.size) @ factors
        assert np.sqrt(np.average((left**2).mean(axis=1), weights=weight)) < tolerance
        n_term.append(len(factors))
    assert n_term == sorted(set(n_term))
    assert len(separated(np.ones((9, 4)), np.ones(9), 1e-3)) == 1
