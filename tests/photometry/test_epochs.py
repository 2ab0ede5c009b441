"""Epochs get their flux scales back, and no source judges itself."""

import sys

import numpy as np
import pytest

from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.epochs import (
    epoch_correction,
    leave_one_out,
    normalize,
    reference_fluxes,
    reference_mask,
)
from dsa110_contimg.photometry.forced import PhotometryFlag
from dsa110_contimg.photometry.lightcurves import summarize

SEED = 12


def test_scale_of_an_epoch_with_its_error() -> None:
    """Over 400 epochs the factor is unbiased and its error is not smaller than its scatter."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    pulls = []
    for _ in range(400):
        reference = rng.uniform(0.05, 2.0, 40)
        error = np.full(40, 0.003)
        measured = 0.9 * reference * (1.0 + 0.03 * rng.normal(size=40)) + error * rng.normal(size=40)
        correction = epoch_correction(measured, error, reference)
        assert correction is not None
        assert correction.n == 40
        pulls.append((correction.factor - 0.9) / correction.error)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.2)
    assert 0.75 < np.std(pulls) < 1.15


def test_leave_one_out_is_the_median_of_the_others() -> None:
    """Against a plain loop, for weights of all kinds and for equal ones (odd and even)."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    for count in (6, 7, 30):
        for error in (np.full(count, 0.01), rng.uniform(0.01, 0.2, count)):
            measured, reference = rng.uniform(0.8, 1.2, count), np.ones(count)
            factor, _error, counts = leave_one_out(measured, error, reference)
            for source in range(count):
                others = np.delete(np.arange(count), source)
                plain = epoch_correction(measured[others], error[others], reference[others])
                assert counts[source] == count - 1
                assert plain is not None
                assert factor[source] == pytest.approx(plain.factor, rel=1e-12)
                if np.all(error == error[0]):
                    assert factor[source] == pytest.approx(float(np.median(measured[others])), rel=1e-12)


def test_fewer_than_five_references_correct_nothing() -> None:
    ones = np.ones(5)
    assert epoch_correction(ones[:4], 0.01 * ones[:4], ones[:4]) is None
    assert epoch_correction(ones, 0.01 * ones, ones) is not None
    factor, error, counts = leave_one_out(ones, 0.01 * ones, ones)
    assert np.isnan(factor).all()
    assert np.isnan(error).all()
    assert counts.tolist() == [4] * 5
    flux = np.ones((4, 3))
    normalized, _error, factors = normalize(flux, 0.01 * flux, np.ones(4, np.bool_), PhotometryOptions())
    np.testing.assert_array_equal(normalized, flux)
    assert np.isnan(factors).all()


def test_useless_references_do_not_count() -> None:
    nan = np.nan
    measured = np.array([0.9] * 6 + [nan, 5.0, 5.0, 5.0])
    error = np.array([0.01] * 6 + [0.01, nan, 0.0, 0.01])
    reference = np.array([1.0] * 6 + [1.0, 1.0, 1.0, -1.0])
    correction = epoch_correction(measured, error, reference)
    assert correction is not None
    assert correction.factor == pytest.approx(0.9)
    assert correction.n == 6


def test_epochs_twenty_percent_off_become_one_scale() -> None:
    """60 constant sources, one variable: constants agree with their errors afterwards, the variable stays variable."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    truth = rng.uniform(0.05, 1.0, 61)
    scale = rng.uniform(0.8, 1.2, 14)
    curve = np.ones((61, 14))
    curve[60, 5:9] = 0.6
    error = np.full((61, 14), 0.002)
    flux = truth[:, None] * curve * scale + error * rng.normal(size=(61, 14))
    flux[3, 4] = np.nan
    normalized, normalized_error, factors = normalize(flux, error, np.ones(61, np.bool_), PhotometryOptions())
    relative = factors / np.median(factors, axis=1, keepdims=True)
    np.testing.assert_allclose(relative, np.broadcast_to(scale / np.median(scale), relative.shape), rtol=0.02)
    mjd = 8.0 * np.arange(14.0)
    exact = PhotometryOptions(systematic=0.0)
    chi2 = [summarize(mjd, normalized[j], normalized_error[j], exact).chi2_nu or 0.0 for j in range(60)]
    assert max(chi2) < 3.5
    assert 0.05 < float(np.median(chi2)) < 1.2
    event = normalized[60] / np.median(normalized[60])
    np.testing.assert_allclose(event[5:9], 0.6, rtol=0.05)


def test_error_of_the_scale_is_in_the_normalized_flux() -> None:
    rng = np.random.default_rng(SEED)
    flux, error = rng.uniform(0.9, 1.1, (8, 3)), np.full((8, 3), 1e-4)
    everyone = np.ones(8, np.bool_)
    _normalized, normalized_error, factors = normalize(flux, error, everyone, PhotometryOptions())
    reference = reference_fluxes(flux / factors)
    _factor, scale_error, _n = leave_one_out(flux[:, 1], error[:, 1], reference)
    expected = np.hypot(error[:, 1] / factors[:, 1], flux[:, 1] * scale_error / factors[:, 1] ** 2)
    np.testing.assert_allclose(normalized_error[:, 1], expected, rtol=0.1)
    assert np.all(normalized_error > 50.0 * error)


def test_reference_fluxes_skip_what_was_not_measured() -> None:
    flux = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    result = reference_fluxes(flux)
    assert result[0] == 2.0
    assert np.isnan(result[1])


def test_who_may_be_a_reference() -> None:
    flux = np.array([[1.0] * 4, [0.01] * 4, [1.0, np.nan, np.nan, np.nan], [1.0] * 4, [1.0] * 4])
    flags = np.zeros((5, 4), np.int64)
    flags[3] = int(PhotometryFlag.CONFUSED)
    anchors = np.array([False, False, False, False, True])
    assert reference_mask(flux, np.full((5, 4), 0.002), flags, anchors).tolist() == [True, False, False, False, False]
    assert reference_mask(flux, np.full((5, 4), 0.002), flags).tolist() == [True, False, False, False, True]
