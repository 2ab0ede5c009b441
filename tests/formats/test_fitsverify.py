"""Every kind of image that is written passes fitsverify, and astropy's strict verification, without a warning."""

import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from tests.formats.sky_images import PLACES, sky_image

from dsa110_contimg.formats import fits_image
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.provenance import header_cards, record
from dsa110_contimg.visibilities import SkyImage

KINDS = {
    **dict.fromkeys(("image", "pbcor", "residual", "dirty", "mosaic", "noise", "rms", "background"), "Jy/beam"),
    **dict.fromkeys(("beam", "psf", "coverage"), ""),
    "weight": "(Jy/beam)^-2",
    "model": "Jy/pixel",
}
CARDS = (
    *("BUNIT", "BMAJ", "BMIN", "BPA", "DATE-OBS", "DATE-END", "MJD-OBS", "EXPTIME", "RESTFRQ", "CRVAL3", "CDELT3"),
    *("CALTABLES", "ORIGIN", "PIPECOM", "OPTIONS", "CHECKSUM", "DATASUM", "WCSAXES", "RADESYS", "TELESCOP", "TIMESYS"),
)


def picture(kind: str) -> SkyImage:
    made = record(
        activity="mosaic",
        inputs=[Path(f"2025-01-15T12:3{k}:00.img-image.fits") for k in range(10)],
        calibration_tables=[Path(f"2025-01-15T12:3{k}:00_bpcal") for k in range(10)],
        options=PipelineOptions(),
    )
    cards = header_cards({**made, "software": {**made["software"], "commit": "a" * 40}})
    return replace(
        sky_image(PLACES[0]), kind=kind, unit=KINDS[kind], header={**cards, "ABERRATION": 1.0001, "NTILES": 10}
    )


def bare(_kind: str) -> SkyImage:
    return SkyImage(np.ones((5, 7), np.float32), PLACES[2], 0.01)


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
@pytest.mark.parametrize("quantization", [0.0, 16.0])
def test_fitsverify_has_nothing_to_say(tmp_path: Path, quantization: float) -> None:
    files = [fits_image.save(picture(kind), tmp_path / f"{kind}.fits", quantization=quantization) for kind in KINDS]
    files.append(fits_image.save(bare("image"), tmp_path / "bare.fits", quantization=quantization))
    done = subprocess.run(["fitsverify", "-q", *map(str, files)], capture_output=True, text=True, check=False)
    assert done.stdout.count("verification OK") == len(files), done.stdout


@pytest.mark.parametrize("quantization", [0.0, 16.0])
@pytest.mark.parametrize("kind", ["mosaic", "weight"])
def test_astropy_has_nothing_to_mend_and_every_card_is_there(tmp_path: Path, kind: str, quantization: float) -> None:
    path = fits_image.save(picture(kind), tmp_path / "a.fits", quantization=quantization)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            header = hdus[-1].header
            wcs = WCS(header)
    assert [card for card in CARDS if card not in header and card not in ("CHECKSUM", "DATASUM")] == []
    assert [axis["coordinate_type"] for axis in wcs.get_axis_types()] == [
        "celestial",
        "celestial",
        "spectral",
        "stokes",
    ]
    assert header["LONGSTRN"] == "OGIP 1.0"
