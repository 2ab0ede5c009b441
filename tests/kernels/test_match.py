"""Neighbors are found across RA 0 and at the poles, once each."""

import sys

import numpy as np
import pytest

from dsa110_contimg.kernels import match
from dsa110_contimg.kernels.sphere import separation

ARCSEC = np.radians(1.0 / 3600.0)
SEED = 5


def test_nearest_agrees_with_all_distances() -> None:
    rng = np.random.default_rng(SEED)
    sys.stdout.write(f"seed {SEED}\n")
    ra, other_ra = rng.uniform(0.0, 2.0 * np.pi, 200), rng.uniform(0.0, 2.0 * np.pi, 300)
    dec, other_dec = np.arcsin(rng.uniform(-1.0, 1.0, 200)), np.arcsin(rng.uniform(-1.0, 1.0, 300))
    index, angle = match.nearest(ra, dec, other_ra, other_dec)
    all_angles = separation(ra[:, None], dec[:, None], other_ra[None, :], other_dec[None, :])
    np.testing.assert_array_equal(index, all_angles.argmin(axis=1))
    np.testing.assert_allclose(angle, all_angles.min(axis=1), rtol=1e-9)


def test_neighbors_across_the_seam_and_the_pole() -> None:
    seam_ra = np.array([0.5 * ARCSEC, np.pi])
    seam_dec = np.array([0.0, np.pi / 2.0 - 2.0 * ARCSEC])
    index, angle = match.nearest(
        seam_ra, seam_dec, np.array([2.0 * np.pi - 0.5 * ARCSEC, 0.0]), np.array([0.0, np.pi / 2.0 - ARCSEC])
    )
    assert index.tolist() == [0, 1]
    np.testing.assert_allclose(angle / ARCSEC, [1.0, 3.0], rtol=1e-6)


def test_radius_is_respected_and_empty_lists_match_nothing() -> None:
    one, empty = np.array([1.0]), np.zeros(0)
    index, angle = match.nearest(one, one, one + 10.0 * ARCSEC, one, radius=3.0 * ARCSEC)
    assert index.tolist() == [-1]
    assert np.isinf(angle[0])
    assert match.nearest(one, one, empty, empty)[0].tolist() == [-1]
    assert match.nearest(empty, empty, one, one)[0].size == 0


def test_mutual_pairs_use_no_entry_twice() -> None:
    ra, dec = np.array([0.0, 1.0, 1.5]) * ARCSEC, np.zeros(3)
    here, there, angle = match.mutual_nearest(ra, dec, np.array([1.2 * ARCSEC]), np.zeros(1), radius=5.0 * ARCSEC)
    assert here.tolist() == [1]
    assert there.tolist() == [0]
    assert angle[0] == pytest.approx(0.2 * ARCSEC)


def test_counts_agree_with_all_distances() -> None:
    rng = np.random.default_rng(SEED)
    sys.stdout.write(f"seed {SEED}\n")
    ra, other_ra = rng.uniform(-0.1, 0.1, 100), rng.uniform(-0.1, 0.1, 500)
    dec, other_dec = rng.uniform(1.4, np.pi / 2.0, 100), rng.uniform(1.4, np.pi / 2.0, 500)
    found = match.count_within(ra, dec, other_ra, other_dec, radius=0.01)
    all_angles = separation(ra[:, None], dec[:, None], other_ra[None, :], other_dec[None, :])
    np.testing.assert_array_equal(found, (all_angles <= 0.01).sum(axis=1))
    assert found.max() > 1
    assert match.count_within(ra, dec, np.zeros(0), np.zeros(0), radius=0.01).tolist() == [0] * 100
    assert match.count_within(np.zeros(0), np.zeros(0), ra, dec, radius=0.01).size == 0


def test_isolation_of_a_list() -> None:
    apart = match.neighbor_separation(np.array([0.0, 2.0 * ARCSEC, 1.0]), np.zeros(3))
    np.testing.assert_allclose(apart[:2], 2.0 * ARCSEC)
    assert apart[2] == pytest.approx(1.0, rel=1e-3)
    assert np.isinf(match.neighbor_separation(np.zeros(1), np.zeros(1))[0])


def test_de_ruiter_by_hand() -> None:
    radius = match.de_ruiter(np.array([[3.0, 4.0]]), np.array([[0.6, 0.8]]), np.array([[0.8, 0.6]]))
    assert radius[0] == pytest.approx(5.0)
