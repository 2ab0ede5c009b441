"""Defects of visibilities, imaged and measured: each is caught by the check that is there for it, a sound tile by none.

The tile is small, but all of the way is the pipeline's: CLEAN, forced photometry, reference sources, checks.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.imaging.synthetic import Tile, add_noise, add_sources, empty_tile, sources

from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ImagingOptions, PhotometryOptions, QAOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.pipeline.reference_sources import reference_sources
from dsa110_contimg.qa.checks import (
    Check,
    Verdict,
    image_checks,
    source_checks,
    thermal_noise_jy,
    thermal_noise_of,
    verdict_of,
)
from dsa110_contimg.telescope import SEFD_JY
from dsa110_contimg.visibilities import SkyModel, Visibilities, predict

SEED = 11
CHANNEL_HZ, SAMPLE_S = 187.5e6 / 8, 309.0 / 6
NOISE_JY = SEFD_JY / np.sqrt(2.0 * CHANNEL_HZ * SAMPLE_S)
# The synthetic tile is sampled at the centers of its channels and integrations: nothing smears in it.
IMAGING = ImagingOptions(size=640, cell_arcsec=8.0, threads=1, smearing=False)


def observed(dec_deg: float = 33.2) -> tuple[Visibilities, SkyModel]:
    """Return a tile of sources between 30 mJy and 1 Jy on both sides of its center, with the telescope's noise."""
    rng = np.random.default_rng(SEED)
    vis = empty_tile(Tile(n_antennas=28, extent_m=900.0, dec_deg=dec_deg))
    grid = np.stack(np.meshgrid(np.linspace(-0.55, 0.55, 6), np.linspace(-0.55, 0.55, 6)), axis=-1).reshape(-1, 2)
    sky = sources(vis, grid + rng.uniform(-0.07, 0.07, grid.shape), 10.0 ** rng.uniform(-1.5, 0.0, len(grid)))
    add_sources(vis, sky)
    add_noise(vis, float(NOISE_JY), SEED)
    return vis, sky


@pytest.fixture(scope="module")
def tile() -> tuple[Visibilities, SkyModel]:
    print(f"seed {SEED}")
    return observed()


def checks_of(vis: Visibilities, sky: SkyModel) -> dict[str, Check]:
    """Image, measure and judge a tile the way the pipeline does."""
    made = make_image(vis, IMAGING, bright=sky)
    measurements = forced.measure(made.image, sky, PhotometryOptions(), beam=made.beam)
    known = reference_sources(made.image, sky, measurements)
    checks = image_checks(made.image, QAOptions(), thermal_noise_of(vis), made.local_noise())
    checks += source_checks(known, made.image.beam, QAOptions())
    return {check.name: check for check in checks}


@pytest.mark.parametrize("dec_deg", [33.2, 71.6])
def test_a_sound_tile_passes(dec_deg: float) -> None:
    checks = checks_of(*observed(dec_deg))
    print({name: check.value for name, check in checks.items()})
    assert verdict_of(list(checks.values())) is Verdict.PASSED, [c for c in checks.values() if c.verdict != "passed"]
    assert checks["flux_ratio"].value == pytest.approx(1.0, abs=0.01)
    assert checks["noise_over_thermal"].value is not None
    assert 1.0 < checks["noise_over_thermal"].value < 3.0


def corrupted(vis: Visibilities, gains: np.ndarray) -> Visibilities:
    """Return visibilities with antenna gains, (n_antenna,) complex, on them."""
    factor = gains[vis.antenna1] * np.conj(gains[vis.antenna2])
    return replace(vis, vis=(vis.vis * factor[:, None, None]).astype(np.complex64))


def low_gains(vis: Visibilities, _sky: SkyModel) -> Visibilities:
    return corrupted(vis, np.full(vis.n_antennas, 0.95 + 0.0j))


def mirrored(vis: Visibilities, _sky: SkyModel) -> Visibilities:
    return replace(vis, vis=np.conj(vis.vis))


def wrong_strip(vis: Visibilities, _sky: SkyModel) -> Visibilities:
    """Return a tile that a table of another day and strip has calibrated: phases have nothing to do with it."""
    rng = np.random.default_rng(2)
    return corrupted(vis, np.exp(2j * np.pi * rng.random(vis.n_antennas)) * rng.uniform(0.5, 2.0, vis.n_antennas))


def striped(vis: Visibilities, _sky: SkyModel) -> Visibilities:
    """Return a tile with a strong signal that does not move with the sky on one baseline."""
    bad = (vis.antenna1 == 3) & (vis.antenna2 == 17)
    added = np.where(bad, 40.0, 0.0).astype(np.complex64)
    return replace(vis, vis=vis.vis + added[:, None, None])


def bowled(vis: Visibilities, _sky: SkyModel) -> Visibilities:
    """Return a tile with an extended source whose flux the missing short baselines would have told."""
    middle = sources(vis, np.array([[0.15, -0.15]]), np.array([10.0]))
    wide = replace(middle, gaussian=np.array([[300.0, 300.0, 0.0]]))
    short = np.hypot(*vis.uvw_m[:, :2].T) < 60.0
    flags = vis.flags.copy()
    flags[short] = True
    return replace(vis, vis=vis.vis + predict(vis, wide)[:, :, None], flags=flags)


def noisy(vis: Visibilities, _sky: SkyModel) -> Visibilities:
    """Return a tile whose receivers are ten times as noisy as they should be."""
    worse = replace(vis, vis=vis.vis.copy())
    add_noise(worse, 10.0 * float(NOISE_JY), 5)
    return worse


DEFECTS: dict[str, tuple[str, Callable[[Visibilities, SkyModel], Visibilities]]] = {
    "gains 5 % low": ("flux_ratio", low_gains),
    "mirrored field: positions": ("astrometry", mirrored),
    "mirrored field: sources": ("completeness", mirrored),
    "a wrong strip's table: fluxes": ("flux_ratio", wrong_strip),
    "a wrong strip's table: sources": ("completeness", wrong_strip),
    "a wrong strip's table: noise": ("noise_over_thermal", wrong_strip),
    "stripes": ("stripes", striped),
    "a bowl": ("bowl", bowled),
    "noisy receivers": ("noise_over_thermal", noisy),
}


@pytest.fixture(scope="module")
def judged(tile: tuple[Visibilities, SkyModel]) -> Callable[[Callable[..., Visibilities]], dict[str, Check]]:
    known: dict[str, dict[str, Check]] = {}

    def judge(spoil: Callable[..., Visibilities]) -> dict[str, Check]:
        if spoil.__name__ not in known:
            known[spoil.__name__] = checks_of(spoil(*tile), tile[1])
        return known[spoil.__name__]

    return judge


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_caught_by_its_check(
    defect: str, judged: Callable[[Callable[..., Visibilities]], dict[str, Check]]
) -> None:
    name, spoil = DEFECTS[defect]
    checks = judged(spoil)
    print({key: (check.value, check.verdict.value) for key, check in checks.items()})
    assert checks[name].verdict in (Verdict.WARNING, Verdict.FAILED), checks[name]
    assert verdict_of(list(checks.values())) is not Verdict.PASSED


def test_the_thermal_noise_is_that_of_natural_weights() -> None:
    vis = empty_tile(Tile(n_antennas=28, extent_m=900.0))
    add_noise(vis, float(NOISE_JY), SEED)
    made = make_image(vis, replace(IMAGING, weighting="natural", niter=0))
    assert made.summary.noise_jy == pytest.approx(thermal_noise_of(vis), rel=0.05)
    half = replace(vis, flags=vis.flags | (np.arange(8) < 4)[None, :, None])
    assert thermal_noise_of(half) == pytest.approx(np.sqrt(2.0) * thermal_noise_of(vis))
    assert np.isnan(thermal_noise_of(replace(vis, flags=np.ones_like(vis.flags))))


def test_thermal_noise_of_the_telescope() -> None:
    """TELESCOPE: 96 antennas, 187.5 MHz and 309 s give 0.20 mJy/beam."""
    assert thermal_noise_jy(2 * 96 * 95 // 2 * 768 * 24, 187.5e6 / 768, 12.885) == pytest.approx(0.20e-3, rel=0.02)
