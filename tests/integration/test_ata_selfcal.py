"""Data of other telescopes, self-calibrated and imaged: a point source at its place, and closure phases as they were.

The pair of files of the Allen Telescope Array (3C286, 28 antennas, one integration of 30 s, two adjacent bands) lends
its array, its baselines and its missing samples. The numbers in it are no visibilities: its 8-byte complex cells hold
halves of 16-byte ones. So 3C286 is put there, with gains that are known, and the file's own numbers must be refused.
What a telescope did measure is 3C273, by the VLA.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.uvfits import measurement_set_from_uvfits

from dsa110_contimg.calibration.apply import apply
from dsa110_contimg.calibration.flagging import flag
from dsa110_contimg.calibration.quality import present_antennas
from dsa110_contimg.calibration.selfcal import components_sky, self_calibrate
from dsa110_contimg.calibration.solve import solve_bandpass, solve_gains
from dsa110_contimg.flux_scale import calibrator_model
from dsa110_contimg.formats import measurement_set, uvh5_phased
from dsa110_contimg.imaging.image import ImagingResult, image
from dsa110_contimg.options import CalibrationOptions, FlaggingOptions, ImagingOptions
from dsa110_contimg.visibilities import SkyImage, SkyModel, Visibilities, predict

DATA = Path(os.environ.get("CONTIMG_DATA") or "/nowhere")
PAIR = sorted((DATA / "uvh5").glob("ata.*3c286*.uvh5"))
VLA = DATA / "ms" / "3C273XC1.fits"
SEED = 286
OPTIONS = CalibrationOptions()
JANSKY = 1e-3
"""Raw units of the pair's correlator, here."""
ATA_NOISE_JY = 1.5
JET_PA_DEG, JET_ARCSEC = 222.0, 21.0


def closure_phases(vis: Visibilities) -> NDArray[np.float64]:
    """Return arg V01 V12 V20 of every triangle in every integration, channel and polarization, radians; NaN if flagged.

    Triangles are those of an antenna with all pairs of others that follow it.
    """
    value = np.where(vis.flags, np.nan, vis.vis.astype(np.complex128))
    row = {key: i for i, key in enumerate(zip(vis.antenna1, vis.antenna2, vis.time_mjd, strict=True))}
    phases = []
    for (one, two, now), first in row.items():
        for three in range(two + 1, vis.n_antennas):
            second, third = row.get((two, three, now)), row.get((one, three, now))
            if one < two and second is not None and third is not None:
                phases.append(np.angle(value[first] * value[second] * np.conj(value[third])))
    return np.array(phases)


def largest_change(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Return by how much closure phases differ at most, radians, of what is flagged in neither."""
    both = np.isfinite(before) & np.isfinite(after)
    assert both.sum() > 0.3 * before.size
    return float(np.abs(np.angle(np.exp(1j * (after - before)[both]))).max())


def peak_offset_beams(picture: SkyImage) -> float:
    """Return the distance of the interpolated peak from the phase center, in minor axes of the beam."""
    y, x = np.unravel_index(int(np.nanargmax(picture.data)), picture.data.shape)
    box = np.log(picture.data[y - 1 : y + 2, x - 1 : x + 2].astype(float))
    dy = 0.5 * (box[0, 1] - box[2, 1]) / (box[0, 1] - 2 * box[1, 1] + box[2, 1])
    dx = 0.5 * (box[1, 0] - box[1, 2]) / (box[1, 0] - 2 * box[1, 1] + box[1, 2])
    x0, y0 = picture.center_pixel
    assert picture.beam is not None
    return float(np.hypot(x + dx - x0, y + dy - y0) * picture.cell_deg * 3600.0 / picture.beam.minor_arcsec)


def without_peak(picture: SkyImage, beams: float = 3.0) -> NDArray[np.float32]:
    """Return the pixels that are farther than some beams from the center."""
    assert picture.beam is not None
    y, x = np.indices(picture.data.shape)
    away = np.hypot(x - picture.center_pixel[0], y - picture.center_pixel[1]) * picture.cell_deg * 3600.0
    return np.asarray(picture.data[away > beams * picture.beam.major_arcsec])


def near_the_jet(picture: SkyImage) -> float:
    """Return the brightest pixel within 3 arcsec of where the jet of 3C273 ends."""
    y, x = np.indices(picture.data.shape)
    away = np.radians(JET_PA_DEG)
    cell = picture.cell_deg * 3600.0
    east, north = (picture.center_pixel[0] - x) * cell, (y - picture.center_pixel[1]) * cell
    near = np.hypot(east - JET_ARCSEC * np.sin(away), north - JET_ARCSEC * np.cos(away)) < 3.0
    return float(picture.data[near].max())


@pytest.fixture
def pair() -> Visibilities:
    if not PAIR:
        pytest.skip("CONTIMG_DATA names no folder with the pair of the Allen Telescope Array")
    vis = uvh5_phased.load(PAIR)
    vis.flags[vis.antenna1 == vis.antenna2] = True
    return vis


def test_the_pair_with_known_visibilities_becomes_one_point_source(pair: Visibilities) -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    model = calibrator_model("3C286")
    shape = (pair.n_antennas, pair.freq_hz.size, 2)
    turns = rng.uniform(-50e-9, 50e-9, (shape[0], 1, 2)) * (pair.freq_hz - pair.freq_hz[0])[:, None]
    phase = rng.uniform(-np.pi, np.pi, (shape[0], 1, 2)) + 2.0 * np.pi * turns
    gain = np.sqrt(JANSKY) * rng.uniform(0.7, 1.3, shape) * np.exp(1j * phase)
    noise = rng.normal(0.0, ATA_NOISE_JY, (*pair.vis.shape, 2))
    sky = predict(pair, model)[:, :, None] + noise[..., 0] + 1j * noise[..., 1]
    pair.vis = (gain[pair.antenna1] * sky * np.conj(gain[pair.antenna2])).astype(np.complex64)
    before = closure_phases(pair)
    bandpass = solve_bandpass(pair, model, OPTIONS, source="3C286", flux_anchor="3C286")
    apply(pair, bandpass, OPTIONS)
    phases = solve_gains(pair, model, OPTIONS, kind="GP", source="3C286")
    apply(pair, [phases], OPTIONS)
    assert bandpass[1].flags[:, present_antennas(bandpass[1])].mean() < 0.05
    change = largest_change(before, closure_phases(pair))
    made = image(pair, ImagingOptions(size=256, cell_arcsec=20.0, threads=1))
    flux = float(model.flux_at(np.array([made.image.freq_hz]))[0, 0])
    other = float(np.abs(without_peak(made.image)).max()) / flux
    print(f"closure phases changed by {change:.1e} rad, next peak {100 * other:.2f} %, beam {made.image.beam}")
    assert change < 2e-5
    assert peak_offset_beams(made.image) < 0.1
    assert made.image.data.max() == pytest.approx(flux, rel=0.02)
    assert other < 0.02


def test_the_numbers_of_the_pair_do_not_pass_for_a_calibration(pair: Visibilities) -> None:
    model = calibrator_model("3C286")
    flag(pair, FlaggingOptions())
    bandpass = solve_bandpass(pair, model, OPTIONS, source="3C286", flux_anchor="3C286")[1]
    assert bandpass.flags[:, present_antennas(bandpass)].mean() > OPTIONS.max_flagged


@pytest.fixture(scope="module")
def vla(tmp_path_factory: pytest.TempPathFactory) -> Visibilities:
    if not VLA.is_file():
        pytest.skip("CONTIMG_DATA names no folder with 3C273XC1.fits")
    path = measurement_set_from_uvfits(VLA, tmp_path_factory.mktemp("vla") / "3c273.ms")
    return measurement_set.load(path)


def test_3c273_comes_back_after_its_phases_were_lost(vla: Visibilities) -> None:
    """Phases drawn anew are found on a point source, and its jet on the model that CLEAN makes then."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    lost = np.exp(2j * np.pi * rng.random((vla.n_antennas, 1, 2)))
    vla.vis *= (lost[vla.antenna1] * np.conj(lost[vla.antenna2])).astype(np.complex64)
    before = closure_phases(vla)
    level = float(np.median(np.abs(vla.vis[~vla.flags])))
    center = vla.phase_center
    point = SkyModel(
        ["3C273"], np.array([center.ra_deg]), np.array([center.dec_deg]), np.array([level]), np.zeros((1, 1)), 8e9
    )
    apply(vla, [solve_gains(vla, point, OPTIONS, kind="GP", source="3C273")], OPTIONS, measure_weights=False)
    options = ImagingOptions(size=512, cell_arcsec=0.3, threads=1, auto_mask=3.0)
    made: list[ImagingResult] = []

    def sky_of(vis: Visibilities) -> SkyModel:
        made.append(image(vis, options))
        return components_sky(vis, made[-1].model)

    tables = self_calibrate(vla, sky_of, CalibrationOptions(selfcal_rounds=2))
    made.append(image(vla, options))
    change = largest_change(before, closure_phases(vla))
    noise = [float(without_peak(one.residual, 20.0).std()) for one in made]
    peaks = [float(one.image.data.max()) for one in made]
    jet = near_the_jet(made[-1].image)
    print(
        f"{len(tables)} rounds, noise {noise}, peaks {peaks}, jet {jet:.3f}, closure phases changed by {change:.1e} rad"
    )
    assert len(tables) == 2
    assert change < 2e-5
    assert noise[-1] < 0.5 * noise[0]
    assert peak_offset_beams(made[-1].image) < 0.1
    assert jet > 50.0 * noise[-1]
