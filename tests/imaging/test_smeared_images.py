"""What averaging takes off a source is given back, whether CLEAN reaches it or not.

The dishes look for 103 s at a time, at channels of 12 MHz: baselines of 900 m smear as those of several kilometers do.
"""

from dataclasses import replace

import numpy as np
import pytest
from tests.imaging.measure import peak_near
from tests.imaging.synthetic import Tile, add_noise, empty_tile, sources

from dsa110_contimg.imaging import image as imaging
from dsa110_contimg.imaging.field import Field
from dsa110_contimg.imaging.image import ImagingResult
from dsa110_contimg.imaging.samples import Block, average, weigh
from dsa110_contimg.imaging.smearing import AveragingLoss, image_directions, separate
from dsa110_contimg.imaging.transform import Transform
from dsa110_contimg.kernels.sphere import from_direction_cosines
from dsa110_contimg.options import ImagingOptions
from dsa110_contimg.simulation.injection import inject
from dsa110_contimg.visibilities import SkyModel, Visibilities, predict

TILE = Tile(n_antennas=32, n_times=3, n_channels=8, extent_m=900.0, channel_width_hz=187.5e6 / 16)
OPTIONS = ImagingOptions(size=1000, cell_arcsec=5.0, threads=1, subtract_bright=False)
PLACES = np.array([[0.02, -0.03], [0.56, 0.1], [-0.4, 0.5], [-0.2, -0.55], [-0.5, -0.4], [0.4, -0.45], [0.4, 0.5]])
FLUX_JY = 0.2


def grid(vis: Visibilities) -> Field:
    return Field(OPTIONS.size, np.radians(OPTIONS.cell_arcsec / 3600.0) / vis.aberration)


def weighed(vis: Visibilities) -> list[Block]:
    blocks = average(vis)
    weigh(blocks, grid(vis), OPTIONS)
    return blocks


def smeared(dec_deg: float) -> tuple[Visibilities, SkyModel]:
    vis = empty_tile(replace(TILE, dec_deg=dec_deg))
    sky = sources(vis, PLACES, np.full(len(PLACES), FLUX_JY))
    inject(vis, sky, smear=True)
    add_noise(vis, 0.02, seed=3)
    return vis, sky


def ratios(result: ImagingResult, sky: SkyModel) -> np.ndarray:
    assert result.pbcor is not None
    return np.array([peak_near(result.pbcor, sky, i).flux_jy for i in range(len(sky))]) / sky.flux_jy


@pytest.mark.parametrize("dec_deg", [33.2, pytest.param(-5.0, marks=pytest.mark.slow)])
def test_fluxes_of_smeared_sources_come_back(dec_deg: float) -> None:
    vis, sky = smeared(dec_deg)
    blind, seeing = (ratios(imaging.image(vis, replace(OPTIONS, smearing=on)), sky) for on in (False, True))
    print(f"dec {dec_deg}: {seeing.round(4)}; without the correction {blind.round(4)}")
    assert seeing == pytest.approx(1.0, abs=0.015)
    assert seeing.mean() == pytest.approx(1.0, abs=0.006)
    assert blind[1:].max() < 0.985, "the loss is worth correcting here"


@pytest.mark.parametrize("dec_deg", [33.2, 75.0])
def test_a_component_takes_a_smeared_source_off_whole(dec_deg: float) -> None:
    """As bright as the dirty image shows it; a component that does not smear leaves a ring."""
    vis = empty_tile(replace(TILE, dec_deg=dec_deg))
    field = grid(vis)
    pixel = np.array([[800, 210]], np.int32)
    y, x = (pixel[0] - OPTIONS.size // 2) * field.cell_rad * vis.aberration
    ra, dec = np.degrees(from_direction_cosines(-x, y, *np.radians(vis.phase_center)))
    sky = SkyModel(["a"], np.array([ra]), np.array([dec]), np.array([1.0]), np.zeros((1, 1)))
    vis.vis += predict(vis, sky, with_beam=False, smeared=True)[:, :, None]
    blocks = weighed(vis)
    loss = AveragingLoss(vis, blocks, smeared=True)
    left = {}
    for name, model in (("smeared", separate(loss, field)), ("point", None)):
        samples = Transform(blocks, field, OPTIONS, model)
        peak = float(samples.dirty()[tuple(pixel[0])])
        samples.subtract(pixel, np.array([peak]))
        left[name] = float(np.abs(samples.dirty()).max())
    print(f"dec {dec_deg}: peak {peak:.4f}, left {left}")
    x_y = pixel[0, ::-1] - OPTIONS.size // 2
    lm = np.array([-x_y[0], x_y[1]]) * field.cell_rad
    lmn = np.array([[*lm, np.sqrt(1.0 - lm @ lm)]])
    assert peak == pytest.approx(loss.mean(lmn)[0], abs=2e-3)
    assert peak < 0.97
    assert left["smeared"] < 0.4 * left["point"]
    assert left["smeared"] < 0.01 < left["point"]


def test_a_few_terms_tell_the_loss_of_every_row() -> None:
    vis = empty_tile(TILE)
    loss = AveragingLoss(vis, weighed(vis), smeared=True)
    apart = separate(loss, grid(vis))
    nodes, lmn = image_directions(grid(vis), 9)
    offsets = np.stack([axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing="ij")], axis=1)
    exact = loss.toward(lmn, slice(None)) / loss.mean(lmn)
    told = np.sum([np.outer(row, apart.at(term, offsets)) for term, row in enumerate(apart.of_row)], axis=0)
    error = np.sqrt(np.average(np.mean((told - exact) ** 2, axis=1), weights=loss.weight))
    print(f"{len(apart.of_row)} terms: rms error {error:.1e}, of a loss of up to {1.0 - exact.min():.2f}")
    assert error < 0.01
    assert len(apart.of_row) < 8
    assert exact.min() < 0.8
