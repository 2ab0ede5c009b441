"""Compressed images lose what is said and no more, keep their headers and blanks, and show damage."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.formats.tile_compression import NOISY_KINDS
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

SEED = 5
SIGMA = 1e-3
QUANTIZATION = 16.0


@pytest.fixture(scope="module")
def image() -> SkyImage:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    data = rng.normal(0.0, SIGMA, (400, 700))
    y, x = np.mgrid[:400, :700]
    for x0, y0, flux in ((120.3, 80.7, 5.0), (560.1, 300.4, 0.05), (333.3, 222.2, 0.3)):
        data += flux * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 8.0)
    data[:, :30] = np.nan
    return SkyImage(
        data.astype(np.float32),
        SkyPosition(359.9, 33.2),
        8.0 / 3600.0,
        kind="mosaic",
        beam=Beam(77.0, 38.0, 100.0),
        freq_hz=1.405e9,
        bandwidth_hz=187.5e6,
        start_mjd=60690.123,
        end_mjd=60690.2,
        exposure_s=927.0,
        noise_jy=SIGMA,
        field_name="mosaic_2025-01-15_02-57-07",
        header={"CALTABLES": ",".join(f"2025-01-15T02:5{k}:07_bpcal" for k in range(6)), "NTILES": 3},
    )


@pytest.fixture(scope="module")
def path(image: SkyImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fits_image.save(image, tmp_path_factory.mktemp("small") / "m.fits", quantization=QUANTIZATION)


def test_what_is_lost_is_what_the_header_of_the_module_says(image: SkyImage, path: Path) -> None:
    error = fits_image.load(path).data - image.data
    known = np.isfinite(image.data)
    np.testing.assert_array_equal(np.isfinite(error), known)
    # A row's noise is measured on the row: it scatters by some percent.
    assert error[known].std() == pytest.approx(SIGMA / QUANTIZATION / np.sqrt(12.0), rel=0.05)
    assert abs(error[known].mean()) < 4.0 * error[known].std() / np.sqrt(known.sum())
    assert np.abs(error[known]).max() < 0.75 * SIGMA / QUANTIZATION
    assert path.stat().st_size < 0.3 * image.data.nbytes


def test_fluxes_are_not_biased(image: SkyImage, path: Path) -> None:
    error = fits_image.load(path).data - image.data
    for x, y in ((120, 81), (560, 300), (333, 222)):
        part = error[y - 6 : y + 7, x - 6 : x + 7]
        assert abs(part.sum()) < 5.0 * 13.0 * SIGMA / QUANTIZATION / np.sqrt(12.0)


def test_headers_come_back(image: SkyImage, path: Path) -> None:
    back = fits_image.load(path)
    for field in fields(SkyImage):
        if field.name == "beam":
            assert back.beam == pytest.approx(image.beam, rel=3e-16)
        elif field.name != "data":
            assert getattr(back, field.name) == getattr(image, field.name), field.name
    assert fits_image.load_header(path)["OBJECT"] == image.field_name


def test_the_same_image_makes_the_same_bytes(image: SkyImage, path: Path, tmp_path: Path) -> None:
    again = fits_image.save(image, tmp_path / "again.fits", quantization=QUANTIZATION)
    assert again.read_bytes() == path.read_bytes()


def test_astropy_reads_it_with_sound_checksums(path: Path) -> None:
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        assert isinstance(hdus[1], fits.CompImageHDU)
        assert hdus[1].shape == (1, 1, 400, 700)
    with fits.open(path, disable_image_compression=True) as hdus:
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
        header = hdus[1].header
    assert (header["ZCMPTYPE"], header["ZQUANTIZ"], header["ZDITHER0"]) == ("RICE_1", "SUBTRACTIVE_DITHER_1", 1)


def test_only_what_has_noise_is_compressed(image: SkyImage, tmp_path: Path) -> None:
    for kind in (*NOISY_KINDS, "noise", "weight", "beam", "psf"):
        saved = fits_image.save(replace(image, kind=kind), tmp_path / f"{kind}.fits", quantization=QUANTIZATION)
        assert (saved.stat().st_size < 0.5 * image.data.nbytes) == (kind in NOISY_KINDS)
        if kind not in NOISY_KINDS:
            assert fits_image.load(saved).data.tobytes() == image.data.tobytes()


def test_damage_is_noticed(path: Path, tmp_path: Path) -> None:
    whole, damaged = path.read_bytes(), tmp_path / "damaged.fits"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    damaged.write_bytes(flipped)
    with pytest.raises(BadInputError, match="DATASUM"):
        fits_image.load(damaged)
    for length in (len(whole) - 2880, len(whole) // 2, 4000):
        damaged.write_bytes(whole[:length])
        with pytest.raises(BadInputError, match=r"damaged\.fits"):
            fits_image.load(damaged)
