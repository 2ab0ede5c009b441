"""Imaging weights against a loop that spells the convention out."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.weights import (
    add_density,
    apply_factor,
    briggs_factor,
    cells_on_a_side,
    cells_reached,
    uniform_factor,
)

C = 299792458.0
SEED = 20260106
SIZE = 64
CELL = math.radians(30.0 / 3600.0)
FREQ_HZ = np.array([1.31e9, 1.49e9])


def samples() -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    rng = np.random.default_rng(SEED)
    uvw = rng.normal(0.0, 180.0, (400, 3))
    weights = rng.uniform(0.2, 3.0, (400, 2)).astype(np.float32)
    weights[::7, 0] = 0.0
    return uvw, weights


def cell_of(u_m: float, v_m: float, freq: float) -> tuple[int, int] | None:
    n_cell = cells_on_a_side(SIZE)
    u, v = u_m * freq / C, v_m * freq / C
    if v < 0:
        u, v = -u, -v
    x, y = math.floor(u * n_cell * CELL + n_cell / 2), math.floor(v * n_cell * CELL)
    return (y, x) if 0 <= x < n_cell and y < n_cell // 2 else None


def brute_force(robust: float | None) -> NDArray[np.float64]:
    uvw, weights = samples()
    crowd: dict[tuple[int, int], float] = {}
    cells = [[cell_of(row[0], row[1], freq) for freq in FREQ_HZ] for row in uvw]
    for row in range(400):
        for chan in range(2):
            cell = cells[row][chan]
            if cell is not None and weights[row, chan] > 0:
                crowd[cell] = crowd.get(cell, 0.0) + float(weights[row, chan])
    total, square = sum(crowd.values()), sum(value**2 for value in crowd.values())
    out = np.zeros((400, 2))
    for row in range(400):
        for chan in range(2):
            cell = cells[row][chan]
            if cell is not None and weights[row, chan] > 0:
                if robust is None:
                    out[row, chan] = weights[row, chan] / crowd[cell]
                else:
                    f2 = (5.0 * 10.0**-robust) ** 2 * total / square
                    out[row, chan] = weights[row, chan] / (1.0 + crowd[cell] * f2)
    return out


def ours(robust: float | None) -> NDArray[np.float32]:
    uvw, weights = samples()
    n_cell = cells_on_a_side(SIZE)
    density = np.zeros((n_cell // 2, n_cell))
    add_density(uvw, FREQ_HZ, weights, CELL, n_cell, density)
    factor = uniform_factor(density) if robust is None else briggs_factor(density, robust)
    apply_factor(uvw, FREQ_HZ, weights, CELL, n_cell, factor)
    return weights


@pytest.mark.parametrize("robust", [-2.0, 0.0, 0.5, 2.0, None])
def test_weights_are_those_of_the_plain_loop(robust: float | None) -> None:
    expected = brute_force(robust)
    assert 0 < np.count_nonzero(expected == 0.0) < 200, "some samples must lie outside the grid, most inside"
    np.testing.assert_allclose(ours(robust), expected, rtol=2e-6)


def test_the_part_that_samples_reach_holds_all_of_them() -> None:
    uvw, weights = samples()
    uvw = 0.3 * uvw
    n_cell = cells_on_a_side(SIZE)
    reach = np.abs(uvw[:, :2]).max(axis=0) * FREQ_HZ.max() / C
    part, whole = np.zeros(cells_reached(reach[0], reach[1], CELL, n_cell)), np.zeros((n_cell // 2, n_cell))
    assert part.size < 0.5 * whole.size
    add_density(uvw, FREQ_HZ, weights, CELL, n_cell, part)
    add_density(uvw, FREQ_HZ, weights, CELL, n_cell, whole)
    side = (n_cell - part.shape[1]) // 2
    np.testing.assert_array_equal(whole[: part.shape[0], side : n_cell - side], part)
    assert whole.sum() == pytest.approx(part.sum()) == pytest.approx(float(weights.sum()))


def test_robustness_runs_from_uniform_to_natural() -> None:
    _uvw, natural = samples()
    inside = brute_force(None) > 0
    nearly = ours(2.0)[inside] / natural[inside]
    assert np.ptp(nearly) < 0.1 * nearly.mean()
    ratio = ours(-2.0)[inside] / ours(None)[inside]
    assert np.ptp(ratio) < 0.01 * ratio.mean()


@pytest.mark.parametrize(("size", "cells"), [(512, 616), (4800, 5760), (1024, 1232), (100, 120)])
def test_the_field_is_padded_to_a_multiple_of_four(size: int, cells: int) -> None:
    assert cells_on_a_side(size) == cells
