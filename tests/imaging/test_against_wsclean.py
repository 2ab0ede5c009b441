"""3C273 as the VLA saw it: `contimg image` beside WSClean on the same set, weights, pixels and iterations."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import typer
from astropy.io import fits
from numpy.typing import NDArray
from tests.imaging.uvfits import measurement_set_from_uvfits
from typer.testing import CliRunner

from dsa110_contimg.cli.image import image
from dsa110_contimg.formats.measurement_set import load
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ImagingOptions

SIZE, CELL_ARCSEC, ITERATIONS = 512, 0.3, 1000
JET_PA_DEG, JET_ARCSEC = 222.0, 21.0


@pytest.fixture(scope="module")
def measurement_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = os.environ.get("CONTIMG_DATA", "")
    uvfits = Path(data) / "ms" / "3C273XC1.fits"
    if not data or not uvfits.is_file():
        pytest.skip("3C273XC1.fits is not here: set CONTIMG_DATA to the folder of real data")
    return measurement_set_from_uvfits(uvfits, tmp_path_factory.mktemp("ms") / "3c273.ms")


@pytest.fixture(scope="module")
def wsclean(measurement_set: Path) -> Path:
    """Return the prefix of WSClean's images."""
    program = shutil.which("wsclean")
    if program is None:
        pytest.skip("WSClean is not installed")
    prefix = measurement_set.with_name("wsclean")
    command = [
        program, "-j", "1", "-size", str(SIZE), str(SIZE), "-scale", f"{CELL_ARCSEC}asec", "-weight", "briggs", "0.5",
        "-niter", str(ITERATIONS), "-mgain", "0.8", "-use-wgridder", "-no-small-inversion", "-make-psf",
        "-data-column", "CORRECTED_DATA", "-no-update-model-required", "-name", str(prefix), str(measurement_set),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return prefix


def plane(path: Path) -> NDArray[np.float32]:
    """Return the pixels of a FITS image."""
    return np.asarray(fits.getdata(path), np.float32).squeeze()


def peak(image: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """Return the brightest pixel and the interpolated (y, x) of the peak."""
    y, x = divmod(int(image.argmax()), image.shape[1])
    box = np.log(image[y - 1 : y + 2, x - 1 : x + 2].astype(float))
    dy = 0.5 * (box[0, 1] - box[2, 1]) / (box[0, 1] - 2 * box[1, 1] + box[2, 1])
    dx = 0.5 * (box[1, 0] - box[1, 2]) / (box[1, 0] - 2 * box[1, 1] + box[1, 2])
    return float(image[y, x]), np.array([y + dy, x + dx])


@pytest.fixture(scope="module")
def ours(measurement_set: Path) -> Path:
    """Return the prefix of the images that `contimg image` writes."""
    app = typer.Typer()
    app.command()(image)
    out = measurement_set.with_name("ours")
    arguments = [
        str(measurement_set), "--out", str(out), "--size", str(SIZE), "--cell-arcsec", str(CELL_ARCSEC),
        "--niter", str(ITERATIONS), "--auto-mask", "3", "--threads", "1", "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return out / "3c273.img"


def test_psf_and_dirty_image_are_wscleans(measurement_set: Path, wsclean: Path) -> None:
    result = make_image(load(measurement_set), ImagingOptions(size=SIZE, cell_arcsec=CELL_ARCSEC, niter=0, threads=1))
    psf = np.abs(result.psf.data - plane(Path(f"{wsclean}-psf.fits"))).max()
    dirty = plane(Path(f"{wsclean}-dirty.fits"))
    difference = np.abs(result.dirty.data - dirty).max() / dirty.max()
    print(f"largest difference from WSClean: psf {psf:.1e}, dirty {difference:.1e} of the peak")
    assert psf < 5e-4
    assert difference < 5e-4


def test_peak_and_position_are_wscleans(ours: Path, wsclean: Path) -> None:
    theirs = Path(f"{wsclean}-image.fits")
    flux, at = peak(plane(Path(f"{ours}-image.fits")))
    other_flux, other_at = peak(plane(theirs))
    beam_pixels = float(fits.getval(theirs, "BMIN")) * 3600.0 / CELL_ARCSEC
    apart = float(np.hypot(*(at - other_at))) / beam_pixels
    print(f"peak {flux:.3f} Jy, WSClean {other_flux:.3f} Jy ({flux / other_flux:.4f}); {apart:.4f} beams apart")
    assert flux == pytest.approx(other_flux, rel=0.03)
    assert apart < 0.1


def test_residual_is_as_low_as_wscleans(ours: Path, wsclean: Path) -> None:
    rms, other = plane(Path(f"{ours}-residual.fits")).std(), plane(Path(f"{wsclean}-residual.fits")).std()
    print(f"residual rms {1e3 * rms:.3f} mJy, WSClean {1e3 * other:.3f} mJy")
    assert rms < 1.3 * other


def test_the_jet_points_south_west(ours: Path) -> None:
    image = plane(Path(f"{ours}-image.fits"))
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    east, north = -x * CELL_ARCSEC, y * CELL_ARCSEC
    ring = (np.hypot(east, north) > 12.0) & (np.hypot(east, north) < 30.0)
    j, i = divmod(int(np.where(ring, image, 0.0).argmax()), SIZE)
    assert np.degrees(np.arctan2(east[j, i], north[j, i])) % 360.0 == pytest.approx(JET_PA_DEG, abs=3.0)
    assert np.hypot(east[j, i], north[j, i]) == pytest.approx(JET_ARCSEC, abs=2.0)
