"""Fluxes of four parts of the band: spectra, chromatic dips and errors of the gains come back as what they are."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.imaging.image import image
from dsa110_contimg.imaging.subbands import SubbandFluxes, interpolated
from dsa110_contimg.kernels.spectra import Lines, chromatic_change, spectral_index
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.visibilities import SkyModel, Visibilities

FloatArray = NDArray[np.float64]

SEED = 19
N_CHAN = 16
OPTIONS = ImagingOptions(size=360, cell_arcsec=24.0, threads=1)
OFFSETS = np.array([[0.3, 0.25], [-0.5, 0.4], [0.7, -0.35], [-0.2, -0.6], [0.05, 0.02], [-1.0, -0.2]])
FLUX = np.array([1.5, 0.25, 0.2, 0.12, 0.1, 0.2])
ALPHA = np.array([-0.8, -0.7, 0.4, -1.2, -0.7, 0.0])


def chromatic(vis: Visibilities, sky: SkyModel, flux: FloatArray) -> None:
    """Add sources whose fluxes, (n_source, n_chan), are their own in each channel."""
    for channel in range(vis.freq_hz.size):
        part = replace(vis, vis=np.zeros_like(vis.vis[:, [channel]]), freq_hz=vis.freq_hz[[channel]])
        add_sources(part, replace(sky, flux_jy=flux[:, channel]))
        vis.vis[:, channel] += part.vis[:, 0]


def measured(
    dec_deg: float, change: FloatArray | float = 1.0, *, gain: float = 1.0, seed: int = SEED
) -> tuple[SubbandFluxes, FloatArray]:
    """Image the field, each source's flux times `change` (n_source, n_chan); return what is found, and the truth."""
    vis = empty_tile(Tile(dec_deg=dec_deg, n_antennas=18, n_channels=N_CHAN, channel_width_hz=187.5e6 / N_CHAN))
    sky = sources(vis, OFFSETS, FLUX)
    truth = FLUX[:, None] * (vis.freq_hz / 1.4e9) ** ALPHA[:, None] * change
    chromatic(vis, sky, truth)
    vis.vis *= np.float32(gain)
    add_noise(vis, 0.2, seed=seed)
    # The catalogue knows neither today's fluxes nor spectra.
    result = image(vis, OPTIONS, bright=replace(sky, flux_jy=FLUX * 1.1, spectrum=np.full((FLUX.size, 1), -0.7)))
    assert result.subbands is not None
    return in_order(result.subbands), truth.reshape(FLUX.size, 4, -1).mean(axis=2)


def in_order(found: SubbandFluxes) -> SubbandFluxes:
    """Put the sources into the order of the truth; all of them must be there."""
    names = [f"s{index}" for index in range(FLUX.size)]
    place = [found.names.index(name) for name in names]
    assert len(found.names) == len(names)
    return SubbandFluxes(names, found.freq_hz, found.flux_jy[place], found.flux_err_jy[place])


def test_fluxes_and_spectra_of_four_parts_are_unbiased_at_two_declinations() -> None:
    """Off-center sources of six spectra behind a drifting beam that is 14 % narrower at the top of the band."""
    sys.stdout.write(f"seed {SEED}\n")
    pulls, index_pulls = [], []
    for dec_deg in (16.0, 54.5):
        found, truth = measured(dec_deg)
        pulls.append((found.flux_jy - truth) / found.flux_err_jy)
        np.testing.assert_allclose(found.flux_jy[0], truth[0], rtol=0.01)
        lines = spectral_index(found.freq_hz, found.flux_jy, found.flux_err_jy)
        index_pulls.append((lines.slope - ALPHA) / lines.slope_err)
    pull, index_pull = np.concatenate(pulls), np.concatenate(index_pulls)
    assert abs(pull.mean()) < 4.0 / np.sqrt(pull.size)
    assert 0.7 < pull.std() < 1.4
    assert abs(index_pull.mean()) < 4.0 / np.sqrt(index_pull.size)
    assert 0.5 < index_pull.std() < 1.6


def test_a_chromatic_dip_is_told_from_a_gain_error() -> None:
    """Another day one source falls by 50 % at the bottom of the band, 10 % at its top; a third day all gains fall."""
    sys.stdout.write(f"seed {SEED}\n")
    before, _truth = measured(33.2)
    dip = np.ones((FLUX.size, N_CHAN))
    dip[1] = np.linspace(0.5, 0.9, N_CHAN)
    lens, _truth = measured(33.2, dip, seed=SEED + 1)
    faulty, _truth = measured(33.2, gain=0.85, seed=SEED + 2)

    def change(of: SubbandFluxes) -> Lines:
        return chromatic_change(of.freq_hz, of.flux_jy, of.flux_err_jy, before.flux_jy, before.flux_err_jy)

    lensed, scaled = change(lens), change(faulty)
    slope = np.log(0.85 / 0.55) / np.log(before.freq_hz[3] / before.freq_hz[0])
    assert lensed.slope[1] == pytest.approx(slope, abs=4.0 * lensed.slope_err[1])
    assert lensed.slope[1] > 5.0 * lensed.slope_err[1]
    others = np.arange(FLUX.size) != 1
    assert np.all(np.abs(lensed.slope[others]) < 4.0 * lensed.slope_err[others])
    assert np.all(np.abs(lensed.level[others]) < 4.0 * lensed.level_err[others])
    assert np.all(np.abs(scaled.slope) < 4.0 * scaled.slope_err)
    assert scaled.level[0] == pytest.approx(np.log(0.85), abs=4.0 * scaled.level_err[0])
    assert scaled.level[0] < -20.0 * scaled.level_err[0]


def test_without_bright_sources_or_a_beam_nothing_is_measured() -> None:
    vis = empty_tile(Tile(n_antennas=10, n_times=3))
    add_noise(vis, 0.2, seed=SEED)
    sky = sources(vis, np.array([[0.1, 0.1]]), np.array([1e-4]))
    small = replace(OPTIONS, size=128, niter=10)
    assert image(vis, small, bright=sky).subbands is None
    assert image(vis, small).subbands is None
    assert image(vis, replace(small, subbands=0), bright=replace(sky, flux_jy=np.array([9.0]))).subbands is None


def test_values_between_pixels_are_those_of_the_smooth_image() -> None:
    row, column = np.mgrid[0:40, 0:50].astype(float)
    plane = np.exp(-((column - 20.3) ** 2 / 18.0 + (row - 18.6) ** 2 / 11.0)).astype(np.float32)
    x, y = np.array([20.3, 23.7, 18.05, -3.0]), np.array([18.6, 16.2, 19.5, 10.0])
    expected = np.exp(-((x - 20.3) ** 2 / 18.0 + (y - 18.6) ** 2 / 11.0))
    np.testing.assert_allclose(interpolated(plane, x, y)[:3], expected[:3], atol=4e-3)
    assert interpolated(plane, x, y)[3] == pytest.approx(0.0, abs=1e-12)
