"""Sums that follow points as they come and go are those of the points that are left."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_contimg.kernels import moments as kernel
from dsa110_contimg.kernels.variability import chi2_nu, deviations, eta_index, extreme_deviation, v_index

SYSTEMATIC, WINDOW = 0.03, 40.0
FloatArray = np.ndarray


def settled(mjd: FloatArray, flux: FloatArray, error: FloatArray) -> FloatArray:
    order = np.argsort(mjd, kind="stable")
    return kernel.settle(np.array([0, mjd.size]), mjd[order], flux[order], error[order], SYSTEMATIC, WINDOW)


def spreads(moments: FloatArray) -> list[float]:
    """Standard deviation, eta and chi-square."""
    row = moments[0]
    sums = ((row[kernel.N], row[kernel.D], row[kernel.DD]), row[[kernel.W, kernel.WD, kernel.WDD]])
    n = row[[kernel.N]]
    return [
        float(kernel.reduced_spread(n, *(np.atleast_1d(value) for value in three))[0])
        for three in (*sums, row[[kernel.V, kernel.VD, kernel.VDD]])
    ]


@pytest.mark.parametrize("size", [2, 5, 40])
def test_settled_moments_are_the_statistics(size: int) -> None:
    print(f"seed {size}")
    rng = np.random.default_rng(size)
    mjd, error = np.sort(rng.uniform(60000.0, 60300.0, size)), rng.uniform(0.01, 0.05, size)
    flux = 2.0 + error * rng.normal(size=size)
    moments = settled(mjd, flux, error)
    std, eta, chi2 = spreads(moments)
    row = moments[0]
    assert std**0.5 / (row[kernel.ORIGIN] + row[kernel.D] / row[kernel.N]) == pytest.approx(v_index(flux), rel=1e-9)
    assert eta == pytest.approx(eta_index(flux, error), rel=1e-9)
    assert chi2 == pytest.approx(chi2_nu(flux, error, SYSTEMATIC), rel=1e-9)
    assert (row[kernel.LOW], row[kernel.HIGH], row[kernel.LAST]) == (flux.min(), flux.max(), mjd[-1])
    if size > 3:
        largest = np.nanmax(np.abs(deviations(mjd, flux, error, SYSTEMATIC, WINDOW)))
        assert row[kernel.DEVIATION] == pytest.approx(largest, rel=1e-12)
    else:
        assert np.isnan(row[kernel.DEVIATION])


@settings(deadline=None, max_examples=60)
@given(
    fluxes=st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=40),
    error=st.floats(1e-3, 10.0),
    window=st.sampled_from([0.0, 3.0, 40.0]),
)
def test_the_largest_deviation_is_found_among_few(fluxes: list[float], error: float, window: float) -> None:
    flux, mjd = np.array(fluxes), np.arange(float(len(fluxes)))
    errors = np.full(flux.size, error)
    pulls = np.abs(deviations(mjd, flux, errors, SYSTEMATIC, window))
    epoch, pull = extreme_deviation(mjd, flux, errors, SYSTEMATIC, window)
    assert abs(pull) == pytest.approx(pulls.max(), rel=1e-12)
    assert pulls[epoch] == pytest.approx(pulls.max(), rel=1e-12)


@settings(deadline=None, max_examples=100)
@given(
    begin=st.floats(0.01, 10.0),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 10**6), st.floats(-3.0, 3.0)), min_size=1, max_size=60),
)
def test_points_that_come_and_go_leave_no_trace(begin: float, steps: list[tuple[bool, int, float]]) -> None:
    """Out of order, repeated, taken back: after each step the sums are those of a full recomputation, to 1e-9."""
    moments = kernel.empty(1)
    there: list[tuple[float, float, float]] = []
    nobody, source = np.array([0.2]), np.zeros(1, np.int64)
    for add, place, pull in steps:
        if add or not there:
            error = 0.01 * begin * (1.0 + place % 7)
            point = (60000.0 + place % 977, begin + pull * error, error)
            there.append(point)
            mjd, flux, errors = np.array([point]).T
            kernel.add_points(moments, source, mjd, flux, errors, SYSTEMATIC)
        else:
            point = there.pop(place % len(there))
            mjd, flux, errors = np.array([point]).T
            kernel.take_points(moments, source, mjd, flux, errors)
        if kernel.due(moments, nobody, SYSTEMATIC)[0]:
            moments = settled(*np.array(there).T)
        if not there:
            assert moments[0, kernel.N] == 0.0
            continue
        mjd, flux, errors = np.array(there).T
        row = moments[0]
        scale = float(np.max(flux**2 / errors**2)) * 1e-9
        expected = [eta_index(flux, errors), eta_index(flux, np.hypot(errors, row[kernel.FLOOR]))]
        np.testing.assert_allclose(spreads(moments)[1:], expected, rtol=1e-9, atol=1e-3 * scale)
        assert row[kernel.N] == len(there)
        assert row[kernel.ORIGIN] + row[kernel.D] / row[kernel.N] == pytest.approx(flux.mean(), rel=1e-9)
        assert (row[kernel.LOW], row[kernel.HIGH], row[kernel.LAST]) == (flux.min(), flux.max(), mjd.max())


def test_only_what_may_have_changed_is_due() -> None:
    mjd = 60000.0 + np.arange(40.0)
    error = np.full(40, 0.01)
    flux = 1.0 + error * np.random.default_rng(4).normal(size=40)
    moments, source, patience = settled(mjd, flux, error), np.zeros(1, np.int64), np.array([0.25])
    assert not kernel.due(moments, patience, SYSTEMATIC)[0]
    assert kernel.due(moments, patience, 0.05)[0], "floors of another systematic"
    usual = moments.copy()
    kernel.add_points(usual, source, mjd[-1:] + 1.0, np.array([1.0]), error[:1], SYSTEMATIC)
    assert not kernel.due(usual, patience, SYSTEMATIC)[0]
    for days in range(2, 13):
        kernel.add_points(usual, source, mjd[-1:] + days, np.array([1.0]), error[:1], SYSTEMATIC)
    assert kernel.due(usual, patience, SYSTEMATIC)[0], "a quarter more points"
    extreme = moments.copy()
    kernel.add_points(extreme, source, mjd[-1:] + 1.0, np.array([1.5]), error[:1], SYSTEMATIC)
    assert kernel.due(extreme, patience, SYSTEMATIC)[0]
    lowest = int(np.argmin(flux))
    kernel.take_points(moments, source, mjd[[lowest]], flux[[lowest]], error[[lowest]])
    assert kernel.due(moments, patience, SYSTEMATIC)[0]
