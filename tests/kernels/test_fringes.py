"""Rotation of one subband into a tile, against a plain twin and against the source that it must flatten."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.fringes import SPEED_OF_LIGHT, rotate_into

SEED = 20251001
FREQ_HZ = np.array([1405.0e6, 1404.0e6, 1403.0e6])


def rotate_numpy(
    raw: NDArray[np.complex64], path_m: NDArray[np.float64], freq_hz: NDArray[np.float64], conjugate: NDArray[np.bool_]
) -> NDArray[np.complex64]:
    turned = raw * np.exp(2j * np.pi * path_m[:, None, None] * freq_hz[None, :, None] / SPEED_OF_LIGHT)
    turned = np.where(conjugate[:, None, None], turned.conj(), turned)
    return np.asarray(turned[:, np.argsort(freq_hz)], np.complex64)


def rotated(
    raw: NDArray[np.complex64], path_m: NDArray[np.float64], freq_hz: NDArray[np.float64], conjugate: NDArray[np.bool_]
) -> NDArray[np.complex64]:
    out, flags = np.full_like(raw, np.nan), np.ones(raw.shape, bool)
    rotate_into(raw, np.zeros(raw.shape, bool), path_m, freq_hz, conjugate, out, flags)
    assert not flags.any()
    return out


def test_what_is_bad_becomes_zero_and_flagged_in_its_place() -> None:
    raw, bad = np.full((2, 3, 2), np.nan + 0j, np.complex64), np.zeros((2, 3, 2), bool)
    raw[:, 0], bad[:, 1:], bad[1, 0, 1] = 1.0, True, True
    out, flags = np.full_like(raw, np.nan), np.zeros(raw.shape, bool)
    rotate_into(raw, bad, np.zeros(2), FREQ_HZ, np.zeros(2, bool), out, flags)
    np.testing.assert_array_equal(flags, bad[:, ::-1])
    np.testing.assert_array_equal(out, np.where(bad[:, ::-1], 0.0, 1.0))


@pytest.fixture
def rows() -> tuple[NDArray[np.complex64], NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(SEED)
    raw = (rng.normal(size=(40, 3, 2)) + 1j * rng.normal(size=(40, 3, 2))).astype(np.complex64)
    return raw, rng.uniform(-40.0, 40.0, 40), rng.random(40) < 0.5


@pytest.mark.parametrize("freq_hz", [FREQ_HZ, FREQ_HZ[::-1].copy()], ids=["descending", "ascending"])
def test_the_kernel_is_its_plain_twin(
    rows: tuple[NDArray[np.complex64], NDArray[np.float64], NDArray[np.bool_]], freq_hz: NDArray[np.float64]
) -> None:
    raw, path_m, conjugate = rows
    np.testing.assert_allclose(
        rotated(raw, path_m, freq_hz, conjugate), rotate_numpy(raw, path_m, freq_hz, conjugate), atol=2e-6
    )


def test_one_channel_keeps_its_place() -> None:
    raw = np.ones((2, 1, 2), np.complex64)
    out = rotated(raw, np.zeros(2), np.array([1.4e9]), np.zeros(2, bool))
    np.testing.assert_array_equal(out, raw)


def test_a_source_at_the_new_center_becomes_flat() -> None:
    """The file holds exp(2πi f/c b·(s − s0)); moving to s leaves one, with either order of the antennas."""
    path = np.linspace(-30.0, 30.0, 11)
    fringe = np.exp(-2j * np.pi * path[:, None] * FREQ_HZ[None, :] / SPEED_OF_LIGHT)
    raw = np.repeat(fringe[:, :, None], 2, axis=2).astype(np.complex64)
    for conjugate in (np.zeros(11, bool), np.ones(11, bool)):
        np.testing.assert_allclose(rotated(raw, path, FREQ_HZ, conjugate), 1.0, atol=1e-4)
    assert np.abs(rotated(raw, -path, FREQ_HZ, np.zeros(11, bool)) - 1.0).max() > 1.0, "the other sign must not pass"


def test_twenty_kilometres_of_path_cost_no_precision() -> None:
    raw = np.ones((1, 3, 1), np.complex64)
    path = np.array([20_000.123])
    turns = path * FREQ_HZ[::-1] / SPEED_OF_LIGHT
    expected = np.exp(2j * np.pi * (turns % 1.0))
    np.testing.assert_allclose(rotated(raw, path, FREQ_HZ, np.zeros(1, bool))[0, :, 0], expected, atol=1e-6)
