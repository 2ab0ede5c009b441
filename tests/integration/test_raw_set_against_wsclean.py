"""A converted tile as another program sees it: sources off the center on both axes are where they were put."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from tests.test_conversion import observe

from dsa110_contimg.conversion import load_group
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import ConversionOptions

SIZE, CELL_ARCSEC = 1800, 4.0


@pytest.mark.parametrize("strip", [(33.2, 24.0), (16.1, 359.9)], ids=["dec33", "across RA 0"])
def test_wsclean_finds_the_sources(tmp_path: Path, strip: tuple[float, float]) -> None:
    program = shutil.which("wsclean")
    if program is None:
        pytest.skip("WSClean is not installed")
    paths, sky = observe(tmp_path / "tile", *strip)
    vis = load_group(paths, ConversionOptions())
    vis.flags[vis.antenna1 == vis.antenna2] = True
    measurement_set.save(tmp_path / "tile.ms", vis)
    command = [
        program, "-j", "1", "-quiet", "-size", str(SIZE), str(SIZE), "-scale", f"{CELL_ARCSEC}asec", "-niter", "600",
        "-mgain", "0.8", "-weight", "briggs", "0.5", "-use-wgridder", "-no-update-model-required", "-pol", "i",
        "-data-column", "DATA", "-name", "out", "tile.ms",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with fits.open(tmp_path / "out-image.fits") as files:
        image, header = files[0].data.squeeze(), files[0].header
    beam_pixels = header["BMIN"] * 3600.0 / CELL_ARCSEC
    wcs = WCS(header, fix=False).celestial
    for ra, dec in zip(sky.ra_deg, sky.dec_deg, strict=True):
        x, y = (float(value) for value in wcs.world_to_pixel_values(ra, dec))
        column, row = round(x), round(y)
        box = image[row - 4 : row + 5, column - 4 : column + 5]
        j, i = divmod(int(box.argmax()), 9)
        peak = np.log(box[j - 1 : j + 2, i - 1 : i + 2])
        dx = 0.5 * (peak[1, 0] - peak[1, 2]) / (peak[1, 0] - 2 * peak[1, 1] + peak[1, 2])
        dy = 0.5 * (peak[0, 1] - peak[2, 1]) / (peak[0, 1] - 2 * peak[1, 1] + peak[2, 1])
        apart = float(np.hypot(column - 4 + i + dx - x, row - 4 + j + dy - y)) / beam_pixels
        print(f"{apart:.3f} beams of {beam_pixels:.1f} pixels from its place, {box.max():.3f} Jy")
        assert box.max() > 0.3
        assert apart < 0.1
