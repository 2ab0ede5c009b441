"""Saving and loading an image is exact; damaged and foreign files are refused by name."""

import os
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.kernels.sphere import direction_cosines
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition


@pytest.fixture
def image() -> SkyImage:
    rng = np.random.default_rng(8)
    data = rng.normal(size=(20, 31)).astype(np.float32)
    data[0, :5] = np.nan
    return SkyImage(
        data=data,
        center=SkyPosition(1.0 / 3.0, 10.0 * np.pi),
        cell_deg=3.0001 / 3600.0,
        kind="pbcor",
        beam=Beam(37.123456789012, 25.7, 101.3),
        freq_hz=1405.0000001e6,
        bandwidth_hz=187.5e6,
        start_mjd=60690.123456789012,
        end_mjd=60690.1270359,
        exposure_s=309.23764801025390,
        noise_jy=1.0 / 7000.0,
        field_name="2025-01-15T12:30:00",
        header={
            "CALTABLES": ",".join(f"2025-01-15T12:3{k}:00_bpcal" for k in range(9)),
            "WEIGHT": "briggs",
            "ROBUST": 0.5,
            "NITER": 20000,
            "ABERRATION": 1.0000312345678901,
        },
    )


def test_round_trip_is_exact(image: SkyImage, tmp_path: Path) -> None:
    back = fits_image.load(fits_image.save(image, tmp_path / "a.fits"))
    assert back.data.tobytes() == image.data.tobytes()
    for field in fields(SkyImage):
        if field.name == "beam":
            assert back.beam == pytest.approx(image.beam, rel=3e-16)
        elif field.name != "data":
            assert getattr(back, field.name) == getattr(image, field.name), field.name


def test_many_numbers_survive(tmp_path: Path) -> None:
    rng = np.random.default_rng(17)
    for k in range(40):
        image = SkyImage(
            np.zeros((4, 4), np.float32),
            SkyPosition(float(rng.uniform(0, 360)), float(rng.uniform(-90, 90))),
            float(10 ** rng.uniform(-5, 0)),
            beam=Beam(*(float(v) for v in rng.uniform(10, 100, 3))),
            noise_jy=float(10 ** rng.uniform(-7, 1)),
            reference_pixel=(float(rng.uniform(-900, 900)), 3.25),
        )
        back = fits_image.load(fits_image.save(image, tmp_path / f"{k}.fits"))
        assert (back.center, back.cell_deg) == (image.center, image.cell_deg)
        assert back.beam == pytest.approx(image.beam, rel=3e-16)
        assert (back.noise_jy, back.reference_pixel) == (image.noise_jy, image.reference_pixel)


def test_unknown_values_stay_unknown(tmp_path: Path) -> None:
    back = fits_image.load(
        fits_image.save(SkyImage(np.ones((3, 3), np.float32), SkyPosition(10.0, 20.0), 0.01), tmp_path / "bare.fits")
    )
    assert back.beam is None
    assert all(np.isnan([back.freq_hz, back.bandwidth_hz, back.start_mjd, back.exposure_s, back.noise_jy]))


def test_a_number_without_unit_stays_without(tmp_path: Path) -> None:
    beam = SkyImage(np.ones((3, 3), np.float32), SkyPosition(10.0, 20.0), 0.01, unit="", kind="beam")
    back = fits_image.load(fits_image.save(beam, tmp_path / "beam.fits"))
    assert (back.unit, back.kind) == ("", "beam")


def test_same_image_same_bytes(image: SkyImage, tmp_path: Path) -> None:
    first, second = (fits_image.save(image, tmp_path / name).read_bytes() for name in ("a.fits", "b.fits"))
    assert first == second
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fits", "b.fits"]


def test_standard_and_checksums(image: SkyImage, tmp_path: Path) -> None:
    path = fits_image.save(image, tmp_path / "a.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            header = hdus[0].header
            assert hdus[0].data.shape == (1, 1, 20, 31)
            assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
    assert [header[f"CTYPE{k}"] for k in (1, 2, 3, 4)] == ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"]
    assert header["BMAJ"] == pytest.approx(37.123456789012 / 3600.0)
    assert header["DATE-OBS"].startswith("2025-01-15T02:57:46")
    assert header["RESTFRQ"] == header["CRVAL3"] == 1405.0000001e6
    assert header["TELESCOP"] == "OVRO_MMA"
    assert header["ORIGIN"].startswith("dsa110-contimg ")
    assert header["EXPTIME"] == pytest.approx(309.2376)


def test_astropy_places_pixels_where_we_do(image: SkyImage, tmp_path: Path) -> None:
    path = fits_image.save(replace(image, reference_pixel=(3.0, 18.0)), tmp_path / "a.fits")
    ra, dec = WCS(fits.getheader(path)).celestial.all_pix2world(25.0, 4.0, 0)
    lmn = direction_cosines(np.radians(ra), np.radians(dec), *np.radians(image.center))
    cell = np.radians(image.cell_deg)
    assert lmn[0] / cell == pytest.approx(-22.0, abs=1e-6)
    assert lmn[1] / cell == pytest.approx(-14.0, abs=1e-6)


def test_damage_is_noticed(image: SkyImage, tmp_path: Path) -> None:
    path = fits_image.save(image, tmp_path / "a.fits")
    whole = path.read_bytes()
    path.write_bytes(whole[:-2880])
    with pytest.raises(BadInputError, match="cut short"):
        fits_image.load(path)
    flipped = bytearray(whole)
    flipped[-2000] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(BadInputError, match="DATASUM"):
        fits_image.load(path)
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match="not a readable FITS"):
        fits_image.load(path)
    path.write_bytes(b"not a FITS file at all" * 500)
    with pytest.raises(BadInputError, match="not a readable FITS"):
        fits_image.load(path)
    with pytest.raises(BadInputError, match="does not exist"):
        fits_image.load(tmp_path / "missing.fits")


def test_what_cannot_be_placed_is_refused(image: SkyImage, tmp_path: Path) -> None:
    path = fits_image.save(image, tmp_path / "a.fits")
    data = fits.getdata(path)
    defects = {
        "only RA---SIN": {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"},
        "slanted": {"PV2_1": 0.3},
        "square": {"CDELT1": -0.002},
        "north up": {"CROTA2": 10.0},
    }
    for words, cards in defects.items():
        header = fits.getheader(path)
        header.update(cards)
        fits.writeto(tmp_path / "bad.fits", data, header, overwrite=True)
        with pytest.raises(BadInputError, match=words):
            fits_image.load(tmp_path / "bad.fits")
    fits.writeto(tmp_path / "cube.fits", np.zeros((3, 1, 4, 4)), fits.getheader(path), overwrite=True)
    with pytest.raises(BadInputError, match="cube"):
        fits_image.load(tmp_path / "cube.fits")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(BadInputError, match="no image"):
        fits_image.load(tmp_path / "empty.fits")


def test_two_axes_and_cd_matrix_are_read(tmp_path: Path) -> None:
    header = fits.Header()
    header.update(CTYPE1="RA---SIN", CTYPE2="DEC--SIN", CRVAL1=-10.0, CRVAL2=5.0, CRPIX1=1.0, CRPIX2=1.0)
    header.update(CD1_1=-0.01, CD1_2=0.0, CD2_1=0.0, CD2_2=0.01)
    header["DATE-OBS"] = "2025-01-15T12:00:00"
    fits.writeto(tmp_path / "two.fits", np.arange(12, dtype=np.int16).reshape(3, 4), header)
    image = fits_image.load(tmp_path / "two.fits")
    assert image.center == (350.0, 5.0)
    assert image.cell_deg == 0.01
    assert image.center_pixel == (0.0, 0.0)
    assert image.start_mjd == 60690.5
    assert image.data[2, 3] == 11.0


def test_a_failed_save_leaves_the_old_file(image: SkyImage, tmp_path: Path) -> None:
    path = fits_image.save(image, tmp_path / "a.fits")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="BAD"):
        fits_image.save(replace(image, header={"BAD = KEY": "x" * 100}), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits"]


def test_odd_characters_are_written_as_ascii(image: SkyImage, tmp_path: Path) -> None:
    path = fits_image.save(replace(image, header={"NOTE": "η Carinæ\nline"}), tmp_path / "a.fits")
    assert fits_image.load(path).header["NOTE"] == "\\u03b7 Carin\\xe6 line"


def test_other_peoples_images() -> None:
    folder = os.environ.get("CONTIMG_DATA")
    if not folder:
        pytest.skip("CONTIMG_DATA is not set: no images of other people to read")
    pole = fits_image.load(Path(folder) / "images/aegean/1904-66_SIN.fits")
    assert pole.center == (0.0, -90.0)
    assert pole.beam is not None
    assert pole.beam.major_arcsec == pytest.approx(864.0, rel=1e-6)
    vast = fits_image.load(Path(folder) / "images/vast/epoch01.fits")
    assert vast.beam is not None
    assert vast.beam.minor_arcsec == pytest.approx(10.0)
    with pytest.raises(BadInputError, match="RA---AIT"):
        fits_image.load(Path(folder) / "images/aegean/1904-66_AIT.fits")
