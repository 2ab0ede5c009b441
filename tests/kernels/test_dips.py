"""The matched filter: events come back with depth, width and shape; noise, flares, steps and bad epochs do not."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels import dips
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event

FloatArray = NDArray[np.float64]

SEED = 21
DURATIONS: FloatArray = np.asarray(7.0 * 1.25 ** np.arange(15), np.float64)
DAYS = 365


def epochs(rng: np.random.Generator, cadence: float = 1.0) -> FloatArray:
    """A year with 15 % of its epochs missing and a gap of two weeks."""
    mjd = 60000.0 + 0.99727 * cadence * np.arange(DAYS / cadence)
    gap = 60000.0 + rng.uniform(0.0, DAYS)
    return np.asarray(mjd[(rng.random(mjd.size) > 0.15) & (np.abs(mjd - gap) > 7.0)])


def search(mjd: FloatArray, flux: FloatArray, error: float | FloatArray, floor: float = 0.01) -> dict[str, float]:
    offsets = np.array([0, mjd.size])
    errors = np.broadcast_to(np.asarray(error, np.float64), flux.shape).copy()
    row = dips.search(offsets, mjd, flux, errors, DURATIONS, floor)[0]
    return dict(zip(dips.RESULTS, row.tolist(), strict=True))


@pytest.mark.parametrize(("days", "cadence"), [(14.0, 1.0), (40.0, 1.0), (90.0, 1.0), (60.0, 5.0)])
def test_events_come_back(days: float, cadence: float) -> None:
    """30 % deep at S/N 25: nearly all found, depths within 3 %, the widths within a fifth, middles within a tenth."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    rows = []
    for _ in range(40):
        mjd = epochs(rng, cadence)
        middle = 60000.0 + rng.uniform(1.2 * days, DAYS - 1.2 * days)
        flux = 0.2 * extreme_scattering_event(mjd, middle, days, 0.3) + 0.008 * rng.normal(size=mjd.size)
        found = search(mjd, flux, 0.008)
        rows.append(
            [
                found["sigma"],
                found["depth"],
                found["end"] - found["start"],
                0.5 * (found["start"] + found["end"]) - middle,
            ]
        )
    sigma, depth, width, offset = np.array(rows).T
    good = sigma > 5.5
    assert good.mean() >= 0.9
    assert np.median(depth[good]) == pytest.approx(0.3, abs=0.03)
    assert np.median(width[good]) == pytest.approx(days, rel=0.2)
    assert np.median(np.abs(offset[good])) < 0.1 * days


@pytest.mark.parametrize(("shape", "name"), [(1, "spikes"), (2, "fast_fall"), (3, "slow_fall")])
def test_shapes_are_told_apart(shape: int, name: str) -> None:
    mjd = 60000.0 + np.arange(300.0)
    template = np.array([dips._template(2.0 * (t - 60150.0) / 60.0, shape) for t in mjd])
    rng = np.random.default_rng(SEED)
    found = search(mjd, 1.0 - 0.4 * template + 0.01 * rng.normal(size=300), 0.01)
    assert dips.SHAPES[int(found["shape"])] == name
    assert found["depth"] == pytest.approx(0.4, abs=0.05)


def test_constant_sources_with_tails_raise_no_alarm() -> None:
    """600 source-years of Student's t with five degrees of freedom."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    curves = [epochs(rng) for _ in range(600)]
    offsets = np.concatenate([[0], np.cumsum([mjd.size for mjd in curves])])
    size = int(offsets[-1])
    error = rng.uniform(0.03, 0.08, size)
    flux = 1.0 + error * rng.standard_t(5.0, size)
    sigma = dips.search(offsets, np.concatenate(curves), flux, error, DURATIONS, 0.01)[:, 0]
    sys.stdout.write(f"largest of 600 source-years: {sigma.max():.2f} sigma\n")
    assert sigma.max() < 5.5


def test_a_flaring_source_has_its_own_noise() -> None:
    """A random walk with dips of many sigma of its errors: significant against errors alone, not against itself."""
    rng = np.random.default_rng(SEED)
    sigma, kappa = [], []
    for _ in range(40):
        mjd = 60000.0 + np.arange(900.0)
        walk = np.cumsum(rng.normal(size=900))
        flux = np.exp(0.15 * (walk - walk.mean()) / walk.std()) + 0.01 * rng.normal(size=900)
        found = search(mjd, flux, 0.01)
        sigma.append(found["sigma"])
        kappa.append(found["kappa"])
    assert np.median(kappa) > 2.0
    assert np.mean(np.array(sigma) > 5.5) <= 0.1


def test_a_step_is_no_dip_but_one_that_has_not_ended_is() -> None:
    rng = np.random.default_rng(SEED)
    mjd = 60000.0 + np.arange(300.0)
    noise = 0.02 * rng.normal(size=300)
    # One of less than 200 days ago may still come back.
    step = search(mjd, np.where(mjd < 60050.0, 1.0, 0.7) + noise, 0.02)
    assert step["sigma"] < 5.5
    ongoing = search(mjd, np.where(mjd < 60270.0, 1.0, 0.7) + noise, 0.02)
    assert ongoing["sigma"] > 5.5
    assert ongoing["ongoing"] == 1.0
    assert ongoing["start"] == pytest.approx(60270.0, abs=5.0)


def test_two_bad_epochs_in_a_row_are_no_dip() -> None:
    rng = np.random.default_rng(SEED)
    mjd = 60000.0 + np.arange(200.0)
    flux = 1.0 + 0.02 * rng.normal(size=200)
    flux[80:82] = 0.05
    assert search(mjd, flux, 0.02)["sigma"] < 5.5
    errors = np.where(flux < 0.1, 1e-4, 0.02)
    assert search(mjd, flux, errors)["sigma"] < 5.5, "errors in proportion to the flux give bad epochs all the weight"


def test_a_shallow_long_dip_is_within_the_floor() -> None:
    """3 % for 150 days: 20 sigma of the errors, but epochs of months may share such an error."""
    mjd = 60000.0 + np.arange(600.0)
    flux = np.where(np.abs(mjd - 60300.0) < 75.0, 0.97, 1.0) + 0.01 * np.random.default_rng(SEED).normal(size=600)
    assert search(mjd, flux, 0.01)["sigma"] < 4.0
    assert search(mjd, flux, 0.01, floor=1e-6)["sigma"] > 8.0


def test_little_or_nothing_to_search() -> None:
    for count in (0, 1, 3, 7):
        mjd = 60000.0 + np.arange(float(count))
        assert search(mjd, np.ones(count), 0.1)["sigma"] == 0.0
    assert search(60000.0 + np.arange(50.0), np.zeros(50), 0.1)["sigma"] == 0.0
    negative = -1.0 + 0.1 * np.random.default_rng(SEED).normal(size=50)
    assert search(60000.0 + np.arange(50.0), negative, 0.1)["sigma"] < 5.5
