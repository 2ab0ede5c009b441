"""When CLEAN goes on, how deep, and when it ends."""

import numpy as np
import pytest

from dsa110_contimg.imaging.deconvolve import _Plan, _plan, cycle_depth
from dsa110_contimg.options import ImagingOptions

OPTIONS = ImagingOptions(mgain=0.8, auto_mask=5.0, auto_threshold=1.0)
NOISE = 0.001


@pytest.mark.parametrize(
    ("peak", "last", "expected"),
    [
        (1.0, None, _Plan(1.0, 0.2, final=False)),
        (0.004, None, _Plan(0.004, 0.001, final=True)),
        (0.0009, None, None),
        (0.2, _Plan(1.0, 0.2, final=False), _Plan(0.2, 0.04, final=False)),
        (0.9, _Plan(1.0, 0.2, final=False), _Plan(0.9, 0.18, final=False)),
        (0.009, _Plan(0.012, 0.0024, final=False), _Plan(0.009, 0.001, final=True)),
        (0.0049, _Plan(0.02, 0.001, final=True), None),
        (0.0051, _Plan(0.02, 0.001, final=True), _Plan(0.0051, 0.00102, final=False)),
        (0.0085, _Plan(0.009, 0.001, final=True), None),
    ],
)
def test_the_next_cycle(peak: float, last: _Plan | None, expected: _Plan | None) -> None:
    found = _plan(peak, NOISE, 1e-6, last, OPTIONS)
    if expected is None or found is None:
        assert found is expected
    else:
        assert found.final == expected.final
        assert found.stop == pytest.approx(expected.stop)
        assert found.peak == expected.peak


def test_without_noise_the_accuracy_of_the_gridder_is_the_floor() -> None:
    assert _plan(1e-7, 0.0, 1e-6, None, OPTIONS) is None
    plan = _plan(1e-4, 0.0, 1e-6, None, OPTIONS)
    assert plan is not None
    assert plan.stop == pytest.approx(2e-5)


@pytest.mark.parametrize(("sidelobe", "depth"), [(0.02, 0.9), (0.007, 0.93), (0.001, 0.95)])
def test_low_sidelobes_allow_deeper_cycles(sidelobe: float, depth: float) -> None:
    signs = np.where(np.random.default_rng(20261121).random((200, 200)) < 0.5, -1.0, 1.0)
    psf = (sidelobe * signs).astype(np.float32)
    psf[95:106, 95:106] = 1.0
    assert cycle_depth(psf, 5.0, 0.9) == pytest.approx(depth, abs=0.002)
