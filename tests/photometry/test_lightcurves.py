"""Statistics in the units of the tables, and one row per sidereal transit."""

import numpy as np
import pytest

from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import PhotometryFlag
from dsa110_contimg.photometry.lightcurves import clean_lightcurve, one_per_transit, summarize

OPTIONS = PhotometryOptions(systematic=0.0)
SIDEREAL = 86164.0905 / 86400.0


def test_hand_numbers_in_millijansky() -> None:
    """1, 2, 3 Jy with errors of 0.5 Jy, in any order of time."""
    stats = summarize(np.array([3.0, 1.0, 2.0]), np.array([3.0, 1.0, 2.0]), np.full(3, 0.5), OPTIONS)
    assert stats.n_obs == 3
    assert stats.mean_flux_mjy == pytest.approx(2000.0)
    assert stats.std_flux_mjy == pytest.approx(1000.0)
    assert (stats.min_flux_mjy, stats.max_flux_mjy) == (1000.0, 3000.0)
    assert stats.eta_metric == pytest.approx(4.0)
    assert stats.chi2_nu == pytest.approx(4.0)
    assert stats.v_metric == pytest.approx(0.5)
    assert stats.last_mjd == 3.0
    assert stats.sigma_deviation is None


def test_the_systematic_floor_is_in_chi2_and_not_in_eta() -> None:
    mjd, flux = np.arange(4.0), np.array([1.0, 1.1, 0.9, 1.0])
    stats = summarize(mjd, flux, np.full(4, 0.01), PhotometryOptions(systematic=0.1))
    assert stats.eta_metric == pytest.approx(0.02 / 3.0 / 1e-4)
    assert stats.chi2_nu == pytest.approx(0.02 / 3.0 / (1e-4 + 1e-2))


def test_bad_rows_are_left_out_and_nothing_is_invented() -> None:
    nan = np.nan
    flux, error = np.array([1.0, nan, 1.0, 1.0, 1.0]), np.array([0.1, 0.1, 0.0, nan, -1.0])
    stats = summarize(np.arange(5.0), flux, error, OPTIONS)
    assert stats.n_obs == 1
    assert stats.mean_flux_mjy == 1000.0
    for empty in (stats.std_flux_mjy, stats.chi2_nu, stats.eta_metric, stats.v_metric, stats.sigma_deviation):
        assert empty is None
    nothing = summarize(np.zeros(0), np.zeros(0), np.zeros(0), OPTIONS)
    assert nothing.n_obs == 0
    assert nothing.mean_flux_mjy is None


def test_extreme_epoch_is_named() -> None:
    mjd, flux = 60000.0 + 8.0 * np.arange(12.0), np.ones(12)
    flux[7] = 0.6
    stats = summarize(mjd, flux, np.full(12, 0.01), PhotometryOptions())
    assert stats.extreme_mjd == mjd[7]
    assert stats.extreme_change == pytest.approx(-0.4)
    assert stats.sigma_deviation is not None
    assert stats.sigma_deviation > 10.0


def test_flagged_rows_stay_out() -> None:
    flags = np.array([0, int(PhotometryFlag.EDGE), int(PhotometryFlag.CONFUSED), int(PhotometryFlag.LOW_BEAM)])
    curve = clean_lightcurve("S", np.array([4.0, 3.0, 2.0, 1.0]), np.ones(4), np.ones(4), flags)
    assert curve.mjd.tolist() == [2.0, 4.0]


def test_one_row_per_source_and_sidereal_transit() -> None:
    """Two overlapping mosaics see a source within minutes; the next transit follows a sidereal day later."""
    start = 60000.3
    rows = [
        ("A", start, 0.5),
        ("A", start + 0.01, 0.9),
        ("A", start + SIDEREAL, np.nan),
        ("B", start, 0.2),
        ("A", start + SIDEREAL + 0.02, 0.1),
        ("A", start + 5 * SIDEREAL, 0.3),
        ("A", start + 5.5 * SIDEREAL, 0.3),
        ("B", start - 0.01, 0.2),
    ]
    names, mjd, weight = zip(*rows, strict=True)
    picked = one_per_transit(list(names), np.array(mjd), np.array(weight))
    assert picked.tolist() == [False, True, False, False, True, True, True, True]
    assert one_per_transit([], np.zeros(0), np.zeros(0)).size == 0
