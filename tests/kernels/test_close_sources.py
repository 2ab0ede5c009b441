"""Neighbors on the pixels of an image, against plain loops over all pairs."""

import sys

import numpy as np
import pytest

from dsa110_contimg.kernels import close_sources
from dsa110_contimg.kernels.fluxes import BeamShape, beam_kernel, cutouts, quadratic_form, stencil

SEED = 8
SHAPE = BeamShape(14.0, 5.0, np.radians(110.0))


def positions(count: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    x, y = rng.uniform(-30.0, 300.0, (2, count))
    return x, y, rng


def test_links_are_those_within_the_beam_in_both_directions() -> None:
    x, y, _rng = positions(400)
    links = close_sources.link(x, y, SHAPE, 1e-3)
    expected = [
        (i, j) for i in range(400) for j in range(400)
        if i != j and beam_kernel(x[i] - x[j], y[i] - y[j], SHAPE) > 1e-3
    ]  # fmt: skip
    assert list(zip(links.source.tolist(), links.other.tolist(), strict=True)) == expected
    assert len(expected) > 100
    alone = close_sources.link(x[:1], y[:1], SHAPE, 1e-3)
    assert (alone.first.tolist(), alone.other.tolist()) == ([0, 0], [])


def test_the_brightest_neighbor_is_found_wherever_it_lies() -> None:
    x, y, rng = positions(300)
    brightness = np.where(rng.random(300) < 0.2, 0.0, rng.exponential(size=300))
    for radius in (5.0, 60.0, 1000.0):
        found = close_sources.brightest_within(x, y, brightness, radius)
        apart = np.hypot(x[:, None] - x, y[:, None] - y) + np.diag(np.full(300, np.inf))
        expected = np.where(apart < radius, brightness[None, :], -np.inf).max(axis=1)
        np.testing.assert_array_equal(found, expected)


def test_errors_of_a_pair_grow_as_they_must() -> None:
    """Two estimates 30 % into each other, of noise shared as much: 1/√(1 − ρ²); a third far away: as it is."""
    links = close_sources.link(np.array([0.0, 4.0, 90.0]), np.zeros(3), SHAPE, 1e-3)
    shared = np.full(links.other.size, 0.3)
    variance = close_sources.local_variance(links, shared, 4.0 * shared, np.full(3, 4.0))
    np.testing.assert_allclose(variance, [4.0 / (1.0 - 0.09), 4.0 / (1.0 - 0.09), 4.0])


def test_errors_in_a_chain_are_those_of_the_whole_matrix() -> None:
    x = np.arange(12, dtype=np.float64) * 9.0
    links = close_sources.link(x, np.zeros(12), SHAPE, 1e-3)
    response = beam_kernel(x[links.source] - x[links.other], 0.0, SHAPE)
    matrix = np.eye(12)
    matrix[links.source, links.other] = response
    inverse = np.linalg.inv(matrix)
    expected = np.diag(inverse @ matrix @ inverse.T)
    found = close_sources.local_variance(links, response, response, np.ones(12))
    np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), rtol=0.03)


def test_hidden_pixels_and_neighbors_beams_are_those_of_the_formula() -> None:
    x, y = np.array([20.3, 35.0, 58.0]), np.array([30.1, 31.7, 5.0])
    level, usable = np.array([0.1, 2.0, 1e-4]), np.ones((60, 61), np.bool_)
    close_sources.hide_sources(usable, (x, y), level, quadratic_form(SHAPE))
    row, column = np.mgrid[0:60, 0:61]
    expected = np.ones(usable.shape, np.bool_)
    for i in (0, 2):
        expected &= beam_kernel(column - np.rint(x[i]), row - np.rint(y[i]), SHAPE) <= level[i]
    np.testing.assert_array_equal(usable, expected)
    plane = sum(h * beam_kernel(column - x[i], row - y[i], SHAPE) for i, h in enumerate((1.0, 3.0, 9.0)))
    links = close_sources.link(x, y, SHAPE, 1e-6)
    values, dx, dy = cutouts(np.asarray(plane), x[:2], y[:2], stencil(SHAPE, 0.5))
    pixels = dx + x[:2, None], dy + y[:2, None]
    flux = np.array([1.0, 3.0, np.nan])
    close_sources.take_off_neighbors(
        values, pixels, (x, y), flux, (links.first[:3], links.other), quadratic_form(SHAPE)
    )
    for i, height in enumerate((1.0, 3.0)):
        np.testing.assert_allclose(values[i], height * beam_kernel(dx[i], dy[i], SHAPE), atol=2e-4)


def test_beams_that_reach_nobody_take_nothing_off() -> None:
    values = np.ones((1, 4))
    nobody = (np.zeros(2, np.int64), np.zeros(0, np.int64))
    place = (np.zeros(1), np.zeros(1))
    close_sources.take_off_neighbors(
        values, (np.zeros((1, 4)), np.zeros((1, 4))), place, np.ones(1), nobody, quadratic_form(SHAPE)
    )
    assert values.tolist() == [[1.0] * 4]
    assert close_sources.brightest_within(np.zeros(1), np.zeros(1), np.ones(1), 3.0) == pytest.approx([-np.inf])
