"""Gains of antennas cancel around a triangle: calibration must leave closure phases as the sky made them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities

OPTIONS = CalibrationOptions()


def closure(vis: Visibilities) -> NDArray[np.complex128]:
    """Return V₁₂ V₂₃ V₃₁ of every triangle, (n_time, n_triangle, n_chan, n_pol); NaN where a side is flagged."""
    n = vis.n_antennas
    cube = np.full((vis.times_mjd.size, n, n, *vis.vis.shape[1:]), np.nan + 0j)
    cube[np.searchsorted(vis.times_mjd, vis.time_mjd), vis.antenna1, vis.antenna2] = np.where(
        vis.flags, np.nan, vis.vis
    )
    one, two, three = np.array([(i, j, k) for i in range(n) for j in range(i + 1, n) for k in range(j + 1, n)]).T
    return np.asarray(cube[:, one, two] * cube[:, two, three] * np.conj(cube[:, one, three]))


@pytest.mark.parametrize("kind", ["G", "GP", "2G"])
def test_closure_phases_outlive_every_kind_of_gain_even_from_a_wrong_model(
    kind: str,
    make_tile: Callable[..., Visibilities],
    make_gains: Callable[..., NDArray[np.complex128]],
    sky: SkyModel,
) -> None:
    vis = make_tile(make_gains(delays_ns=40.0), n_time=10)
    before = closure(vis)
    amiss = sky.select(np.arange(3))
    apply(vis, solve_bandpass(vis, amiss, OPTIONS, source="3C48", flux_anchor="3C48"), OPTIONS, measure_weights=False)
    table = solve_gains(vis, amiss, OPTIONS, kind=kind, source="3C48", flux_anchor="3C48")  # type: ignore[arg-type]
    apply(vis, [table], OPTIONS)
    after = closure(vis)
    there = np.isfinite(after)
    assert there.mean() == pytest.approx(np.isfinite(before).mean(), rel=0.01)
    turned = np.abs(np.angle(after[there] * np.conj(before[there])))
    print(f"{there.sum()} closure phases, at most {turned.max():.1e} rad apart")
    assert np.abs(np.angle(before[there])).max() > 0.3, "the sky is no point, or the test says little"
    assert turned.max() < 1e-5
