"""The flux scale against a survey that did not use it, and against its own reference values."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import POLYNOMIALS, POSITIONS, STEADY, anchor_systematic, calibrator_model
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


DATA = os.environ.get("CONTIMG_DATA")


@pytest.mark.skipif(DATA is None, reason="CONTIMG_DATA (the table of Perley and Butler) is not set")
def test_all_twenty_polynomials_are_those_of_the_paper() -> None:
    text = (Path(str(DATA)) / "standards" / "perley_butler_2017.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    assert {row["source"] for row in rows} == set(POLYNOMIALS)
    assert len(rows) == 20
    for row in rows:
        published = [float(row[f"a{term}"]) for term in range(6) if row[f"a{term}"]]
        assert list(POLYNOMIALS[row["source"]]) == published, row["source"]
        at_1400 = 10.0 ** np.polynomial.polynomial.polyval(np.log10(1.4), published)
        assert at_1400 == pytest.approx(float(row["jy_at_1.4ghz"]), abs=6e-4)


def test_only_six_sources_may_set_the_scale_and_three_of_them_within_three_percent() -> None:
    known = {name: anchor_systematic(name) for name in [*POLYNOMIALS, "3C454.3", "0834+555", "catalogue"]}
    slow, steady = dict.fromkeys(("3C48", "3C138", "3C147"), 0.03), dict.fromkeys(("3C196", "3C286", "3C295"), 0.0)
    assert {name: error for name, error in known.items() if error is not None} == slow | steady
