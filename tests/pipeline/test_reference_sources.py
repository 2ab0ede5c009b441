"""What may be held against the catalogue: sources that are alone, fit to be measured, and points."""

from dataclasses import replace

import numpy as np

from dsa110_contimg.options import QAOptions
from dsa110_contimg.photometry.forced import Measurement, Missing, PhotometryFlag
from dsa110_contimg.pipeline.reference_sources import reference_sources
from dsa110_contimg.qa.checks import ReferenceSources, Verdict, flux_ratio_checks
from dsa110_contimg.visibilities import Beam, SkyImage, SkyModel, SkyPosition

NAMES = [f"s{i}" for i in range(12)]
RA = (359.0 + 0.2 * np.arange(12.0)) % 360.0
"""Across RA 0."""
SKY = SkyModel(NAMES, RA, np.full(12, 33.0), np.full(12, 1.0), np.full((12, 1), -0.8), 1.4e9)
PICTURE = SkyImage(
    np.zeros((4, 4), np.float32),
    center=SkyPosition(0.1, 33.0),
    cell_deg=0.01,
    freq_hz=1.45e9,
    bandwidth_hz=187.5e6,
    start_mjd=60700.0,
    end_mjd=60700.1,
    exposure_s=309.0,
    beam=Beam(60.0, 20.0, 110.0),
)
EXPECTED_JY = (1.45 / 1.4) ** -0.8


def seen(name: str, flux_jy: float) -> Measurement:
    """Return a measurement with an error of 5 mJy."""
    place = NAMES.index(name)
    numbers = (flux_jy, 5e-3, flux_jy / 5e-3, flux_jy, 5e-3, 5e-3, 0.0, None, 1.0, 0.0, 0.0, 0.1, 0.1, 0.1)
    return Measurement(name, float(RA[place]), 33.0, 1000.0, *numbers, PhotometryFlag(0))


def references(measured: list[Measurement | Missing], extended: tuple[str, ...] = ()) -> ReferenceSources:
    return reference_sources(PICTURE, SKY, measured, extended)


def test_fluxes_are_held_against_the_catalogue_at_the_frequency_of_the_image() -> None:
    sources = references([seen(name, EXPECTED_JY) for name in NAMES])
    np.testing.assert_allclose(sources.reference_jy, EXPECTED_JY)
    assert sources.isolated.all()
    ratio, error = flux_ratio_checks(sources, QAOptions())
    assert (ratio.value, ratio.verdict) == (1.0, Verdict.PASSED)
    assert error.value is not None
    assert error.value < 0.01


def test_extended_sources_say_nothing_about_the_scale() -> None:
    """A beam holds only part of them: seven of twelve that are resolved would pull the median down."""
    measured = [seen(name, EXPECTED_JY * (0.7 if i < 7 else 1.0)) for i, name in enumerate(NAMES)]
    assert flux_ratio_checks(references(list(measured)), QAOptions())[0].verdict is Verdict.FAILED
    (ratio, _error) = flux_ratio_checks(references(list(measured), tuple(NAMES[:7])), QAOptions())
    assert (ratio.value, ratio.verdict) == (1.0, Verdict.PASSED)
    assert "5 isolated sources" in ratio.reason
    all_of_them, _error = flux_ratio_checks(references(list(measured), tuple(NAMES)), QAOptions())
    assert all_of_them.verdict is Verdict.UNMEASURED


def test_neighbors_and_unfit_measurements_are_left_out_and_missing_ones_have_no_row() -> None:
    close = SKY.ra_deg.copy()
    close[1] = close[0] + 0.02
    confused = replace(seen("s5", 1.0), flags=PhotometryFlag.CONFUSED)
    measured = [Missing(name, "outside") if name == "s9" else seen(name, 1.0) for name in NAMES]
    measured[5] = confused
    sources = reference_sources(PICTURE, replace(SKY, ra_deg=close), measured)
    assert sources.name == [name for name in NAMES if name != "s9"]
    assert [name for name, fit in zip(sources.name, sources.isolated, strict=True) if not fit] == ["s0", "s1", "s5"]
