"""Figures of injected sources: right ones pass, and each error that the report is there for fails its figure."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dsa110_contimg.options import QAOptions
from dsa110_contimg.qa.checks import Check, Verdict
from dsa110_contimg.qa.recovery import (
    FWHM_PER_SIGMA,
    Detections,
    RecoveredSources,
    Recovery,
    flux_scale,
    recovery_checks,
    scatter,
)
from dsa110_contimg.qa.recovery_plots import RecoverySeries, recovery_page

NOISE_JY = 1e-3
MAJOR, MINOR = 60.0, 20.0


def drawn(seed: int = 4, number: int = 1500) -> RecoveredSources:
    """Return sources as an image with nothing but noise in it gives them back."""
    rng = np.random.default_rng(seed)
    distance = 2.0 * np.sqrt(rng.random(number))
    response = np.exp(-2.77 * (distance / 2.7) ** 2)
    noise = NOISE_JY / response
    true = 5e-4 * rng.random(number) ** -2.0
    flux = true + noise * rng.normal(size=number)
    snr = true / noise
    along, across = (
        np.where(snr > 10.0, axis / (FWHM_PER_SIGMA * snr) * rng.normal(size=number), np.nan) for axis in (MAJOR, MINOR)
    )
    return RecoveredSources(
        "tile 1", true, flux, noise, noise, response, distance, along, across, flux / noise > 5.0, MAJOR, MINOR,
        MAJOR / FWHM_PER_SIGMA, MINOR / FWHM_PER_SIGMA,
    )  # fmt: skip


def detected(recovered: RecoveredSources, false: int = 0) -> Detections:
    found = np.flatnonzero(recovered.found)
    snr = np.concatenate([recovered.snr[found], np.full(false, 6.0)])
    where = np.concatenate([recovered.distance_deg[found], np.full(false, 0.5)])
    response = np.concatenate([recovered.response[found], np.ones(false)])
    return Detections(snr, where, response, np.arange(snr.size) < found.size)


def figures(recovered: RecoveredSources, false: int = 0) -> dict[str, Check]:
    checks = recovery_checks([Recovery(recovered, detected(recovered, false))], "tile", QAOptions())
    return {check.name: check for check in checks}


def test_what_noise_alone_does_passes() -> None:
    checks = figures(drawn())
    assert {check.verdict for check in checks.values()} == {Verdict.PASSED}, checks
    assert checks["tile_flux"].value == pytest.approx(1.0, abs=0.005)


ERRORS: dict[str, tuple[str, Callable[[RecoveredSources], RecoveredSources]]] = {
    "fluxes 1.5 % low": ("tile_flux", lambda r: replace(r, flux_jy=0.985 * r.flux_jy)),
    "gains 5 % high": ("tile_flux", lambda r: replace(r, flux_jy=1.05**2 * r.flux_jy)),
    "errors a third too small": ("tile_flux_errors", lambda r: replace(r, error_jy=r.error_jy / 1.5)),
    "errors half too large": ("tile_flux_errors", lambda r: replace(r, error_jy=1.5 * r.error_jy)),
    "fluxes that scatter by more than the noise": (
        "tile_flux_scatter",
        lambda r: replace(r, flux_jy=r.true_jy + 1.5 * (r.flux_jy - r.true_jy)),
    ),
    "positions a third worse": (
        "tile_position_scatter",
        lambda r: replace(r, along_arcsec=1.35 * r.along_arcsec, across_arcsec=1.35 * r.across_arcsec),
    ),
    "positions shifted by a tenth of a beam": (
        "tile_position_scatter",
        lambda r: replace(r, along_arcsec=r.along_arcsec + 6.0),
    ),
    "sources lost": ("tile_completeness", lambda r: replace(r, found=r.found & (r.distance_deg > 0.4))),
}


@pytest.mark.parametrize("error", ERRORS)
def test_each_error_fails_its_figure(error: str) -> None:
    name, change = ERRORS[error]
    check = figures(change(drawn()))[name]
    assert check.verdict is Verdict.FAILED, check


def test_detections_of_nothing_fail_reliability() -> None:
    assert figures(drawn(), false=60)["tile_reliability"].verdict is Verdict.FAILED


def test_sources_far_out_in_the_beam_are_not_judged() -> None:
    recovered = drawn()
    wrong = np.where(recovered.response < 0.3, 2.0, 1.0)
    assert figures(replace(recovered, flux_jy=wrong * recovered.flux_jy))["tile_flux"].verdict is Verdict.PASSED


def test_too_few_sources_are_not_judged() -> None:
    checks = figures(drawn(number=15))
    assert checks["tile_flux_scatter"].verdict is Verdict.UNMEASURED
    assert "are needed" in checks["tile_flux_scatter"].reason


def test_errors_of_the_figures_are_right() -> None:
    """Over many draws a figure scatters by the error that it names."""
    scales = [flux_scale([r], [r.judged]) for r in (drawn(seed, 400) for seed in range(120))]
    pulls = [scatter(r.flux_pull[r.noise_limited]) for r in (drawn(seed, 400) for seed in range(120))]
    for estimates in (scales, pulls):
        values, errors = (np.array([getattr(e, name) for e in estimates]) for name in ("value", "error"))
        assert values.std() / np.median(errors) == pytest.approx(1.0, abs=0.3)


def test_the_page_has_something_in_every_panel(tmp_path: Path) -> None:
    tile, mosaic = drawn(), drawn(9)
    series = [
        RecoverySeries("tile", [Recovery(tile, detected(tile, 20))]),
        RecoverySeries("mosaic", [Recovery(mosaic, detected(mosaic))]),
    ]
    checks = list(figures(tile).values())
    pixels = imread(recovery_page(tmp_path / "a.png", series, checks, "1500 sources"))
    inked = pixels[..., :3].min(axis=2) < 0.9
    rows, columns = inked.shape
    for row in range(2):
        for column in range(4):
            top, left = int(rows * (0.07 + 0.38 * row)), int(columns * (0.05 + 0.235 * column))
            assert inked[top : top + rows // 4, left : left + columns // 5].mean() > 0.003, (row, column)
    again = recovery_page(tmp_path / "b.png", series, checks, "1500 sources")
    assert again.read_bytes() == (tmp_path / "a.png").read_bytes()
