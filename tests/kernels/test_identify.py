"""Counterparts of a known sky come back, chance neighbors do not, and a probability means what it says."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.kernels.identify import Places, identify

FloatArray = NDArray[np.float64]

SEED = 20261121
ARCSEC = np.radians(1.0 / 3600.0)


def scattered(
    ra: FloatArray, dec: FloatArray, error_arcsec: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Positions with errors, away from the poles."""
    east, north = rng.normal(size=(2, ra.size)) * error_arcsec * ARCSEC
    return (ra + east / np.cos(dec)) % (2.0 * np.pi), dec + north


def test_counterparts_are_found_in_a_crowded_sky_and_probabilities_are_right() -> None:
    """A third of the sources have no counterpart, errors run from 0.5" to 8", 400 strangers lie on a square degree."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    count = 3000
    ra = np.radians(rng.uniform(-3.0, 3.0, count)) % (2.0 * np.pi)
    dec = np.radians(33.0 + rng.uniform(-3.0, 3.0, count))
    error = rng.uniform(0.5, 8.0, count)
    there = rng.random(count) < 0.67
    strangers = 12000
    places = (
        np.append(ra[there], np.radians(rng.uniform(-3.1, 3.1, strangers)) % (2.0 * np.pi)),
        np.append(dec[there], np.radians(33.0 + rng.uniform(-3.1, 3.1, strangers))),
    )
    sources = Places(*scattered(ra, dec, error, rng), error * ARCSEC)
    survey_error = np.full(places[0].size, 0.3)
    found = identify(sources, Places(*scattered(*places, survey_error, rng), survey_error * ARCSEC))
    truth = np.full(count, -1)
    truth[there] = np.arange(there.sum())
    right = found.entry == truth
    assert right[error < 2.0].mean() > 0.99
    assert right.mean() > 0.96
    for low, high in ((0.5, 0.9), (0.9, 0.99), (0.99, 1.0)):
        some = (found.probability > low) & (found.probability <= high) & (found.entry >= 0)
        expected = found.probability[some].mean()
        assert right[some].mean() == pytest.approx(expected, abs=4.0 * np.sqrt(0.25 / some.sum()))
    taken = found.entry[found.entry >= 0]
    assert np.unique(taken).size == taken.size


def test_the_same_separation_is_a_match_or_none_by_errors_and_by_density() -> None:
    """10" away: of a position known to 4" the same source, to 0.5" not; less surely so among 5,000 others per deg²."""
    rng = np.random.default_rng(SEED)
    far = Places(np.array([0.5]), np.array([0.2 + 10.0 * ARCSEC]), np.array([0.3 * ARCSEC]))
    source = Places(np.array([0.5]), np.array([0.2]), np.array([4.0 * ARCSEC]))
    assert identify(source, far).entry.tolist() == [0]
    assert identify(source._replace(error=np.array([0.5 * ARCSEC])), far).entry.tolist() == [-1]
    crowd = np.radians(0.3) * rng.uniform(-1.0, 1.0, (2, 1800))
    apart = np.hypot(*crowd) > 15.0 * ARCSEC
    crowded = Places(
        np.append(0.5, 0.5 + crowd[0, apart] / np.cos(0.2)), np.append(far.dec, 0.2 + crowd[1, apart]),
        np.full(apart.sum() + 1, 0.3 * ARCSEC),
    )  # fmt: skip
    found = identify(source, crowded)
    assert found.probability[0] < 0.95
    assert identify(source, far).probability[0] > 0.999


@pytest.mark.parametrize("dec_deg", [-90.0, -89.999, 0.0, 89.999, 90.0])
def test_at_the_poles_and_across_the_seam(dec_deg: float) -> None:
    sources = Places(np.radians([359.9999]), np.radians([dec_deg]), np.array([1.0 * ARCSEC]))
    inward = dec_deg - np.sign(dec_deg) * 1.0 / 3600.0
    survey = Places(np.radians([0.0001]), np.radians([inward]), np.array([1.0 * ARCSEC]))
    assert identify(sources, survey).entry.tolist() == [0]


def test_rivals_are_counted_and_share_the_probability() -> None:
    offsets = np.array([2.0, -2.5]) * ARCSEC
    survey = Places(np.array([1.0, 1.0]), 0.3 + offsets, np.full(2, 0.3 * ARCSEC))
    found = identify(Places(np.array([1.0]), np.array([0.3]), np.array([2.0 * ARCSEC])), survey)
    assert found.entry.tolist() == [0]
    assert found.rivals.tolist() == [1]
    assert found.probability[0] < 0.7


def test_nothing_is_nobody() -> None:
    nothing = Places(*np.zeros((3, 0)))
    one = Places(*np.ones((3, 1)) * ARCSEC)
    assert identify(nothing, one).entry.size == 0
    assert identify(one, nothing).entry.tolist() == [-1]
