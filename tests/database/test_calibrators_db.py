from pathlib import Path

import pytest

from dsa110_contimg.database.calibrators import (
    get_bandpass_calibrators,
    register_bandpass_calibrator,
    register_standard_calibrators,
)
from dsa110_contimg.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("root")


def names(dec_deg: float | None = None, status: str | None = "active") -> list[str]:
    return [row.calibrator_name for row in get_bandpass_calibrators(dec_deg=dec_deg, status=status)]


def test_as_printed(root: Path) -> None:
    register_bandpass_calibrator(
        calibrator_name="3C286",
        ra_deg=202.7845,
        dec_deg=30.5092,
        dec_range_min=25.0,
        dec_range_max=35.0,
    )
    calibrators = get_bandpass_calibrators(dec_deg=30.0, status="active")
    assert [row.calibrator_name for row in calibrators] == ["3C286"]
    assert (root / "state" / "calibrators.sqlite3").exists()
    assert names(24.9) == []
    assert names(25.0) == ["3C286"]


def test_registering_again_keeps_what_is_not_told() -> None:
    register_bandpass_calibrator("a", 10.0, 30.0, flux_jy=8.0, notes="steady", dec_range_min=29.0, dec_range_max=31.0)
    register_bandpass_calibrator("a", 10.5, 30.0, status="retired")
    (row,) = get_bandpass_calibrators(status=None)
    assert (row.ra_deg, row.flux_jy, row.notes, row.status, row.dec_range_min) == (10.5, 8.0, "steady", "retired", 29.0)
    assert names() == []


def test_the_brightest_first_then_the_nearest_to_the_center_of_the_strip() -> None:
    register_bandpass_calibrator("far", 1.0, 32.0, flux_jy=10.0, dec_range_min=30.0, dec_range_max=35.0)
    register_bandpass_calibrator("near", 1.0, 31.0, flux_jy=10.0, dec_range_min=29.0, dec_range_max=33.0)
    register_bandpass_calibrator("bright", 1.0, 40.0, flux_jy=20.0, dec_range_min=20.0, dec_range_max=60.0)
    register_bandpass_calibrator("unknown", 1.0, 31.0, dec_range_min=30.0, dec_range_max=32.0)
    assert names(31.0) == ["bright", "near", "far", "unknown"]


def test_the_primary_calibrators() -> None:
    assert "3C48" in register_standard_calibrators()
    register_standard_calibrators()
    (row,) = get_bandpass_calibrators(dec_deg=33.2)
    assert row.calibrator_name == "3C48"
    # Perley & Butler 2017 at 1.4 GHz.
    assert row.flux_jy == pytest.approx(16.2, abs=0.3)
    assert row.spectral_index == pytest.approx(-0.8, abs=0.1)
    assert row.flux_freq_ghz == 1.4
    assert row.dec_range_max == pytest.approx(34.66, abs=0.01)
    assert len(get_bandpass_calibrators()) == 6


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is no position"):
        register_bandpass_calibrator("x", 400.0, 30.0)
    with pytest.raises(ConfigurationError, match=r"range 31\.0 to 29\.0 is empty"):
        register_bandpass_calibrator("x", 40.0, 30.0, dec_range_min=31.0, dec_range_max=29.0)
