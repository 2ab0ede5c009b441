"""Stripes and bowls are measured as high, as deep and where they were put."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dsa110_contimg.qa.patterns import deepest_bowl, pull, strongest_stripes

BEAM_PIXELS = 4.0
SHAPE = (600, 500)


def beam_noise(seed: int = 3) -> NDArray[np.float32]:
    """Return noise correlated like a beam, with a scatter of one."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), BEAM_PIXELS / 2.355, mode="wrap")
    return np.asarray(noise / noise.std(), np.float32)


def with_sources(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image with sources of 1000 sigma and less."""
    rng = np.random.default_rng(8)
    points = np.zeros(SHAPE)
    points[rng.integers(0, SHAPE[0], 60), rng.integers(0, SHAPE[1], 60)] = 10.0 ** rng.uniform(1.0, 3.0, 60)
    shape = gaussian_filter(points, BEAM_PIXELS / 2.355) * 2.0 * np.pi * (BEAM_PIXELS / 2.355) ** 2
    return np.asarray(image + shape, np.float32)


def wave(amplitude: float, period: float, pa_deg: float) -> NDArray[np.float32]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    along = -x * np.sin(np.radians(pa_deg)) + y * np.cos(np.radians(pa_deg))
    return np.asarray(amplitude * np.cos(2.0 * np.pi * along / period + 0.7), np.float32)


@pytest.mark.parametrize(("period", "pa_deg"), [(9.3, 20.0), (14.0, 90.0), (30.1, 152.0), (60.0, 0.0)])
@pytest.mark.parametrize("amplitude", [0.3, 0.6])
def test_a_wave_is_measured(amplitude: float, period: float, pa_deg: float) -> None:
    found = strongest_stripes(pull(with_sources(beam_noise() + wave(amplitude, period, pa_deg)), None))
    in_noise = amplitude / np.hypot(1.0, amplitude / np.sqrt(2.0))
    assert found.amplitude == pytest.approx(in_noise, rel=0.2)
    assert found.period_pixels == pytest.approx(period, rel=0.05)
    assert (found.pa_deg - pa_deg + 90.0) % 180.0 - 90.0 == pytest.approx(0.0, abs=2.0)


def test_noise_and_sources_make_no_stripes_and_no_bowls() -> None:
    pulls = pull(with_sources(beam_noise()), None)
    assert strongest_stripes(pulls).amplitude < 0.1
    assert deepest_bowl(pulls, BEAM_PIXELS).depth < 0.6


def test_half_of_an_image_may_be_blank() -> None:
    data = beam_noise() + wave(0.5, 12.0, 40.0)
    data[:, ::-1][:, : SHAPE[1] // 2] = np.nan
    found = strongest_stripes(pull(data, None))
    assert found.amplitude == pytest.approx(0.5, rel=0.25)
    assert np.isfinite(deepest_bowl(pull(data, None), BEAM_PIXELS).depth)


@pytest.mark.parametrize("at", [(120, 330), (455, 90)])
def test_a_bowl_is_found_where_it_is(at: tuple[int, int]) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    hole = 4.0 * np.exp(-((x - at[1]) ** 2 + (y - at[0]) ** 2) / (2.0 * 25.0**2))
    found = deepest_bowl(pull((beam_noise() - hole).astype(np.float32), None), BEAM_PIXELS)
    assert 2.0 < found.depth < 4.5
    assert np.hypot(found.x - at[1], found.y - at[0]) < 5.0 * BEAM_PIXELS


def test_uneven_noise_is_taken_out_by_its_map() -> None:
    depth = np.linspace(1.0, 6.0, SHAPE[1], dtype=np.float32)[None, :].repeat(SHAPE[0], axis=0)
    pulls = pull(beam_noise() * depth, depth)
    assert pulls.std() == pytest.approx(1.0, rel=0.02)
    assert deepest_bowl(pulls, BEAM_PIXELS).depth < 0.6


def test_an_image_smaller_than_a_box_has_no_bowl() -> None:
    assert deepest_bowl(np.zeros((9, 9), np.float32), BEAM_PIXELS).depth == -np.inf
