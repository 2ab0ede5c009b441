"""Injected sources are measured where they are, as bright as they are, with errors that hold."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.forced import Measurement, Missing, PhotometryFlag, measure

if TYPE_CHECKING:
    from tests.photometry.conftest import FloatArray, MakeField, MakeSky

SEED = 20260115
OPTIONS = PhotometryOptions()


def rows(result: list[Measurement | Missing]) -> list[Measurement]:
    """The measurements, where nothing may be missing."""
    assert not [entry for entry in result if isinstance(entry, Missing)]
    return [entry for entry in result if isinstance(entry, Measurement)]


def column(result: list[Measurement | Missing], name: str) -> FloatArray:
    return np.array([getattr(row, name) for row in rows(result)], dtype=np.float64)


@pytest.mark.parametrize("estimator", ["peak", "matched"])
@pytest.mark.parametrize("kind", ["image", "pbcor"])
def test_tile_fluxes_are_unbiased_and_errors_honest(
    make_field: MakeField, make_sky: MakeSky, kind: str, estimator: str
) -> None:
    """Pulls of some 400 sources of 4 to 80 σ under a primary beam have mean zero and width one."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    pulls = []
    for _ in range(2):
        field = make_field(beam=(24.0, 15.0, 30.0))
        x, y = field.scattered(48, rng)
        ra, dec = field.sky(x, y)
        response = field.primary_beam(900.0)
        gain = np.exp(-4.0 * np.log(2.0) * ((x - 384) ** 2 + (y - 384) ** 2) / 900.0**2)
        truth = rng.uniform(0.004, 0.08, x.size) / gain
        field.add_noise(0.001, rng).add_sources(ra, dec, truth * gain)
        image = field.image(field.data / response, "pbcor") if kind == "pbcor" else field.image()
        beam = field.image(response, "beam", "")
        result = measure(image, make_sky(ra, dec, truth), replace(OPTIONS, estimator=estimator), beam=beam)
        pulls.append((column(result, "flux_jy") - truth) / column(result, "flux_err_jy"))
        np.testing.assert_allclose(column(result, "pb_response"), gain, rtol=2e-3)
        np.testing.assert_allclose(column(result, "local_rms_jyb") * gain, 0.001, rtol=0.3)
    pull = np.concatenate(pulls)
    assert abs(pull.mean()) < 3.5 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=0.1)


def test_mosaic_fluxes_are_unbiased_under_an_uneven_noise_map(make_field: MakeField, make_sky: MakeSky) -> None:
    """Noise grows fourfold across the mosaic; its map is 10 % too small, which the local rms puts right."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    field = make_field()
    x, y = field.scattered(44, rng)
    ra, dec = field.sky(x, y)
    noise = np.broadcast_to(0.001 * 4.0 ** (np.arange(field.side) / field.side), (field.side, field.side))
    truth = rng.uniform(0.005, 0.1, x.size)
    field.add_noise(noise, rng).add_sources(ra, dec, truth)
    result = measure(
        field.image(kind="mosaic"), make_sky(ra, dec, truth), OPTIONS, noise=field.image(0.9 * noise, "noise", "Jy")
    )
    pull = (column(result, "flux_jy") - truth) / column(result, "flux_err_jy")
    assert abs(pull.mean()) < 3.5 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=0.12)
    local = 0.001 * 4.0 ** (x / field.side)
    assert np.median(column(result, "local_rms_jyb") / local) == pytest.approx(1.0, abs=0.05)
    assert all(row.pb_response is None for row in rows(result))


def test_upper_limits_hold(make_field: MakeField, make_sky: MakeSky) -> None:
    """Of sources of 0 to 4 σ that are not detected, no more than 1 % lie above their limit of 3 σ."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    above, limited = 0, 0
    for _ in range(3):
        field = make_field()
        x, y = field.scattered(40, rng)
        ra, dec = field.sky(x, y)
        truth = rng.uniform(0.0, 0.004, x.size)
        field.add_noise(0.001, rng).add_sources(ra, dec, truth)
        for row, flux in zip(rows(measure(field.image(), make_sky(ra, dec, truth), OPTIONS)), truth, strict=True):
            assert row.snr is not None
            assert (row.upper_limit_jyb is not None) == (row.snr < 3.0)
            assert bool(row.flags & PhotometryFlag.NEGATIVE) == (row.flux_jy < 0.0)
            if row.upper_limit_jyb is not None:
                limited += 1
                above += flux > row.upper_limit_jyb
                assert row.upper_limit_jyb >= 3.0 * row.flux_err_jy
    assert limited > 300
    assert above <= 0.01 * limited


def test_background_is_taken_off_and_reported(make_field: MakeField, make_sky: MakeSky) -> None:
    rng = np.random.default_rng(SEED)
    field = make_field(side=512)
    ra, dec = field.sky(np.array([250.3]), np.array([260.6]))
    field.add_noise(0.001, rng).add_sources(ra, dec, np.array([0.05]))
    field.data -= 0.01
    (row,) = rows(measure(field.image(), make_sky(ra, dec, [0.05]), OPTIONS))
    assert row.background_jyb == pytest.approx(-0.01, abs=0.0005)
    assert row.flux_jy == pytest.approx(0.05, abs=0.004)
    assert row.peak_jyb == pytest.approx(0.04, abs=0.004)


def test_close_pairs_are_solved_together(make_field: MakeField, make_sky: MakeSky) -> None:
    """A 20 mJy source 0.5 to 1 beams from one of 200 mJy comes back unbiased, errors included."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    field = make_field(beam=(24.0, 18.0, 60.0))
    x, y = field.scattered(60, rng)
    angle, distance = rng.uniform(0.0, 2.0 * np.pi, x.size), rng.uniform(0.5, 1.0, x.size) * 8.0
    ra, dec = field.sky(np.append(x, x + distance * np.cos(angle)), np.append(y, y + distance * np.sin(angle)))
    truth = np.repeat([0.2, 0.02], x.size)
    field.add_noise(0.001, rng).add_sources(ra, dec, truth)
    result = measure(field.image(), make_sky(ra, dec, truth), replace(OPTIONS, systematic=0.0))
    pull = (column(result, "flux_jy") - truth) / column(result, "flux_err_jy")
    assert abs(pull.mean()) < 3.5 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1.0, abs=0.12)
    assert all(row.flags & PhotometryFlag.CONFUSED for row in rows(result))
    peaks = column(result, "peak_jyb")[x.size :]
    assert np.median(peaks) > 0.03, "without deblending the faint ones would be far too bright"
    honest = measure(field.image(), make_sky(ra, dec, truth), OPTIONS)
    assert np.all(column(honest, "flux_err_jy") >= column(result, "flux_err_jy"))


def test_two_entries_for_one_source_give_two_rows(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=512)
    ra, dec = field.sky(np.array([250.0, 250.6, 262.0]), np.array([250.0, 250.0, 250.0]))
    field.add_noise(0.001, np.random.default_rng(SEED)).add_sources(ra[[0, 2]], dec[[0, 2]], np.array([0.3, 0.1]))
    first, second, third = rows(measure(field.image(), make_sky(ra, dec, [0.3, 0.2, 0.1]), OPTIONS))
    assert first.flux_jy == pytest.approx(0.3, abs=0.006)
    assert second.flux_jy == pytest.approx(0.3, abs=0.01)
    assert third.flux_jy == pytest.approx(0.1, abs=0.006)
    assert second.flags & PhotometryFlag.CONFUSED
    assert [bool(row.flags & PhotometryFlag.TWIN) for row in (first, second, third)] == [False, True, False]
    assert second.offset_ra_arcsec is None


@pytest.mark.parametrize("center", [(0.02, 16.1), (180.0, 89.7)], ids=["across RA 0", "at the pole"])
@pytest.mark.parametrize("kind", ["tile", "mosaic"])
def test_above_ten_sigma_fluxes_are_unbiased_within_one_percent(
    make_field: MakeField, make_sky: MakeSky, kind: str, center: tuple[float, float]
) -> None:
    """Over 1,000 sources of 10 to 100 σ, a tenth of them in pairs, on tiles and mosaics."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = np.random.default_rng(SEED)
    ratios = []
    for _ in range(4):
        field = make_field(center=center, beam=(40.0, 18.0, 110.0))
        x, y = field.scattered(44, rng)
        pairs = rng.choice(x.size, x.size // 20, replace=False)
        x, y = np.append(x, x[pairs] + 9.0), np.append(y, y[pairs] + 5.0)
        ra, dec = field.sky(x, y)
        response = field.primary_beam(1500.0)
        gain = np.exp(-4.0 * np.log(2.0) * ((x - 384) ** 2 + (y - 384) ** 2) / 1500.0**2)
        truth = 0.01 * 10.0 ** rng.uniform(0.0, 1.0, x.size) / gain
        field.add_noise(0.001, rng).add_sources(ra, dec, truth * gain)
        if kind == "tile":
            result = measure(field.image(), make_sky(ra, dec, truth), OPTIONS, beam=field.image(response, "beam", ""))
        else:
            mosaic, noise = field.image(field.data / response, "mosaic"), field.image(0.001 / response, "noise", "Jy")
            result = measure(mosaic, make_sky(ra, dec, truth), OPTIONS, noise=noise)
        ratios.append(column(result, "flux_jy") / truth)
    ratio = np.concatenate(ratios)
    assert ratio.size > 1000
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.01)


def test_the_error_of_a_brightness_has_the_floor_of_the_flux_scale(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=512)
    ra, dec = field.sky(np.array([150.0, 350.0]), np.array([250.0, 260.0]))
    field.add_noise(0.001, np.random.default_rng(SEED)).add_sources(ra, dec, np.array([1.0, 0.005]))
    bright, faint = rows(measure(field.image(), make_sky(ra, dec, [1.0, 0.005]), replace(OPTIONS, systematic=0.03)))
    assert bright.peak_err_jyb == pytest.approx(0.03, rel=0.02)
    assert bright.flux_err_jy == pytest.approx(0.001, rel=0.2)
    assert faint.peak_err_jyb == pytest.approx(0.001, rel=0.2)
    # A position is no better than 3 % of the beam (24" x 15" at 110°), however bright the source.
    assert bright.offset_ra_err_arcsec == pytest.approx(0.03 * np.hypot(24.0 * 0.94, 15.0 * 0.34), rel=0.02)
    assert faint.offset_ra_err_arcsec is None


@pytest.mark.parametrize("angle", [0.0, 40.0, 110.0])
def test_position_angle_and_projection_far_off_axis(make_field: MakeField, make_sky: MakeSky, angle: float) -> None:
    """A 60" x 18" beam 1.3° from the center of a field across RA 0: exact, and wrong with a mirrored angle."""
    field = make_field(side=800, center=(359.9, 54.5), beam=(60.0, 18.0, angle), cell_arcsec=6.0)
    x, y = np.array([60.3, 740.6, 400.2, 55.0]), np.array([50.7, 62.1, 740.9, 735.5])
    ra, dec = field.sky(x, y)
    assert ra.min() < 2.0
    assert ra.max() > 358.0
    field.add_sources(ra, dec, np.full(4, 2.0))
    matched = replace(OPTIONS, estimator="matched")
    result = measure(field.image(), make_sky(ra, dec, np.full(4, 2.0)), matched)
    np.testing.assert_allclose(column(result, "flux_jy"), 2.0, rtol=2e-4)
    mirrored = replace(field.image(), beam=field.beam._replace(pa_deg=-angle))
    wrong = column(measure(mirrored, make_sky(ra, dec, np.full(4, 2.0)), matched), "flux_jy")
    assert np.all(np.abs(wrong - 2.0) > 0.1) or angle == 0.0


def test_offsets_from_the_catalogue_are_recovered(make_field: MakeField, make_sky: MakeSky) -> None:
    """The catalogue is 1.5" too far west and 0.9" too far north; the field spans a pole-near RA range."""
    rng = np.random.default_rng(SEED)
    field = make_field(center=(0.05, 71.6))
    x, y = field.scattered(80, rng)
    ra, dec = field.sky(x, y)
    field.add_noise(0.001, rng).add_sources(ra, dec, np.full(x.size, 0.1))
    catalogue_ra = (ra - 1.5 / 3600.0 / np.cos(np.radians(dec))) % 360.0
    result = measure(field.image(), make_sky(catalogue_ra, dec + 0.9 / 3600.0, np.full(x.size, 0.1)), OPTIONS)
    assert np.median(column(result, "offset_ra_arcsec")) == pytest.approx(1.5, abs=0.05)
    assert np.median(column(result, "offset_dec_arcsec")) == pytest.approx(-0.9, abs=0.05)
    # Condon's 0.42 θ/SNR per axis, between 0.06" and 0.10" for these beams at 100 σ.
    assert 0.05 < np.std(column(result, "offset_ra_arcsec")) < 0.15


def test_what_cannot_be_measured_has_a_row_and_a_reason(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=400)
    field.add_noise(0.001, np.random.default_rng(SEED))
    field.data[300:, :] = np.nan
    ra, dec = field.sky(np.array([200.0, 100.0, -50.0, 200.0]), np.array([200.0, 350.0, 100.0, 250.0]))
    ra, dec = np.append(ra, 204.0), np.append(dec, -33.0)
    flux = np.array([0.01, 0.01, 0.01, np.nan, 0.01])
    result = measure(field.image(), make_sky(ra, dec, flux), OPTIONS)
    names = ["S0000", "S0001", "S0002", "S0003", "S0004"]
    assert [entry.source_id for entry in result] == names
    missing = {entry.source_id: entry.reason for entry in result if isinstance(entry, Missing)}
    assert missing == {
        "S0001": "blank pixel at the position",
        "S0002": "outside the image",
        "S0004": "behind the tangent plane of the image",
    }
    without_flux = result[3]
    assert isinstance(without_flux, Measurement)
    assert without_flux.nvss_flux_mjy is None
    assert measure(field.image(), make_sky([], [], []), OPTIONS) == []


def test_blank_image_measures_nothing(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=200)
    field.data[:] = np.nan
    (entry,) = measure(field.image(), make_sky([24.42], [33.16], [0.1]), OPTIONS)
    assert entry == Missing("S0000", "blank pixel at the position")


def test_flags(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=600)
    field.add_noise(0.001, np.random.default_rng(SEED))
    x, y = np.array([300.0, 340.0, 5.0, 300.0, 150.0]), np.array([300.0, 300.0, 300.0, 40.0, 150.0])
    ra, dec = field.sky(x, y)
    truth = np.array([1.0, 0.02, 0.02, 0.02, 0.02])
    response = field.primary_beam(330.0)
    gain = response[y.astype(int), x.astype(int)]
    field.add_sources(ra, dec, truth * gain)
    beam = field.image(response, "beam", "")
    flags = [row.flags for row in rows(measure(field.image(), make_sky(ra, dec, truth), OPTIONS, beam=beam))]
    assert flags[0] == PhotometryFlag(0)
    assert flags[1] & PhotometryFlag.NEAR_BRIGHT
    assert flags[2] & PhotometryFlag.EDGE
    assert flags[2] & PhotometryFlag.LOW_BEAM
    assert flags[3] & PhotometryFlag.LOW_BEAM
    assert not flags[4] & (PhotometryFlag.EDGE | PhotometryFlag.CONFUSED | PhotometryFlag.LOW_BEAM)


def test_unusable_images_are_refused_in_one_sentence(make_field: MakeField, make_sky: MakeSky) -> None:
    field = make_field(side=200)
    sky = make_sky([24.42], [33.16], [0.1])
    with pytest.raises(ConfigurationError, match="no restoring beam"):
        measure(field.image(unit=""), sky, OPTIONS)
    with pytest.raises(ConfigurationError, match="was made with this image"):
        measure(field.image(), sky, OPTIONS, beam=make_field(side=100).image(kind="beam"))
