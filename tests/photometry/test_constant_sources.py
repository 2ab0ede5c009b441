"""A thousand epochs of constant sources: error bars are right after normalization, bad epochs and tiles included."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, kstest

from dsa110_contimg.kernels.variability import eta_index
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.epochs import local_scale, normalize
from dsa110_contimg.telescope import unit_vector

SEED = 31
FloatArray = NDArray[np.float64]


def strip(count: int, epochs: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fluxes and errors (n_source, n_epoch) of constant sources across RA 0, and their unit vectors."""
    truth = 10.0 ** rng.uniform(-2.0, 0.0, count)
    error = 0.001 * rng.uniform(0.8, 1.4, epochs) * rng.uniform(0.9, 1.5, count)[:, None] + 0.002 * truth[:, None]
    flux = truth[:, None] + error * rng.normal(size=(count, epochs))
    places = unit_vector(rng.uniform(-7.0, 7.0, count) % 360.0, rng.uniform(52.0, 56.0, count))
    return flux, error, places


def test_error_bars_are_right_over_a_thousand_epochs() -> None:
    """600 sources; every epoch's scale is off by 4 %, one by 5 %, one has doubled noise."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    flux, error, places = strip(600, 1000, rng)
    flux[:, 400], error[:, 400] = (
        flux[:, 400] + error[:, 400] * np.sqrt(3.0) * rng.normal(size=600),
        2.0 * error[:, 400],
    )
    scale = rng.normal(1.0, 0.04, 1000)
    scale[500] = 1.05
    flux, error, factors = normalize(
        flux * scale, error * scale, np.median(flux / error, axis=1) > 20.0, PhotometryOptions(), places
    )
    assert np.all(np.isfinite(factors))
    eta = np.array([eta_index(f, e) for f, e in zip(flux, error, strict=True)])
    p_value = kstest(999.0 * eta, chi2(999).cdf).pvalue
    print(f"median eta {np.median(eta):.4f}, KS p {p_value:.3f}")
    assert 0.98 < np.median(eta) < 1.02
    assert p_value > 0.01


@pytest.mark.parametrize("low", [0.9, 0.7])
def test_one_bad_tile_is_taken_out_where_it_lies(low: float) -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    flux, error, places = strip(900, 20, rng)
    east = np.degrees(np.arctan2(places[:, 1], places[:, 0]))
    bad = np.abs(east - 1.0) < 1.2
    flux[bad, 7] *= low
    reference = np.median(flux / error, axis=1) > 20.0
    plain, _error, other = normalize(flux, error, reference, PhotometryOptions())
    mended, _error, factors = normalize(flux, error, reference, PhotometryOptions(), places)
    inside = np.abs(east - 1.0) < 0.4
    truth = np.median(flux, axis=1)
    assert np.median(plain[inside, 7] / truth[inside]) == pytest.approx(low, abs=0.02)
    assert np.median(mended[inside, 7] / truth[inside]) == pytest.approx(1.0, abs=0.02)
    changed = np.delete(factors != other, 7, axis=1)
    assert changed.mean() < 5e-4, "other epochs are left alone"


def test_too_few_neighbors_leave_the_scale_alone() -> None:
    ratio, places = np.full(5, 0.8), unit_vector(np.arange(5.0), np.zeros(5))
    scale, error = local_scale(ratio, np.ones(5, bool), places)
    assert (scale == 1.0).all()
    assert (error == 0.0).all()


def test_variables_drop_out_of_the_references() -> None:
    """A third of the references dim together by half for a quarter of the epochs: the scale does not follow them."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    flux, error, _places = strip(60, 40, rng)
    flux[:20, 10:20] *= 0.5
    _flux, _error, factors = normalize(flux, error, np.ones(60, bool), PhotometryOptions())
    assert np.abs(np.median(factors, axis=0) - 1.0).max() < 0.006
