"""Flux scale, astrometry, completeness and new sources of an image whose truth is known."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.crossmatch import crossmatch, estimate, find_sources, isolated

if TYPE_CHECKING:
    from tests.photometry.conftest import MakeField, MakeSky

SEED = 31
OPTIONS = PhotometryOptions()


def test_scale_offsets_completeness_and_new_sources(make_field: MakeField, make_sky: MakeSky) -> None:
    """The image is 8 % faint, 1.2" west and 0.6" north of a catalogue that lacks one source, across RA 0."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    field = make_field(center=(359.98, 16.1), beam=(40.0, 18.0, 110.0))
    x, y = field.scattered(64, rng)
    ra, dec = field.sky(x, y)
    truth = rng.uniform(0.02, 0.2, x.size)
    response = field.primary_beam(1000.0)
    gain = np.exp(-4.0 * np.log(2.0) * ((x - 384) ** 2 + (y - 384) ** 2) / 1000.0**2)
    field.add_noise(0.001, rng).add_sources(ra, dec, 0.92 * truth * gain)
    shifted = (ra + 1.2 / 3600.0 / np.cos(np.radians(dec))) % 360.0
    catalogue = make_sky(shifted[1:], dec[1:] - 0.6 / 3600.0, truth[1:])
    result = crossmatch(field.image(), catalogue, OPTIONS, beam=field.image(response, "beam", ""))
    assert result.flux_ratio is not None
    assert result.offset_ra_arcsec is not None
    assert result.offset_dec_arcsec is not None
    assert result.flux_ratio.value == pytest.approx(0.92, abs=4.0 * result.flux_ratio.error)
    assert result.flux_ratio.error < 0.01
    assert result.offset_ra_arcsec.value == pytest.approx(-1.2, abs=0.1)
    assert result.offset_dec_arcsec.value == pytest.approx(0.6, abs=0.1)
    assert result.n_expected > 90
    assert result.completeness is not None
    assert result.completeness > 0.97
    assert len(result.new) == 1
    assert result.new.ra_deg[0] == pytest.approx(ra[0], abs=2.0 / 3600.0)
    assert result.new.flux_jy[0] == pytest.approx(0.92 * truth[0], rel=0.2)
    assert len(np.unique(result.catalogue_index)) == len(result.catalogue_index)


def test_completeness_counts_what_is_not_there(make_field: MakeField, make_sky: MakeSky) -> None:
    """A quarter of the catalogue's sources is not in the image."""
    rng = np.random.default_rng(SEED)
    field = make_field(side=600)
    x, y = field.scattered(60, rng)
    ra, dec = field.sky(x, y)
    there = np.arange(x.size) % 4 != 0
    field.add_noise(0.001, rng).add_sources(ra[there], dec[there], np.full(there.sum(), 0.05))
    result = crossmatch(field.image(), make_sky(ra, dec, np.full(x.size, 0.05)), OPTIONS)
    assert result.completeness == pytest.approx(there.mean(), abs=0.02)


def test_noise_alone_holds_no_sources(make_field: MakeField) -> None:
    field = make_field()
    field.add_noise(0.001, np.random.default_rng(SEED))
    noise = field.image(np.full(field.data.shape, 0.001), "noise", "Jy")
    assert len(find_sources(field.image(kind="mosaic"), noise, 5.0)) <= 1
    field.data[:] = np.nan
    assert len(find_sources(field.image(), None, 5.0)) == 0


def test_empty_catalogue_measures_nothing(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=300)
    ra, dec = field.sky(np.array([150.2]), np.array([149.7]))
    field.add_noise(0.001, np.random.default_rng(SEED)).add_sources(ra, dec, np.array([0.1]))
    result = crossmatch(field.image(), make_sky([], [], []), OPTIONS)
    assert result.flux_ratio is None
    assert result.completeness is None
    assert len(result.new) == 1


def test_isolation_and_estimates(make_sky: MakeSky) -> None:
    sky = make_sky([0.0, 359.999, 40.0], [10.0, 10.0, 89.99], [1.0, 1.0, 1.0])
    assert isolated(sky, 10.0 / 3600.0).tolist() == [False, False, True]
    assert isolated(sky, 1.0 / 3600.0).all()
    assert estimate(np.array([np.nan])) is None
    result = estimate(np.array([1.0, 2.0, 3.0]))
    assert result is not None
    assert (result.value, result.n) == (2.0, 3)
    assert result.error == pytest.approx(1.2533 * 1.4826 / np.sqrt(3.0), rel=1e-3)
