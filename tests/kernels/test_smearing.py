"""The mean loss by averaging, against a plain sum."""

import numpy as np

from dsa110_contimg.kernels.predict import motion_axis
from dsa110_contimg.kernels.smearing import mean_loss

C = 299792458.0


def test_the_mean_loss_is_the_weighted_sum_over_rows() -> None:
    rng = np.random.default_rng(20261121)
    uvw, weight, freq = rng.normal(0.0, 700.0, (50, 3)), rng.uniform(0.5, 2.0, 50), rng.uniform(1.3e9, 1.5e9, 50)
    n_average = rng.choice([1, 2, 4], 50)
    lm = np.array([[0.0, 0.0], [0.02, -0.01], [-0.03, 0.025]])
    lmn = np.column_stack([lm, np.sqrt(1.0 - (lm**2).sum(axis=1))])
    motion, spacing = motion_axis(lmn, 0.6, 12.9)[:, 0], 2.4e5
    delay = uvw @ (lmn - [0.0, 0.0, 1.0]).T / C
    own = np.sinc(n_average[:, None] * spacing * delay) / np.sinc(spacing * delay)
    both = own * np.sinc(spacing * delay) * np.sinc(freq[:, None] * (uvw @ motion.T))
    rows = freq, weight, n_average
    for axis, loss in ((motion, both), (np.zeros_like(motion), own)):
        found = mean_loss(uvw, rows, spacing, lmn, axis)
        np.testing.assert_allclose(found, weight @ loss / weight.sum(), rtol=1e-6)
        assert abs(found[0] - 1.0) < 1e-15
    assert both[:, 2].min() < 0.98, "the loss is worth correcting here"
