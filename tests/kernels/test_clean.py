"""The compiled minor cycle against its plain twin."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.clean import _one_round, clean_pixels, stamp_gaussians

SEED = 20260108
SIZE = 48


def plain_clean(
    image: NDArray[np.float32], mask: NDArray[np.bool_], psf: NDArray[np.float32], gain: float, stop: float, most: int
) -> tuple[NDArray[np.float64], int]:
    """CLEAN on the whole plane, with the components confined to a mask."""
    model, left = np.zeros(image.shape), image.copy()
    half = psf.shape[0] // 2
    for iteration in range(most):
        seen = np.where(mask, np.abs(left), -1.0)
        y, x = np.unravel_index(seen.argmax(), seen.shape)
        if seen[y, x] <= stop:
            return model, iteration
        flux = np.float32(gain) * left[y, x]
        model[y, x] += flux
        for j in range(SIZE):
            for i in range(SIZE):
                dy, dx = j - int(y) + half, i - int(x) + half
                if 0 <= dy < psf.shape[0] and 0 <= dx < psf.shape[1]:
                    left[j, i] -= flux * psf[dy, dx]
    return model, most


def scene() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    psf = (np.exp(-(x**2 + y**2) / 8.0) * np.cos(0.7 * x + 0.3 * y)).astype(np.float32)
    image = rng.normal(0.0, 0.01, (SIZE, SIZE)).astype(np.float32)
    for row, col, flux in ((10, 12, 1.0), (30, 33, -0.7), (31, 36, 0.6), (40, 8, 0.5)):
        image += np.float32(flux) * np.roll(psf, (row - SIZE // 2, col - SIZE // 2), axis=(0, 1))
    return image, psf, np.asarray(rng.random((SIZE, SIZE)) < 0.7)


def test_a_round_is_plain_clean() -> None:
    image, psf, mask = scene()
    expected, n_plain = plain_clean(image, mask, psf, 0.15, 0.05, 60)
    pixels = np.argwhere(mask).astype(np.int32)
    fluxes, n_fast = _one_round(image[mask], pixels, psf, 0.15, 0.05, 60)
    assert 10 < n_fast == n_plain
    found = np.zeros(image.shape)
    found[mask] = fluxes
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_residuals_left_are_those_of_the_components() -> None:
    image, psf, _mask = scene()
    everything = np.ones(image.shape, bool)
    values = image[everything]
    fluxes, count, peak = clean_pixels(values, np.argwhere(everything).astype(np.int32), psf, 0.1, 0.04, 5000)
    assert count < 5000
    assert np.abs(values).max() == np.float32(peak) <= 0.04
    model = fluxes.reshape(image.shape)
    explained = sum(model[y, x] * _shifted(psf, y, x) for y, x in np.argwhere(model != 0.0))
    np.testing.assert_allclose(values.reshape(image.shape), image - explained, atol=2e-5)
    for row, col, flux in ((10, 12, 1.0), (30, 33, -0.7), (40, 8, 0.5)):
        assert model[row - 1 : row + 2, col - 1 : col + 2].sum() == pytest.approx(flux, abs=0.15)


def _shifted(psf: NDArray[np.float32], y: int, x: int) -> NDArray[np.float64]:
    """Return the point spread function around a pixel, zero where it does not reach."""
    full = np.zeros((2 * SIZE, 2 * SIZE))
    full[y : y + SIZE, x : x + SIZE] = psf
    return full[SIZE // 2 : SIZE // 2 + SIZE, SIZE // 2 : SIZE // 2 + SIZE]


def test_limits_are_kept_and_a_bad_psf_cannot_run_away() -> None:
    image, psf, mask = scene()
    pixels = np.argwhere(mask).astype(np.int32)
    assert clean_pixels(image[mask], pixels, psf, 0.1, 0.0, 7)[1] == 7
    assert clean_pixels(image[mask], pixels, psf, 0.1, 100.0, 7)[1] == 0
    assert clean_pixels(image[:0, 0], pixels[:0], psf, 0.1, 0.0, 7)[1] == 0
    _fluxes, count, peak = clean_pixels(image[mask], pixels, -psf, 0.5, 0.0, 100000)
    assert count < 100
    assert peak < 10.0


def test_gaussians_are_stamped_where_they_are_and_at_the_edge() -> None:
    image = np.zeros((40, 50), np.float32)
    at, fluxes = np.array([[0.0, 49.0], [20.3, 11.8]]), np.array([2.0, -1.5])
    a, b, c = 0.08, 0.03, 0.05
    stamp_gaussians(image, at, fluxes, (a, b, c), 18)
    y, x = np.mgrid[:40, :50].astype(float)
    expected = np.zeros((40, 50))
    for (row, col), flux in zip(at, fluxes, strict=True):
        dy, dx = y - row, x - col
        expected += flux * np.exp(-(a * dx**2 + 2 * b * dx * dy + c * dy**2))
    np.testing.assert_allclose(image, expected, atol=2e-4)
