"""The flux scale against a survey that did not use it, and against its own reference values."""

import numpy as np
import pytest

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import POLYNOMIALS, POSITIONS, STEADY, calibrator_model
from dsa110_contimg.kernels.sphere import separation

NVSS = {
    "3C48": (24.42215, 33.15974, 15.963),
    "3C138": (80.29126, 16.63932, 8.637),
    "3C147": (85.65058, 49.85191, 22.644),
    "3C196": (123.40009, 48.21714, 14.680),
    "3C286": (202.78439, 30.50899, 15.019),
    "3C295": (212.83596, 52.20245, 22.345),
}
"""Positions (deg) and flux densities (Jy, 1.4 GHz) that the NVSS lists (Condon et al. 1998)."""


@pytest.mark.parametrize("name", NVSS)
def test_calibrators_are_where_the_nvss_saw_them(name: str) -> None:
    ra, dec, flux = NVSS[name]
    model = calibrator_model(name)
    apart = separation(np.radians(ra), np.radians(dec), np.radians(model.ra_deg[0]), np.radians(model.dec_deg[0]))
    assert np.degrees(apart) * 3600.0 < 2.0
    assert model.flux_at(np.array([1.4e9]))[0, 0] == pytest.approx(flux, rel=0.025)


@pytest.mark.parametrize("name", POSITIONS)
def test_the_polynomial_is_evaluated_as_it_is_published(name: str) -> None:
    freq_hz = np.array([1.0e9, 1.311e9, 1.4e9, 1.499e9, 10.0e9])
    log_ghz = np.log10(freq_hz / 1e9)
    expected = 10.0 ** np.polynomial.polynomial.polyval(log_ghz, POLYNOMIALS[name])
    np.testing.assert_allclose(calibrator_model(name).flux_at(freq_hz)[0], expected, rtol=1e-12)


def test_spectra_are_steep_across_the_band() -> None:
    for name in POSITIONS:
        low, high = calibrator_model(name).flux_at(np.array([1.311e9, 1.499e9]))[0]
        index = np.log(high / low) / np.log(1.499 / 1.311)
        assert -1.1 < index < -0.4, name


def test_an_unknown_calibrator_is_refused_and_steady_ones_are_known() -> None:
    with pytest.raises(CalibrationError, match=r"3C454\.3 is not a flux calibrator that we know; known are 3C48"):
        calibrator_model("3C454.3")
    with pytest.raises(CalibrationError):
        calibrator_model("CYGNUS_A")
    assert set(POSITIONS) >= STEADY
