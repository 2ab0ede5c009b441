"""Variability statistics against hand numbers, published formulas and real light curves."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.kernels import variability

SEED = 4


def test_hand_numbers() -> None:
    """S = 1, 2, 3 with σ = 0.5: mean 2, std 1, and η = (1 + 0 + 1)/0.25/2 = 4."""
    flux, error = np.array([1.0, 2.0, 3.0]), np.full(3, 0.5)
    assert variability.v_index(flux) == pytest.approx(0.5)
    assert variability.eta_index(flux, error) == pytest.approx(4.0)
    assert variability.weighted_mean(flux, np.array([1.0, 1.0, 1e9])) == pytest.approx((1.5, 2.0**-0.5))
    assert variability.chi2_nu(flux, error, 0.25) == pytest.approx(2.0)
    assert variability.pair_vs(*(np.array([value]) for value in (5.0, 3.0, 1.0, 4.0)))[0] == pytest.approx(0.8)
    assert variability.pair_m(np.array([3.0]), np.array([1.0]))[0] == pytest.approx(1.0)


def test_eta_is_the_reduced_chi_square_about_the_weighted_mean() -> None:
    rng = np.random.default_rng(SEED)
    sys.stdout.write(f"seed {SEED}\n")
    error = rng.uniform(0.5, 2.0, 40)
    flux = 1e5 + error * rng.normal(size=40)
    mean, _error = variability.weighted_mean(flux, error)
    assert variability.eta_index(flux, error) == pytest.approx(np.sum(((flux - mean) / error) ** 2) / 39.0, rel=1e-9)


def test_errors_wrong_by_fifteen_percent_show() -> None:
    """Over 20,000 constant sources mean η is one; an error 15 % too small gives 1.32."""
    rng = np.random.default_rng(SEED)
    sys.stdout.write(f"seed {SEED}\n")
    eta = [variability.eta_index(10.0 + rng.normal(size=12), np.ones(12)) for _ in range(5000)]
    assert np.mean(eta) == pytest.approx(1.0, abs=0.03)
    assert np.mean(eta) / 0.87**2 > 1.25


def test_too_few_points_give_nothing() -> None:
    one = np.array([1.0])
    assert np.isnan(variability.v_index(one))
    assert np.isnan(variability.eta_index(one, one))
    assert np.isnan(variability.chi2_nu(one, one, 0.03))
    assert np.isnan(variability.v_index(np.array([-1.0, 1.0])))
    three = np.arange(3.0)
    assert np.isnan(variability.deviations(three, three, three + 1.0, 0.03, 1.0)).all()


def test_deviation_passes_the_bound_of_the_plain_definition() -> None:
    """One point 20 σ low among 12: the plain definition cannot exceed 11/√12 = 3.2, the redefined one finds it."""
    mjd, flux = 60000.0 + 8.0 * np.arange(12.0), np.full(12, 100.0)
    flux[5] -= 20.0
    plain = np.abs(flux - flux.mean()).max() / flux.std(ddof=1)
    pulls = variability.deviations(mjd, flux, np.ones(12), 0.0, 5.0)
    assert plain <= 11.0 / np.sqrt(12.0) + 1e-9
    assert int(np.argmin(pulls)) == 5
    assert pulls[5] == pytest.approx(-20.0 / np.hypot(1.0, variability.MEDIAN_ERROR / np.sqrt(11.0)))


def test_window_keeps_a_long_event_out_of_its_own_baseline() -> None:
    """A dip covers 52 of 80 days: with the window its points count from the quiet days, without it from itself."""
    mjd = 60000.0 + 2.0 * np.arange(40.0)
    flux = np.where(np.abs(mjd - 60039.0) < 26.5, 70.0, 100.0)
    with_window = variability.deviations(mjd, flux, np.ones(40), 0.0, 26.5)
    without = variability.deviations(mjd, flux, np.ones(40), 0.0, 0.0)
    middle = int(np.argmin(np.abs(mjd - 60039.0)))
    assert with_window[middle] < -25.0
    assert without[middle] > -10.0


def test_short_light_curves_take_the_farthest_third() -> None:
    mjd = 60000.0 + np.arange(9.0)
    flux = np.where(mjd < 60003.0, 5.0, np.where(mjd > 60005.0, 7.0, 100.0))
    pulls = variability.deviations(mjd, flux, np.ones(9), 0.0, 40.0)
    assert pulls[0] == pytest.approx((5.0 - 7.0) / np.hypot(1.0, variability.MEDIAN_ERROR / np.sqrt(3.0)))


def test_systematic_floor_quiets_the_bright() -> None:
    mjd, flux = 8.0 * np.arange(12.0), np.full(12, 1000.0)
    flux[3] += 60.0
    assert variability.deviations(mjd, flux, np.ones(12), 0.0, 5.0)[3] > 40.0
    assert variability.deviations(mjd, flux, np.ones(12), 0.03, 5.0)[3] == pytest.approx(2.0, rel=0.01)


def test_compiled_and_plain_agree() -> None:
    rng = np.random.default_rng(SEED)
    arguments = (np.sort(rng.uniform(0.0, 90.0, 15)), rng.normal(50.0, 5.0, 15), rng.uniform(1.0, 2.0, 15), 0.03, 20.0)
    np.testing.assert_allclose(
        variability._deviations(*arguments), variability._deviations.py_func(*arguments), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "v", "eta"),
    [("1328+254", 0.0105, 0.502), ("2200+420", 0.1725, None)],
)
def test_green_bank_light_curves(name: str, v: float, eta: float | None) -> None:
    """2.25 GHz of the Green Bank Interferometer: 1328+254 is constant, 2200+420 flares."""
    folder = os.environ.get("CONTIMG_DATA")
    path = Path(folder or ".") / "lightcurves" / f"gbi_{name}.txt"
    if not path.exists():
        pytest.skip("CONTIMG_DATA does not hold lightcurves/gbi_*.txt")
    table = np.genfromtxt(path)
    good = (table[:, 2] > 0.0) & (table[:, 5] > 0.0)
    flux, error = table[good, 2], table[good, 5]
    assert variability.v_index(flux) == pytest.approx(v, abs=5e-4)
    measured = variability.eta_index(flux, error)
    assert measured == pytest.approx(eta, abs=0.005) if eta is not None else measured > 100.0
