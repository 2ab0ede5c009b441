"""A good mosaic passes; each real defect fails the check that is there for it; nothing passes unmeasured."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.options import QAOptions
from dsa110_contimg.qa.checks import (
    Check,
    ReferenceSources,
    Verdict,
    flux_scale_of,
    image_checks,
    mosaic_checks,
    thermal_check,
    verdict_of,
)
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

OPTIONS = QAOptions()
NOISE = 2e-3
CELL_ARCSEC = 12.0
BEAM = Beam(60.0, 48.0, 90.0)
SHAPE = (500, 700)


class Field:
    """A flat field of sources with measurements made on its pixels, the way forced photometry makes them."""

    def __init__(self, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        gy, gx = np.mgrid[20:480:36, 20:680:36]
        self.x = gx.ravel() + rng.uniform(-3, 3, gx.size)
        self.y = gy.ravel() + rng.uniform(-3, 3, gx.size)
        self.reference = np.minimum(4e-3 * (rng.pareto(0.9, gx.size) + 1), 5.0)
        self.data = rng.normal(0, NOISE, SHAPE).astype(np.float32)
        j, i = np.mgrid[-9:10, -9:10]
        for x, y, flux in zip(self.x, self.y, self.reference, strict=True):
            x0, y0 = round(x), round(y)
            square = ((i + x0 - x) / BEAM.major_arcsec) ** 2 + ((j + y0 - y) / BEAM.minor_arcsec) ** 2
            self.data[y0 - 9 : y0 + 10, x0 - 9 : x0 + 10] += flux * np.exp(-4 * np.log(2) * CELL_ARCSEC**2 * square)
        self.noise_map = np.full(SHAPE, NOISE, np.float32)

    def image(self, data: NDArray[np.float32] | None = None, kind: str = "mosaic") -> SkyImage:
        pixels = self.data if data is None else data
        return SkyImage(pixels, SkyPosition(24.0, 33.0), CELL_ARCSEC / 3600.0, beam=BEAM, kind=kind)

    def measure(self, data: NDArray[np.float32] | None = None) -> ReferenceSources:
        """Peak pixel within a beam of each reference position, its position refined by a parabola."""
        pixels = self.data if data is None else data
        flux, east, north = (np.empty(self.x.size) for _ in range(3))
        for k, (x, y) in enumerate(zip(self.x, self.y, strict=True)):
            x0, y0 = round(x), round(y)
            box = pixels[y0 - 4 : y0 + 5, x0 - 4 : x0 + 5]
            j, i = (int(v) for v in np.unravel_index(np.argmax(box), box.shape))
            row, column = pixels[y0 - 4 + j, x0 - 5 + i : x0 - 2 + i], pixels[y0 - 5 + j : y0 - 2 + j, x0 - 4 + i]
            at_edge = i in (0, 8) or j in (0, 8)
            east[k] = np.nan if at_edge else -(x0 - 4 + i + parabola(row) - x) * CELL_ARCSEC
            north[k] = np.nan if at_edge else (y0 - 4 + j + parabola(column) - y) * CELL_ARCSEC
            flux[k] = peak_at(pixels, x, y)
        local = np.full(self.x.size, NOISE)
        names = [f"s{k}" for k in range(self.x.size)]
        return ReferenceSources(names, flux, local, self.reference, local, east, north, np.ones(self.x.size, bool))

    def checks(
        self, data: NDArray[np.float32] | None = None, sources: ReferenceSources | None = None
    ) -> dict[str, Check]:
        found = sources if sources is not None else self.measure(data)
        return by_name(mosaic_checks(self.image(data), self.image(self.noise_map, "noise"), found, OPTIONS))


def parabola(v: NDArray[np.float32]) -> float:
    curve = float(v[0] - 2 * v[1] + v[2])
    return 0.5 * float(v[0] - v[2]) / curve if curve < 0 else 0.0


def peak_at(pixels: NDArray[np.float32], x: float, y: float) -> float:
    """Least-squares height of a Gaussian at a known position."""
    x0, y0 = round(x), round(y)
    j, i = np.mgrid[-3:4, -3:4]
    square = ((i + x0 - x) / BEAM.major_arcsec) ** 2 + ((j + y0 - y) / BEAM.minor_arcsec) ** 2
    shape = np.exp(-4 * np.log(2) * CELL_ARCSEC**2 * square)
    return float(np.sum(shape * pixels[y0 - 3 : y0 + 4, x0 - 3 : x0 + 4]) / np.sum(shape**2))


def by_name(checks: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def field() -> Field:
    return Field()


def test_a_good_mosaic_passes_with_values(field: Field) -> None:
    checks = field.checks()
    assert verdict_of(list(checks.values())) is Verdict.PASSED, checks
    assert all(check.value is not None for check in checks.values())
    assert checks["flux_ratio"].value == pytest.approx(1.0, abs=0.03)
    assert checks["noise_map"].value == pytest.approx(1.0, abs=0.05)
    assert checks["completeness"].value is not None
    assert checks["completeness"].value > 0.95
    assert set(checks) == {
        "dynamic_range", "peak_snr", "negative_fraction", "stripes", "bowl", "noise_map", "flux_ratio",
        "flux_ratio_error", "completeness", "astrometry",
    }  # fmt: skip


DEFECTS: dict[str, tuple[str, Verdict, Callable[[Field], dict[str, Check]]]] = {
    "gain off by 25 %": ("flux_ratio", Verdict.FAILED, lambda f: f.checks(f.data * np.float32(0.75))),
    "gain off by 12 %": ("flux_ratio", Verdict.WARNING, lambda f: f.checks(f.data * np.float32(1.12))),
    "gains of every antenna low by 5 %": (
        "flux_ratio",
        Verdict.WARNING,
        lambda f: f.checks(f.data * np.float32(0.95**2)),
    ),
    "gains of every antenna high by 12 %": (
        "flux_ratio",
        Verdict.FAILED,
        lambda f: f.checks(f.data * np.float32(1.12**2)),
    ),
    "mirrored field": ("astrometry", Verdict.FAILED, lambda f: f.checks(f.data[:, ::-1].copy())),
    "mirrored field misses sources": ("completeness", Verdict.FAILED, lambda f: f.checks(f.data[:, ::-1].copy())),
    "shifted by a third of a beam": ("astrometry", Verdict.FAILED, lambda f: f.checks(shifted(f, 18.0))),
    "shifted by a seventh of a beam": ("astrometry", Verdict.WARNING, lambda f: f.checks(shifted(f, 8.0))),
    "wrong strip's gains": ("flux_ratio", Verdict.FAILED, lambda f: f.checks(wrong_strip(f))),
    "wrong strip hides sources": ("completeness", Verdict.FAILED, lambda f: f.checks(wrong_strip(f))),
    "nothing but noise": (
        "dynamic_range",
        Verdict.FAILED,
        lambda f: f.checks(np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32)),
    ),
    "negative bowls": ("negative_fraction", Verdict.WARNING, lambda f: f.checks(bowls(f))),
}


def wrong_strip(field: Field) -> NDArray[np.float32]:
    """The sky at 6 % of its flux under the noise there was."""
    noise = np.random.default_rng(3).normal(0, NOISE, SHAPE)
    return (0.06 * field.data + noise).astype(np.float32)


def bowls(field: Field) -> NDArray[np.float32]:
    data = field.data.copy()
    for x, y in zip(field.x[::2], field.y[::2], strict=True):
        data[round(y) + 6 : round(y) + 14, round(x) + 6 : round(x) + 14] -= 5 * NOISE
    return data


def shifted(field: Field, arcsec: float) -> NDArray[np.float32]:
    """The image moved to the east by a fraction of a pixel or more (Fourier shift)."""
    ramp = np.exp(2j * np.pi * np.fft.fftfreq(SHAPE[1]) * arcsec / CELL_ARCSEC)
    return np.fft.ifft(np.fft.fft(field.data, axis=1) * ramp, axis=1).real.astype(np.float32)


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_caught(field: Field, defect: str) -> None:
    name, verdict, measure = DEFECTS[defect]
    checks = measure(field)
    assert checks[name].verdict is verdict, checks[name]
    overall = verdict_of(list(checks.values()))
    assert overall is Verdict.FAILED if verdict is Verdict.FAILED else overall is not Verdict.PASSED


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_noise_map_wrong_by_two_fails(field: Field, factor: float) -> None:
    noise = field.image(field.noise_map * np.float32(factor), "noise")
    check = by_name(mosaic_checks(field.image(), noise, field.measure(), OPTIONS))["noise_map"]
    assert check.verdict is Verdict.FAILED
    assert check.value == pytest.approx(1.0 / factor, rel=0.05)


def test_choice_of_sources_does_not_depend_on_their_measured_flux(field: Field) -> None:
    """Faint gains lose sources below the detection limit; the ratio still tells the truth."""
    check = field.checks(wrong_strip(field))["flux_ratio"]
    assert check.value == pytest.approx(0.06, abs=0.05)


def test_without_a_catalogue_nothing_passes(field: Field) -> None:
    checks = mosaic_checks(field.image(), field.image(field.noise_map, "noise"), None, OPTIONS)
    named = by_name(checks)
    for name in ("flux_ratio", "flux_ratio_error", "completeness", "astrometry"):
        assert named[name].verdict is Verdict.UNMEASURED
        assert named[name].value is None
        assert "no reference catalogue" in named[name].reason
    assert verdict_of(checks) is Verdict.WARNING


def test_two_reference_sources_are_too_few(field: Field) -> None:
    sources = field.measure()
    two = np.argsort(sources.reference_jy)[-2:]
    few = ReferenceSources(
        ["a", "b"],
        *(
            getattr(sources, name)[two]
            for name in (
                "flux_jy", "flux_err_jy", "reference_jy", "local_noise_jy", "offset_east_arcsec",
                "offset_north_arcsec", "isolated",
            )
        ),
    )  # fmt: skip
    checks = field.checks(sources=few)
    assert checks["flux_ratio"].verdict is Verdict.UNMEASURED
    assert "2 isolated reference sources" in checks["flux_ratio"].reason
    assert checks["astrometry"].verdict is checks["completeness"].verdict is Verdict.UNMEASURED


def drawn(number: int, scatter: float, noise: float, rng: np.random.Generator) -> ReferenceSources:
    """Return sources on a scale of 0.95, each off by itself and by its noise; one in ten has varied by a factor."""
    reference = rng.uniform(0.2, 2.0, number)
    own = 1.0 + scatter * rng.normal(size=number)
    own[rng.random(number) < 0.1] *= 1.8
    flux = 0.95 * reference * own + noise * rng.normal(size=number)
    zero = np.zeros(number)
    errors = np.full(number, noise)
    return ReferenceSources(
        [str(i) for i in range(number)], flux, errors, reference, errors, zero, zero, np.ones(number, bool)
    )


@pytest.mark.parametrize(("scatter", "noise"), [(0.05, 0.002), (0.0, 0.015)])
def test_the_error_of_the_flux_scale_is_right(scatter: float, noise: float) -> None:
    rng = np.random.default_rng(17)
    print("seed 17")
    scales = [flux_scale_of(drawn(60, scatter, noise, rng)) for _ in range(400)]
    ratios, errors = np.array([s.ratio for s in scales]), np.array([s.error for s in scales])
    assert np.median(ratios) == pytest.approx(0.95, abs=0.01)
    assert np.std(ratios) / np.median(errors) == pytest.approx(1.0, abs=0.2)


def test_a_scale_that_is_not_known_well_enough_warns(field: Field) -> None:
    few = drawn(4, 0.4, 0.002, np.random.default_rng(2))
    checks = field.checks(sources=few)
    assert checks["flux_ratio_error"].verdict is Verdict.WARNING
    assert checks["flux_ratio_error"].value is not None
    assert f"± {checks['flux_ratio_error'].value:.3f}" in checks["flux_ratio"].reason


def test_blended_sources_do_not_set_the_flux_scale(field: Field) -> None:
    sources = field.measure()
    blended = np.arange(len(sources.name)) % 3 > 0
    flux = np.where(blended, 2.0 * sources.flux_jy, sources.flux_jy)
    check = field.checks(sources=replace(sources, flux_jy=flux, isolated=~blended))["flux_ratio"]
    assert check.verdict is Verdict.PASSED
    check = field.checks(sources=replace(sources, flux_jy=flux))["flux_ratio"]
    assert check.verdict is not Verdict.PASSED


def test_limits_scale_with_the_beam(field: Field) -> None:
    """Eight arcseconds are a warning for a beam of 54 and a failure for one of 25."""
    sources = field.measure(shifted(field, 8.0))
    small = replace(field.image(), beam=Beam(28.0, 22.0, 90.0))
    checks = by_name(mosaic_checks(small, field.image(field.noise_map), sources, OPTIONS))
    assert checks["astrometry"].verdict is Verdict.FAILED


def test_tile_checks(field: Field) -> None:
    checks = by_name(image_checks(field.image(kind="image"), OPTIONS, thermal_jy=5e-4))
    assert verdict_of(list(checks.values())) is Verdict.PASSED
    assert checks["noise_over_thermal"].value == pytest.approx(4.0, rel=0.05)
    assert checks["finite_fraction"].value == 1.0
    blank = field.data.copy()
    blank[:, : SHAPE[1] * 2 // 3] = np.nan
    checks = by_name(image_checks(field.image(blank), OPTIONS))
    assert checks["finite_fraction"].verdict is Verdict.FAILED
    assert "noise_over_thermal" not in checks


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_an_empty_image_has_no_noise_to_measure(value: float) -> None:
    image = SkyImage(np.full((50, 50), value, np.float32), SkyPosition(0.0, 0.0), 0.01)
    checks = image_checks(image, OPTIONS)
    assert by_name(checks)["dynamic_range"].verdict is Verdict.UNMEASURED
    assert verdict_of(checks) is not Verdict.PASSED


def test_local_noise_counts_for_the_peak() -> None:
    """A spike amid artifacts stands out of the image but not of its surroundings."""
    rng = np.random.default_rng(4)
    data = rng.normal(0, 1e-3, (600, 600)).astype(np.float32)
    data[250:350, 250:350] += rng.normal(0, 0.05, (100, 100)).astype(np.float32)
    data[300, 300] = 0.24
    image = SkyImage(data, SkyPosition(0.0, 0.0), 0.01, beam=Beam(108.0, 108.0, 0.0))
    checks = by_name(image_checks(image, OPTIONS))
    assert checks["dynamic_range"].verdict is Verdict.PASSED
    assert checks["peak_snr"].verdict is Verdict.FAILED


def test_noise_far_above_the_thermal_noise_warns_and_fails(field: Field) -> None:
    for times, verdict in ((4.0, Verdict.PASSED), (8.0, Verdict.WARNING), (20.0, Verdict.FAILED)):
        checks = by_name(image_checks(field.image(), OPTIONS, thermal_jy=NOISE / times))
        assert checks["noise_over_thermal"].verdict is verdict, times
    unknown = thermal_check(None, "the noise of a mosaic", OPTIONS)
    assert unknown.verdict is Verdict.UNMEASURED
    assert verdict_of([unknown]) is Verdict.WARNING


@pytest.mark.parametrize(("sigma", "verdict"), [(0.1, Verdict.PASSED), (0.7, Verdict.WARNING), (1.5, Verdict.FAILED)])
def test_stripes(field: Field, sigma: float, verdict: Verdict) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    check = field.checks(field.data + (sigma * NOISE * np.cos(0.5 * x + 0.2 * y)).astype(np.float32))["stripes"]
    assert check.verdict is verdict, check


@pytest.mark.parametrize(("sigma", "verdict"), [(0.2, Verdict.PASSED), (2.5, Verdict.WARNING), (5.0, Verdict.FAILED)])
def test_a_bowl(field: Field, sigma: float, verdict: Verdict) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    hole = sigma * NOISE * np.exp(-((x - 210) ** 2 + (y - 310) ** 2) / (2.0 * 40.0**2))
    check = field.checks((field.data - hole).astype(np.float32))["bowl"]
    assert check.verdict is verdict, check


def test_verdict_of_many() -> None:
    def check(verdict: Verdict, limit: float | None = 1.0) -> Check:
        return Check("c", 1.0, limit, limit, verdict, "")

    assert verdict_of([]) is Verdict.WARNING
    assert verdict_of([check(Verdict.PASSED)]) is Verdict.PASSED
    assert verdict_of([check(Verdict.PASSED), check(Verdict.WARNING)]) is Verdict.WARNING
    assert verdict_of([check(Verdict.WARNING), check(Verdict.FAILED)]) is Verdict.FAILED
    assert verdict_of([check(Verdict.PASSED), check(Verdict.UNMEASURED)]) is Verdict.WARNING
    assert verdict_of([check(Verdict.PASSED), check(Verdict.UNMEASURED, None)]) is Verdict.PASSED
