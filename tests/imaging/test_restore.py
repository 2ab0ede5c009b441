"""The restoring beam and the restored image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.imaging.restore import Components, beam_curvature, beam_of_curvature, fit_beam, restored
from dsa110_contimg.visibilities import Beam

BEAMS = [Beam(59.0, 18.0, 12.0), Beam(37.0, 26.0, 95.0), Beam(62.0, 40.0, 170.0)]


def gaussian(beam: Beam, size: int, cell: float) -> NDArray[np.float32]:
    """Spell it out: offsets toward east and north, along and across the major axis."""
    y, x = np.mgrid[:size, :size] - size // 2
    east, north = -x * cell, y * cell
    pa = np.radians(beam.pa_deg)
    along, across = east * np.sin(pa) + north * np.cos(pa), east * np.cos(pa) - north * np.sin(pa)
    shape = (along / beam.major_arcsec) ** 2 + (across / beam.minor_arcsec) ** 2
    return np.asarray(np.exp(-4.0 * np.log(2.0) * shape), np.float32)


@pytest.mark.parametrize("beam", BEAMS)
def test_a_gaussian_is_fitted_exactly(beam: Beam) -> None:
    fitted = fit_beam(gaussian(beam, 256, 3.0), 3.0, 20.0)
    np.testing.assert_allclose(fitted, beam, rtol=1e-4)


@pytest.mark.parametrize("beam", BEAMS)
def test_sidelobes_pull_but_do_not_carry_away(beam: Beam) -> None:
    y, x = np.mgrid[:256, :256] - 128
    psf = gaussian(beam, 256, 3.0) + 0.04 * np.cos(0.21 * x + 0.1 * y) * (1 - gaussian(beam, 256, 3.0))
    fitted = fit_beam(psf.astype(np.float32), 3.0, 20.0)
    assert fitted.major_arcsec == pytest.approx(beam.major_arcsec, rel=0.06)
    assert fitted.minor_arcsec == pytest.approx(beam.minor_arcsec, rel=0.06)
    assert abs((fitted.pa_deg - beam.pa_deg + 90.0) % 180.0 - 90.0) < 8.0


@pytest.mark.parametrize("beam", BEAMS)
def test_curvature_and_beam_are_inverse(beam: Beam) -> None:
    np.testing.assert_allclose(beam_of_curvature(*beam_curvature(beam, 3.0), 3.0), beam)
    near_round = Beam(30.0, 30.0, 0.0)
    assert beam_of_curvature(*beam_curvature(near_round, 3.0), 3.0).major_arcsec == pytest.approx(30.0)


def test_restoring_keeps_flux_and_fractions_of_a_pixel() -> None:
    model = np.zeros((128, 128), np.float32)
    model[40, 50], model[40, 51] = 1.5, 0.5
    bright = Components(np.array([[80.25, 30.5]]), np.array([7.0]))
    residual = np.full((128, 128), 0.01, np.float32)
    image = restored(residual, model, bright, BEAMS[1], 3.0) - residual
    area = np.pi * BEAMS[1].major_arcsec * BEAMS[1].minor_arcsec / (4.0 * np.log(2.0) * 9.0)
    assert image.sum() / area == pytest.approx(9.0, rel=1e-4)
    y, x = np.mgrid[:128, :128]
    lit = np.where((y > 60), image, 0.0)
    assert float((lit * y).sum() / lit.sum()) == pytest.approx(80.25, abs=0.01)
    assert float((lit * x).sum() / lit.sum()) == pytest.approx(30.5, abs=0.01)
    assert image[40, 50] == pytest.approx(1.5 + 0.5 * np.exp(-beam_curvature(BEAMS[1], 3.0)[0]), rel=1e-4)
