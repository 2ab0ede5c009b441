"""The injected event is found; chance, flux scales and bad epochs are not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate, judge, unlikely
from dsa110_contimg.photometry.epochs import normalize, reference_mask
from dsa110_contimg.photometry.forced import Measurement, measure
from dsa110_contimg.photometry.lightcurves import LightCurve, summarize

if TYPE_CHECKING:
    from tests.photometry.conftest import MakeField, MakeSky

FloatArray = NDArray[np.float64]

SEED = 99
OPTIONS = PhotometryOptions()


def verdict(mjd: FloatArray, flux: FloatArray, error: FloatArray, name: str = "S") -> Candidate | None:
    return judge(summarize(mjd, flux, error, OPTIONS), LightCurve(name, mjd, flux, error), OPTIONS)


def ese(mjd: FloatArray, center: float, width_days: float, depth: float) -> FloatArray:
    """A flat minimum between two caustic spikes."""
    phase = np.abs(mjd - center) / (0.5 * width_days)
    return np.asarray(np.where(phase < 0.85, 1.0 - depth, np.where(phase < 1.05, 1.0 + 0.6 * depth, 1.0)))


def test_an_ese_is_found_and_described() -> None:
    """Twelve epochs over 90 days; 40 % deep for 40 days at S/N 20, in every phase of the sampling."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    mjd = 60000.0 + np.linspace(0.0, 90.0, 12)
    found = 0
    for center in np.linspace(60020.0, 60070.0, 50):
        flux = 0.1 * ese(mjd, center, 40.0, 0.4) + 0.005 * rng.normal(size=12)
        found += verdict(mjd, flux, np.full(12, 0.005)) is not None
    assert found >= 47
    flux = 0.1 * ese(mjd, 60045.0, 40.0, 0.4)
    candidate = verdict(mjd, flux, np.full(12, 0.005), "NVSS J013741.2+330935")
    assert candidate is not None
    assert candidate.flag_type == "variability"
    assert candidate.metric == "sigma_deviation"
    assert candidate.significance > 5.0
    assert candidate.source_id == "NVSS J013741.2+330935"
    assert "fell by 40 %" in candidate.reason


def test_false_alarms_of_constant_sources() -> None:
    """10,000 constant sources of S/N 3 to 300, flux scales 3 % off, 12 epochs over 90 days, two of them a day apart."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    alarms = 0
    for _ in range(10_000):
        mjd = 60000.0 + np.sort(rng.uniform(0.0, 90.0, 12))
        mjd[1] = mjd[0] + 0.99727
        mjd.sort()
        snr = 10.0 ** rng.uniform(0.5, 2.5)
        flux = 1.0 + np.hypot(0.03, 1.0 / snr) * rng.normal(size=12)
        # The noise of an epoch is known to 8 %, as measured in an annulus.
        error = np.abs(1.0 + 0.08 * rng.normal(size=12)) / snr
        alarms += verdict(mjd, flux, error) is not None
    sys.stdout.write(f"false alarms: {alarms} of 10000 constant sources\n")
    assert alarms <= 1


def test_errors_too_small_by_a_third_would_be_noticed() -> None:
    """The same sky with errors 40 % too small (rms for a matched filter in convolved noise) raises false alarms."""
    rng = np.random.default_rng(SEED)
    mjd = 60000.0 + np.linspace(0.0, 90.0, 12)
    chi2 = [
        summarize(
            mjd, 1.0 + 0.1 * rng.normal(size=12), np.full(12, 0.1 / 1.4), PhotometryOptions(systematic=0.0)
        ).chi2_nu
        for _ in range(500)
    ]
    assert float(np.mean(np.array(chi2, np.float64))) > 1.7


@pytest.mark.parametrize("defect", ["scale", "noise"])
def test_a_bad_epoch_makes_no_candidates(defect: str) -> None:
    """One epoch's scale is 20 % off (corrected by the others), or its noise is doubled (and measured so)."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    truth = 10.0 ** rng.uniform(-2.0, 0.5, 150)
    mjd = 60000.0 + np.linspace(0.0, 90.0, 12)
    error = np.full((150, 12), 0.001)
    scale = np.ones(12)
    if defect == "scale":
        scale[6] = 0.8
    else:
        error[:, 6] = 0.002
    flux = truth[:, None] * scale + error * rng.normal(size=error.shape)
    flux, error, _factors = normalize(flux, error, truth > 0.05, OPTIONS)
    assert [j for j in range(150) if verdict(mjd, flux[j], error[j]) is not None] == []


def test_flux_scale_wrong_by_five_percent_is_within_the_floor() -> None:
    mjd, flux = 60000.0 + np.linspace(0.0, 90.0, 12), np.full(12, 5.0)
    flux[4] *= 1.05
    assert verdict(mjd, flux, np.full(12, 0.001)) is None


def test_rapid_change_needs_half_the_flux_within_a_day() -> None:
    mjd = 60000.0 + np.array([0.0, 10.0, 20.0, 20.99727, 30.0, 40.0, 50.0])
    flux, error = np.full(7, 0.1), np.full(7, 0.004)
    flux[3] = 0.04
    candidate = verdict(mjd, flux, error)
    assert candidate is not None
    assert candidate.flag_type == "rapid_change"
    assert candidate.metric == "vs"
    expected = 0.06 / np.sqrt(2 * 0.004**2 + 0.003**2 + 0.0012**2)
    assert candidate.significance == pytest.approx(expected, rel=1e-6)
    assert "fell by 60 %" in candidate.reason
    flux[3] = 0.06
    slower = verdict(mjd, flux, error)
    assert slower is None or slower.flag_type == "variability"
    noisy = verdict(mjd, np.where(mjd == mjd[3], 0.04, 0.1), np.full(7, 0.03))
    assert noisy is None


def test_few_epochs_are_not_judged() -> None:
    mjd = 60000.0 + 10.0 * np.arange(4.0)
    assert verdict(mjd, np.array([1.0, 1.0, 0.2, 1.0]), np.full(4, 0.001)) is None
    assert verdict(np.zeros(0), np.zeros(0), np.zeros(0)) is None


def test_chi_square_counts_by_its_chance() -> None:
    """χ²_ν = 6 is 8e-5 for five epochs and 7e-10 for twelve; five sigma are 5.7e-7."""
    assert not unlikely(6.0, 4, 5.0)
    assert unlikely(6.0, 11, 5.0)


def test_only_the_injected_event_of_a_field_is_found(make_field: MakeField, make_sky: MakeSky) -> None:
    """Images to candidates: 70 sources from 10 mJy to 16 Jy, blends among them, 12 epochs, scales 4 % off, positions
    that wander by 0.3", noise that changes, and the sidelobes of the brightest source left in every image.
    """
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    field = make_field(side=700, cell_arcsec=6.0, beam=(40.0, 25.0, 100.0))
    x, y = rng.uniform(20.0, 680.0, (2, 70))
    truth = np.minimum(0.01 / rng.uniform(0.0, 1.0, 70), 3.0)
    x[0], y[0], truth[0] = 350.0, 350.0, 16.0
    event = int(np.argmin(np.abs(truth - 0.15)))
    ra, dec = field.sky(x, y)
    sky = make_sky(ra, dec, truth * rng.lognormal(0.0, 0.05, 70))
    offset = np.arange(700) - 350.0
    radius = np.hypot(offset[None, :], offset[:, None])
    mjd = 60000.0 + np.sort(rng.choice(90, 12, replace=False)).astype(float)
    flux, error = np.full((70, 12), np.nan), np.full((70, 12), np.nan)
    flags = np.zeros((70, 12), np.int64)
    for epoch, time in enumerate(mjd):
        rms = 0.001 * rng.uniform(0.8, 1.4)
        field.data = 0.008 * np.cos(radius / 9.0) * np.exp(-radius / 300.0) * rng.uniform(0.8, 1.2)
        now = truth * rng.normal(1.0, 0.04)
        now[event] *= 0.6 if abs(time - 60045.0) < 20.0 else 1.0
        wander = rng.normal(0.0, 0.3 / 3600.0, (2, 1)) + rng.normal(0.0, 0.2 / 3600.0, (2, 70))
        field.add_noise(rms, rng).add_sources(ra + wander[0] / np.cos(np.radians(dec)), dec + wander[1], now)
        noise = field.image(np.full(radius.shape, rms), "noise", "Jy")
        for source, row in enumerate(measure(field.image(kind="mosaic"), sky, OPTIONS, noise=noise)):
            if isinstance(row, Measurement):
                flux[source, epoch], error[source, epoch] = row.flux_jy, row.flux_err_jy
                flags[source, epoch] = int(row.flags)
    flux, error, _factors = normalize(flux, error, reference_mask(flux, error, flags), OPTIONS)
    found = [j for j in range(70) if verdict(mjd, flux[j], error[j]) is not None]
    assert found == [event]
