"""Normal equations against numpy; cells that misfit lose their say; noise is measured."""

from typing import NamedTuple

import numpy as np
import pytest

from dsa110_contimg.kernels.baselines import BaselineRows, baseline_rows
from dsa110_contimg.kernels.normal_equations import Equations, accumulate, combine, drop_absurd, noise_power

N_ANT, N_TIME, N_CHAN = 4, 6, 5


class Data(NamedTuple):
    vis: np.ndarray
    flags: np.ndarray
    weights: np.ndarray
    model: np.ndarray
    antenna1: np.ndarray
    antenna2: np.ndarray
    minute: np.ndarray

    @property
    def rows(self) -> BaselineRows:
        return baseline_rows(self.antenna1, self.antenna2)

    def cells(self) -> Equations:
        return accumulate(self.vis, self.flags, self.weights, self.model, self.rows, self.minute)


def random_data(seed: int, n_ant: int = N_ANT, n_time: int = N_TIME, n_chan: int = N_CHAN) -> Data:
    print(f"data seed {seed}")
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(n_ant)
    antenna1, antenna2 = np.tile(first, n_time).astype(np.int32), np.tile(second, n_time).astype(np.int32)
    shape = (antenna1.size, n_chan, 2)
    vis = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    model = (rng.normal(size=shape[:2]) + 1j * rng.normal(size=shape[:2])).astype(np.complex64)
    flags = rng.random(shape) < 0.2
    weights = rng.uniform(0.5, 2.0, (antenna1.size, 2)).astype(np.float32)
    minute = np.repeat(np.arange(n_time) // 2, first.size)
    return Data(vis, flags, weights, model, antenna1, antenna2, minute)


def test_normal_equations_are_their_definition() -> None:
    data = random_data(1)
    data.vis[data.flags] = np.nan
    rng = np.random.default_rng(2)
    shape = (3, N_ANT, N_CHAN, 2)
    known = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    into, group = np.array([0, 0, 1]), np.array([0, 0, 1, 1, 1])
    cross, power = combine(data.cells(), known, data.rows, (into, group))
    seen = known[data.minute, data.antenna1] * data.model[:, :, None] * np.conj(known[data.minute, data.antenna2])
    weighted = np.where(data.flags, 0.0, data.weights[:, None, :])
    one = weighted * np.where(data.flags, 0.0, data.vis) * np.conj(seen)
    two = weighted * np.abs(seen) ** 2
    for base, (p, q) in enumerate(zip(data.rows.first, data.rows.second, strict=True)):
        for slot in range(2):
            mine = (data.antenna1 == p) & (data.antenna2 == q) & (into[data.minute] == slot)
            for g in range(2):
                want = one[mine][:, group == g].sum(axis=(0, 1)), two[mine][:, group == g].sum(axis=(0, 1))
                np.testing.assert_allclose(cross[base, slot, g], want[0], rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(power[base, slot, g], want[1], rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, complex(1.0, np.nan), -np.inf * 1j])
def test_what_is_no_number_or_zero_takes_no_part(bad: complex) -> None:
    data = random_data(3)
    want = data.cells()
    data.vis[data.flags] = bad
    data.flags[:] = False
    got = data.cells()
    np.testing.assert_array_equal(got.cross, want.cross)
    np.testing.assert_array_equal(got.power, want.power)


def noisy(sigma: float) -> Data:
    data = random_data(5, n_ant=6, n_time=8, n_chan=64)
    rng = np.random.default_rng(6)
    noise = rng.normal(0.0, sigma, (*data.vis.shape, 2))
    vis = (data.model[:, :, None] + noise[..., 0] + 1j * noise[..., 1]).astype(np.complex64)
    return data._replace(vis=vis, weights=np.ones_like(data.weights))


def test_the_noise_of_each_baseline_is_measured_below_interference() -> None:
    data = noisy(0.3)
    loud = (data.antenna1 == 0) & (data.antenna2 == 1)
    data.vis[loud] = data.model[loud][:, :, None] + 3.0 * (data.vis[loud] - data.model[loud][:, :, None])
    data.vis[::7, ::9] += 500.0
    power = noise_power(data.cells(), np.ones((1, 6, 1, 2), np.complex64), data.rows)
    base = int(np.flatnonzero((data.rows.first == 0) & (data.rows.second == 1))[0])
    np.testing.assert_allclose(power[base], 2.0 * 0.9**2, rtol=0.3)
    np.testing.assert_allclose(np.delete(power, base, axis=0), 2.0 * 0.3**2, rtol=0.35)


def test_cells_that_misfit_lose_their_say_and_clean_ones_keep_it() -> None:
    data, ones = noisy(0.3), np.ones((1, 6, 1, 2), np.complex64)
    slots = np.zeros(4, np.int64), np.zeros(64, np.int64)
    noise = noise_power(data.cells(), ones, data.rows)
    gains = {}
    for name, robust in (("robust", True), ("plain", False)):
        cross, power = combine(data.cells(), None, data.rows, slots, judged=(ones, noise), robust=robust)
        gains[name] = cross / power
    np.testing.assert_allclose(gains["robust"], gains["plain"], atol=0.01)
    data.vis[::7, ::9] += 500.0
    for name, robust in (("robust", True), ("plain", False)):
        cross, power = combine(data.cells(), None, data.rows, slots, judged=(ones, noise), robust=robust)
        gains[name] = cross / power
    assert np.abs(gains["robust"] - 1.0).max() < 0.05
    assert np.abs(gains["plain"] - 1.0).max() > 1.0


def test_absurd_cells_go_and_faint_and_strong_ones_stay() -> None:
    data = noisy(0.3)
    want = data.cells()
    data.vis[::7, ::9] += 1e9
    data.vis[1, 3] = 1e18
    cells = data.cells()
    absurd = np.abs(cells.cross) > 1e4
    assert 0.01 < absurd.mean() < 0.3
    drop_absurd(cells)
    np.testing.assert_array_equal(cells.power, np.where(absurd, 0.0, want.power))
    np.testing.assert_array_equal(cells.cross, np.where(absurd, 0.0, want.cross))
