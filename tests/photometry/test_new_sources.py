"""Blind search: what no catalogue knows is found where it is; known, brightened and noisy things are not new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.new_sources import search_new, with_sources

if TYPE_CHECKING:
    from tests.photometry.conftest import MakeField, MakeSky

SEED = 5
RMS = 0.001


@pytest.mark.parametrize("center", [(24.42, 33.16), (359.99, 71.6)])
def test_only_unknown_sources_are_found(make_field: MakeField, make_sky: MakeSky, center: tuple[float, float]) -> None:
    """60 known sources, one three times as bright as its catalogue says; three new ones at 8, 15 and 40 sigma."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    field = make_field(side=640, center=center, cell_arcsec=6.0, beam=(40.0, 25.0, 100.0))
    x, y = rng.uniform(30.0, 610.0, (2, 63))
    x[60:], y[60:] = (160.0, 322.3, 480.6), (500.2, 120.7, 333.1)
    apart = np.hypot(x[:60, None] - x[60:], y[:60, None] - y[60:]).min(axis=1) > 70.0
    flux = np.concatenate([10.0 ** rng.uniform(-2.3, -0.5, 60), [0.008, 0.015, 0.040]])
    keep = np.concatenate([apart, [True] * 3])
    ra, dec = field.sky(x[keep], y[keep])
    known = make_sky(ra[:-3], dec[:-3], flux[keep][:-3])
    flux_now = flux[keep].copy()
    flux_now[0] *= 3.0
    field.add_noise(RMS, rng).add_sources(ra, dec, flux_now)
    noise = field.image(np.full((640, 640), RMS), "noise", "Jy")
    found = search_new(field.image(kind="mosaic"), noise, known, PhotometryOptions())
    assert len(found) == 3
    assert [source.flux_jy for source in found] == pytest.approx([0.040, 0.015, 0.008], abs=4 * RMS)
    for source, index in zip(found, (-1, -2, -3), strict=True):
        east = (source.ra_deg - ra[index] + 180.0) % 360.0 - 180.0
        assert np.hypot(east * np.cos(np.radians(dec[index])), source.dec_deg - dec[index]) < 10.0 / 3600.0


def test_a_copy_with_sources_leaves_the_image_alone(make_field: MakeField) -> None:
    field = make_field(side=128)
    image = field.image(kind="mosaic")
    ra, dec = field.sky(np.array([40.3]), np.array([77.8]))
    more = with_sources(image, ra, dec, np.array([0.2]))
    field.add_sources(ra, dec, np.array([0.2]))
    assert float(np.abs(image.data).max()) == 0.0
    np.testing.assert_allclose(more.data, field.data, atol=1e-4)


@pytest.mark.parametrize("center", [(24.42, 33.16), (359.99, 71.6)])
def test_stripes_of_a_bright_source_are_not_new(
    make_field: MakeField, make_sky: MakeSky, center: tuple[float, float]
) -> None:
    """Three of 12 mJy around 16 Jy: one east of it, one north, and one on neither arm, which is new."""
    print(f"seed {SEED}")
    field = make_field(side=640, center=center, cell_arcsec=6.0, beam=(40.0, 25.0, 100.0))
    ra, dec = field.sky(np.array([320.0, 90.0, 320.0, 150.0]), np.array([320.0, 320.0, 560.0, 500.0]))
    known = make_sky(ra[:1], dec[:1], np.array([16.0]))
    # Away from the middle of the sky's rows and columns are not the image's.
    dec[1], ra[2] = dec[0], ra[0]
    field.add_noise(RMS, np.random.default_rng(SEED)).add_sources(ra, dec, np.array([16.0, 0.012, 0.012, 0.012]))
    noise = field.image(np.full((640, 640), RMS), "noise", "Jy")
    (found,) = search_new(field.image(kind="mosaic"), noise, known, PhotometryOptions())
    assert (found.ra_deg, found.dec_deg) == pytest.approx((ra[3], dec[3]), abs=10.0 / 3600.0)


def test_sidelobes_of_a_source_beyond_the_edge_are_not_new(make_field: MakeField, make_sky: MakeSky) -> None:
    """12 mJy in the image, 240 arcsec from 40 mJy outside, is no discovery; if nothing were there it would be one."""
    print(f"seed {SEED}")
    field = make_field(side=640, center=(24.42, 33.16), cell_arcsec=6.0, beam=(40.0, 25.0, 100.0))
    ra, dec = field.sky(np.array([200.0, 200.0, 500.0]), np.array([615.0, 655.0, 100.0]))
    known = make_sky(ra[1:], dec[1:], np.array([0.040, 0.1]))
    field.add_noise(RMS, np.random.default_rng(SEED)).add_sources(ra[[0, 2]], dec[[0, 2]], np.array([0.012, 0.1]))
    noise = field.image(np.full((640, 640), RMS), "noise", "Jy")
    image = field.image(kind="mosaic")
    assert search_new(image, noise, known, PhotometryOptions()) == []
    assert len(search_new(image, noise, make_sky(ra[2:], dec[2:], np.array([0.1])), PhotometryOptions())) == 1
