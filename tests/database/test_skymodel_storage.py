"""Sky models written and read back to the last bit, and read by WSClean."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dsa110_contimg.database import init_databases
from dsa110_contimg.database.skymodel_storage import (
    create_skymodel,
    get_skymodel,
    list_skymodels,
    load_skymodel,
    save_skymodel,
)
from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.formats import skymodel_file
from dsa110_contimg.visibilities import SkyModel

WSCLEAN = shutil.which("wsclean")
BEAM_ARCSEC, CELL_ARCSEC, SIZE = 40.0, 10.0, 600


def source(
    name: str = "a", ra: float = 10.0, dec: float = 30.0, flux: float = 1.0, **more: object
) -> dict[str, object]:
    return {"source_name": name, "ra_deg": ra, "dec_deg": dec, "flux_jy": flux, **more}


def assert_same(read: SkyModel, written: SkyModel) -> None:
    assert read.names == written.names
    assert read.ref_freq_hz == written.ref_freq_hz
    for column in ("ra_deg", "dec_deg", "flux_jy", "spectrum", "gaussian"):
        np.testing.assert_array_equal(getattr(read, column), getattr(written, column), err_msg=column)


def test_as_printed(root: Path) -> None:
    skymodel_path = create_skymodel(
        field_id="field_001",
        sources=[
            {"source_name": "NVSS_J123456+123456", "ra_deg": 123.456, "dec_deg": 12.3456, "flux_jy": 5.0},
        ],
    )
    assert skymodel_path == root / "state" / "skymodels" / "field_001.skymodel"
    header, row = skymodel_path.read_text().splitlines()
    assert header.startswith("Format = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, ReferenceFrequency='1400")
    assert row == "NVSS_J123456+123456,POINT,08:13:49.44,+12.20.44.16,5.0,[],true,1400000000.0"
    (known,) = list_skymodels("field_001")
    assert (known.n_sources, known.total_flux_jy, known.skymodel_path) == (1, 5.0, str(skymodel_path))
    sky = get_skymodel("field_001")
    assert (sky.names, sky.ra_deg.tolist(), sky.dec_deg.tolist()) == (["NVSS_J123456+123456"], [123.456], [12.3456])
    assert sky.flux_at(np.array([1.2e9, 1.6e9])).tolist() == [[5.0, 5.0]]


names = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=20)
positions = st.tuples(
    st.floats(0.0, 360.0, exclude_max=True) | st.sampled_from([0.0, math.nextafter(360.0, 0.0), 1e-300, 15.0, 14.9999]),
    st.floats(-90.0, 90.0) | st.sampled_from([-0.5, -90.0, 90.0, math.nextafter(-90.0, 0.0), -1e-300, -1 / 3600]),
)
numbers = st.floats(-100.0, 100.0)


@st.composite
def sky_models(draw: st.DrawFn) -> SkyModel:
    labels = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    count, terms = len(labels), draw(st.integers(0, 3))
    ra, dec = zip(*(draw(positions) for _ in labels), strict=True)
    flux = [draw(numbers) for _ in labels]
    spectrum = np.array([draw(numbers) for _ in range(count * terms)]).reshape(count, terms)
    sizes = st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 1e4), st.floats(-180.0, 180.0)) | st.just((0.0, 0.0, 0.0))
    gaussian = np.array([draw(sizes) for _ in labels])
    freq_hz = draw(st.floats(1e6, 1e12))
    return SkyModel(labels, np.array(ra), np.array(dec), np.array(flux), spectrum, freq_hz, gaussian)


HARD = SkyModel(
    names=["3C 286, north", "a'b\"c", "100%", "NVSS J0835+0030", "[x]#=", " Ω\n"],
    ra_deg=np.array([0.0, math.nextafter(360.0, 0.0), 359.9999999999999, 1e-15, 180.0, 14.999999999999998]),
    dec_deg=np.array([-0.5, 90.0, -90.0, -1e-12, math.nextafter(90.0, 0.0), -0.00027777777777777778]),
    flux_jy=np.array([1e-9, 5.0, -0.25, 1 / 3, 7.0, 12345.678901234567]),
    spectrum=np.array([[-0.7, 0.1], [0.0, 0.0], [-1 / 3, 1e-17], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    ref_freq_hz=1.4e9 + 1e-6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(sky=HARD)
@given(sky=sky_models())
def test_reading_undoes_writing(tmp_path: Path, sky: SkyModel) -> None:
    path = skymodel_file.save(tmp_path / "f.skymodel", sky)
    assert_same(skymodel_file.load(path), sky)
    for line in path.read_text().splitlines()[1:]:
        # What makesourcedb's readers split at stays a separator.
        name, _point, ra, dec, *_ = line.split(",")
        assert not set(name) & set(" '\"#[]=")
        assert len(ra.split(":")) == 3
        assert dec[0] in "+-"
        assert len(line.split()) == 1


@given(ra=st.floats(0.0, 360.0, exclude_max=True), dec=st.floats(-90.0, 90.0))
def test_no_part_of_a_position_reaches_sixty(ra: float, dec: float) -> None:
    hours, minutes, seconds = skymodel_file._sexagesimal(ra, "ra").split(":")
    assert (int(hours) < 24, int(minutes) < 60, float(seconds) < 60.0) == (True, True, True)
    degrees, arcmin, arcsec = skymodel_file._sexagesimal(dec, "dec").split(".", 2)
    assert (abs(int(degrees)) <= 90, int(arcmin) < 60, float(arcsec) < 60.0) == (True, True, True)


@pytest.mark.usefixtures("backend")
def test_terms_of_different_number_are_filled_up() -> None:
    create_skymodel("f", [source("a", spectral_index=-0.7), source("b", spectral_index=[-0.8, 0.1]), source("c")])
    assert get_skymodel("f").spectrum.tolist() == [[-0.7, 0.0], [-0.8, 0.1], [0.0, 0.0]]


@pytest.mark.usefixtures("backend")
def test_making_it_again_replaces_file_and_row(root: Path) -> None:
    create_skymodel("f", [source(), source("b", flux=2.0)], created_by="ann")
    create_skymodel("g", [source()], notes="second")
    path = create_skymodel("f", [source(flux=0.5)])
    assert [(row.field_id, row.n_sources, row.total_flux_jy) for row in list_skymodels()] == [
        ("f", 1, 0.5),
        ("g", 1, 1.0),
    ]
    assert load_skymodel(path).flux_jy.tolist() == [0.5]
    assert sorted(p.name for p in (root / "state" / "skymodels").iterdir()) == ["f.skymodel", "g.skymodel"]


BAD_SOURCES = {
    "no sources": ([], "sky model f has no source"),
    "no flux": ([{"source_name": "a", "ra_deg": 1.0, "dec_deg": 1.0}], "sky model f, source 1 lacks flux_jy"),
    "nan": ([source(), source("b", ra=math.nan)], "source 2: ra_deg is nan"),
    "infinite": ([source(flux=math.inf)], "flux_jy is inf"),
    "declination": ([source(dec=-90.5)], r"dec_deg is -90\.5"),
    "spectrum": ([source(spectral_index=[1.0, math.nan])], "spectral_index"),
    "twice": ([source(), source()], "2 sources a"),
    "column": ([source(alpha=1.0)], "there is no column alpha; .*spectral_index"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources_change_nothing(root: Path, case: str) -> None:
    path = create_skymodel("f", [source()])
    before = path.read_bytes()
    sources, sentence = BAD_SOURCES[case]
    with pytest.raises(ConfigurationError, match=sentence) as told:
        create_skymodel("f", sources)
    assert "\n" not in str(told.value)
    assert path.read_bytes() == before
    assert [row.n_sources for row in list_skymodels()] == [1]
    assert [p.name for p in (root / "state" / "skymodels").iterdir()] == ["f.skymodel"]


@pytest.mark.parametrize("field", ["../f", "a/b", "", ".hidden", "a\nb"])
def test_a_field_that_names_no_file(root: Path, field: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a file"):
        create_skymodel(field, [source()])
    assert list(root.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_no_row(root: Path) -> None:
    init_databases()
    (root / "state" / "skymodels").write_text("in the way")
    with pytest.raises(OSError, match="skymodels"):
        create_skymodel("f", [source()])
    assert list_skymodels() == []


def test_a_model_from_elsewhere_must_be_whole(root: Path) -> None:
    assert root.exists()
    sky = SkyModel(["a"], np.array([10.0]), np.array([30.0]), np.array([np.nan]), np.zeros((1, 0)))
    with pytest.raises(BadInputError, match="source a has a number that is none"):
        save_skymodel("f", sky)
    assert list_skymodels() == []


DAMAGE = {
    "header": ("Format", "Forms", "line 1: not the header"),
    "type": ("POINT", "GAUSSIAN", "line 2: not a point source"),
    "ra": ("00:40:00", "0h40m00", "line 2: not a point source"),
    "flux": (",1.0,", ",nan,", "line 2: a number is none"),
    "word": (",1.0,", ",one,", "line 2: could not convert"),
    "frequency": ("true,1400", "true,1500", "line 2: its reference frequency is 1500000000.0 Hz"),
    "not text": ("a", "ä", "cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_with_its_line(root: Path, kind: str) -> None:
    assert root.exists()
    path = create_skymodel("f", [source()])
    old, new, sentence = DAMAGE[kind]
    path.write_text(path.read_text().replace(old, new), encoding="utf-8")
    with pytest.raises(BadInputError, match=sentence):
        load_skymodel(path)


def test_missing_ones(root: Path) -> None:
    init_databases()
    with pytest.raises(ConfigurationError, match="field f has no sky model"):
        get_skymodel("f")
    with pytest.raises(BadInputError, match="No such file"):
        load_skymodel(root / "nothing.skymodel")


def empty_image(path: Path, freq_hz: float) -> fits.Header:
    """Write an empty image about (0, -0.3) deg, and return its header."""
    cards = {
        "CTYPE1": "RA---SIN",
        "CTYPE2": "DEC--SIN",
        "CRVAL1": 0.0,
        "CRVAL2": -0.3,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
    }
    cards |= {"CRPIX1": SIZE // 2 + 1, "CRPIX2": SIZE // 2 + 1}
    cards |= {"CDELT1": -CELL_ARCSEC / 3600.0, "CDELT2": CELL_ARCSEC / 3600.0}
    cards |= {"CTYPE3": "FREQ", "CRPIX3": 1, "CRVAL3": freq_hz, "CDELT3": 1e7, "CUNIT3": "Hz"}
    cards |= {"CTYPE4": "STOKES", "CRPIX4": 1, "CRVAL4": 1, "CDELT4": 1, "BUNIT": "JY/BEAM", "EQUINOX": 2000.0}
    cards |= {"BMAJ": BEAM_ARCSEC / 3600.0, "BMIN": BEAM_ARCSEC / 3600.0, "BPA": 0.0}
    header = fits.Header(cards)
    fits.writeto(path, np.zeros((1, 1, SIZE, SIZE), np.float32), header)
    return header


@pytest.mark.skipif(WSCLEAN is None, reason="wsclean is not installed")
def test_wsclean_puts_the_sources_where_they_are(tmp_path: Path) -> None:
    """Restored by WSClean at half the reference frequency: positions to 0.05 pixels, fluxes with their curvature.

    WSClean restores at the nearest pixel: sources 0.45 pixels from a center land on it only if they are within 0.05.
    """
    freq_hz = 0.7e9
    header = empty_image(tmp_path / "residual.fits", freq_hz)
    pixels = np.array([[120, 228], [390, 348], [299, 420]])
    off = np.array([[0.45, -0.45], [-0.45, 0.45], [0.45, 0.45]])
    ra, dec = WCS(header).celestial.all_pix2world(*(pixels + off).T, 0)
    sky = SkyModel(
        names=["NVSS J0002-0030, a", "b", "c"],
        ra_deg=ra % 360.0,
        dec_deg=dec,
        flux_jy=np.array([2.0, 1.0, 3.0]),
        spectrum=np.array([[-0.7, 0.5], [0.0, 0.0], [0.8, 0.0]]),
    )
    assert {ra > 180.0 for ra in sky.ra_deg} == {True, False}
    path = skymodel_file.save(tmp_path / "f.skymodel", sky)
    command = [str(WSCLEAN), "-restore-list", "residual.fits", str(path), "restored.fits"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    image = fits.getdata(tmp_path / "restored.fits")[0, 0].astype(float)
    beam_pixels = 2.0 * math.pi * (BEAM_ARCSEC / CELL_ARCSEC / math.sqrt(8.0 * math.log(2.0))) ** 2
    for (x, y), flux in zip(pixels, sky.flux_at(np.array([freq_hz]))[:, 0], strict=True):
        cut = (slice(y - 12, y + 13), slice(x - 12, x + 13))
        rows, columns = np.mgrid[cut]
        total = image[cut].sum()
        assert (image[cut] * columns).sum() / total == pytest.approx(x, abs=0.001)
        assert (image[cut] * rows).sum() / total == pytest.approx(y, abs=0.001)
        assert total / beam_pixels == pytest.approx(flux, rel=1e-3)


@pytest.mark.skipif(WSCLEAN is None, reason="wsclean is not installed")
def test_wsclean_draws_a_gaussian_as_it_is_meant(tmp_path: Path) -> None:
    """Twice as long as the beam, at 30 deg from north through east: the widths add in quadrature, the flux stays."""
    header = empty_image(tmp_path / "residual.fits", 1.4e9)
    ra, dec = WCS(header).celestial.all_pix2world([220.0, 330.0], [280.0, 200.0], 0)
    sky = SkyModel(["g", "p"], ra % 360.0, dec, np.array([2.0, 1.0]), np.zeros((2, 1)), gaussian=np.zeros((2, 3)))
    sky.gaussian[0] = 2.0 * BEAM_ARCSEC, 0.75 * BEAM_ARCSEC, 30.0
    path = skymodel_file.save(tmp_path / "f.skymodel", sky)
    command = [str(WSCLEAN), "-restore-list", "residual.fits", str(path), "restored.fits"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    image = fits.getdata(tmp_path / "restored.fits")[0, 0].astype(float)
    width_pixels = BEAM_ARCSEC / CELL_ARCSEC / math.sqrt(8.0 * math.log(2.0))
    cut = (slice(235, 326), slice(175, 266))
    north, west = np.mgrid[cut] - np.array([280.0, 220.0])[:, None, None]
    share = image[cut] / image[cut].sum()
    along = north * math.cos(math.radians(30.0)) - west * math.sin(math.radians(30.0))
    across = north * math.sin(math.radians(30.0)) + west * math.cos(math.radians(30.0))
    assert image[cut].sum() / (2.0 * math.pi * width_pixels**2) == pytest.approx(2.0, rel=2e-3)
    assert math.sqrt((share * along**2).sum()) == pytest.approx(math.sqrt(5.0) * width_pixels, rel=5e-3)
    assert math.sqrt((share * across**2).sum()) == pytest.approx(1.25 * width_pixels, rel=5e-3)
    assert image[200, 330] == pytest.approx(1.0, rel=1e-3)
