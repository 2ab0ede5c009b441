"""From light curves to scattering events: trials, neighbors, reasons, and real sources that are none."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from dsa110_contimg.kernels.variability import eta_index, structure_function, v_index
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate
from dsa110_contimg.photometry.dips import after_trials, against_neighbors, search_dips, search_rises
from dsa110_contimg.photometry.judgment import judge_together
from dsa110_contimg.photometry.lightcurves import LightCurve, summarize
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event
from dsa110_contimg.telescope import unit_vector

FloatArray = NDArray[np.float64]

SEED = 17
OPTIONS = PhotometryOptions()
MJD = 60000.0 + 0.99727 * np.arange(300.0)


def sky(count: int, rng: np.random.Generator) -> tuple[list[LightCurve], FloatArray]:
    """Constant sources of S/N 20 across RA 0, in two square degrees."""
    flux = 10.0 ** rng.uniform(-1.5, 0.0, count)
    curves = [
        LightCurve(f"S{i:02d}", MJD, f * (1.0 + 0.05 * rng.normal(size=300)), np.full(300, 0.05 * f))
        for i, f in enumerate(flux)
    ]
    return curves, unit_vector(rng.uniform(-0.9, 0.9, count) % 360.0, rng.uniform(32.0, 33.5, count))


def times(curve: LightCurve, factor: FloatArray) -> LightCurve:
    return replace(curve, flux_jy=curve.flux_jy * factor, flux_err_jy=curve.flux_err_jy * factor)


def judged(curves: list[LightCurve], places: FloatArray) -> dict[str, Candidate]:
    stats = [summarize(c.mjd, c.flux_jy, c.flux_err_jy, OPTIONS) for c in curves]
    return judge_together(curves, stats, places, OPTIONS)


def test_the_event_is_the_only_candidate_and_says_why() -> None:
    print(f"seed {SEED}")
    curves, places = sky(40, np.random.default_rng(SEED))
    curves[7] = times(curves[7], extreme_scattering_event(MJD, 60140.0, 41.0, 0.38))
    found = judged(curves, places)
    assert list(found) == ["S07"]
    candidate = found["S07"]
    print(candidate.reason)
    assert candidate.flag_type == "ese"
    assert candidate.mjd == pytest.approx(60140.0, abs=4.0)
    for words in ("fell by 3", "% for 4", "sigma", "minimum", "neighbors constant"):
        assert words in candidate.reason


def test_what_all_sources_of_a_field_do_is_no_event() -> None:
    """A gain 25 % low for six weeks in a part of the sky, and one source that dims by half on top of it."""
    curves, places = sky(40, np.random.default_rng(SEED))
    low = np.where(np.abs(MJD - 60140.0) < 21.0, 0.75, 1.0)
    curves = [times(curve, low) for curve in curves]
    dips = search_dips(curves, OPTIONS)
    assert all(dip is not None and dip.significance > OPTIONS.dip_sigma for dip in dips)
    assert [c for c in judged(curves, places).values() if c.flag_type == "ese"] == []
    curves[5] = times(curves[5], np.where(np.abs(MJD - 60140.0) < 21.0, 0.5, 1.0))
    assert [c.source_id for c in judged(curves, places).values() if c.flag_type == "ese"] == ["S05"]


def test_a_bad_tile_makes_no_candidate() -> None:
    """All sources west of RA 0 are 40 % low in one epoch; a source that does so alone is a candidate."""
    curves, places = sky(60, np.random.default_rng(SEED))
    bad = np.where(np.arange(300) == 120, 0.6, 1.0)
    west = places[:, 1] < 0.0
    spoilt = [times(curve, bad) if there else curve for curve, there in zip(curves, west, strict=True)]
    assert judged(spoilt, places) == {}
    curves[3] = replace(curves[3], flux_jy=curves[3].flux_jy * np.where(np.arange(300) == 120, 0.3, 1.0))
    assert list(judged(curves, places)) == ["S03"]


def test_a_source_that_fades_below_its_noise_is_found_by_its_forced_fluxes() -> None:
    rng = np.random.default_rng(SEED)
    flux = np.where(np.abs(MJD - 60150.0) < 15.0, 0.0, 0.010) + 0.001 * rng.normal(size=300)
    limits = np.where(flux < 0.003, flux + 0.003, np.nan)
    (dip,) = search_dips([LightCurve("S", MJD, flux, np.full(300, 0.001), limits)], OPTIONS)
    assert dip is not None
    assert dip.significance > 6.0
    assert dip.depth == pytest.approx(1.0, abs=0.1)


def test_trials_are_counted() -> None:
    assert after_trials(5.0, 365.0) < 5.0
    assert after_trials(5.0, 3650.0) < after_trials(5.0, 365.0)
    trials = 2.0 * np.sum(365.0 / (7.0 * 1.25 ** np.arange(15)))
    assert after_trials(5.0, 365.0) == pytest.approx(norm.isf(trials * norm.sf(5.0)), rel=1e-6)
    assert after_trials(40.0, 365.0) == pytest.approx(39.8, abs=0.1)
    assert after_trials(1.0, 365.0) == 0.0


def test_too_few_neighbors_are_said_to_be_so() -> None:
    curves, _places = sky(3, np.random.default_rng(SEED))
    curves[0] = times(curves[0], extreme_scattering_event(MJD, 60140.0, 41.0, 0.38))
    (dip,) = search_dips(curves[:1], OPTIONS)
    assert dip is not None
    assert against_neighbors(dip, curves[0], curves[1:]).neighbors == "2 neighbors to compare with"


@pytest.mark.parametrize(
    ("name", "column", "varies"),
    [("1328+254", 2, False), ("1328+254", 3, False), ("2200+420", 2, True), ("2200+420", 3, True)],
)
def test_green_bank_sources_are_no_events(name: str, column: int, varies: bool) -> None:
    """1328+254 is constant at 2.25 and 8.3 GHz; 2200+420 varies at both, and is no scattering event."""
    path = Path(os.environ.get("CONTIMG_DATA", ".")) / "lightcurves" / f"gbi_{name}.txt"
    if not path.exists():
        pytest.skip("CONTIMG_DATA does not hold lightcurves/gbi_*.txt")
    table = np.genfromtxt(path)
    table = table[np.unique(table[:, 0], return_index=True)[1]]
    table = table[(table[:, column] > 0.0) & (table[:, column + 3] > 0.0)]
    flux, error = table[:, column], table[:, column + 3]
    (dip,) = search_dips([LightCurve(name, table[:, 0], flux, error)], OPTIONS)
    told = 0.0 if dip is None else dip.significance
    print(f"{name} column {column}: V {v_index(flux):.3f}, eta {eta_index(flux, error):.2f}, dip {told:.2f} sigma")
    assert told < OPTIONS.dip_sigma
    assert (eta_index(flux, error) > 2.0) is varies
    assert (v_index(flux) > 0.06) is varies


def test_structure_function_of_noise_and_of_a_wave() -> None:
    rng = np.random.default_rng(SEED)
    noise = 0.05 * rng.normal(size=300)
    flat = structure_function(MJD, 1.0 + noise, np.full(300, 0.05))
    assert np.all(np.abs(flat[1]) < 5.0 * np.maximum(flat[2], 2e-4))
    wave = structure_function(MJD, 1.0 + 0.3 * np.sin(2.0 * np.pi * MJD / 80.0) + noise, np.full(300, 0.05))
    nearest = int(np.argmin(np.abs(wave[0] - 40.0)))
    assert wave[1, nearest] == pytest.approx(2.0 * 0.3**2, rel=0.25)
    assert wave[3].sum() == 300 * 299 / 2
    assert structure_function(MJD[:1], noise[:1], noise[:1] + 1.0).shape == (4, 0)


def test_a_flare_of_weeks_is_a_rise_and_no_dip() -> None:
    """Up by 40 % for 30 days: found where it is, named in words, and a candidate of the kind variability."""
    rng = np.random.default_rng(SEED)
    mjd = 60000.0 + np.arange(200.0)
    change = extreme_scattering_event(mjd, 60110.0, 30.0, 0.4) - 1.0
    flare = LightCurve("flare", mjd, 1.0 - change + 0.05 * rng.normal(size=200), np.full(200, 0.05))
    event = LightCurve("event", mjd, 1.0 + change + 0.05 * rng.normal(size=200), np.full(200, 0.05))
    quiet = LightCurve("quiet", mjd, 1.0 + 0.05 * rng.normal(size=200), np.full(200, 0.05))
    options = PhotometryOptions()
    rises = search_rises([flare, event, quiet], options)
    assert rises[0] is not None
    assert rises[0].significance > 8.0
    assert rises[0].reason.startswith("rose by 4")
    assert abs(0.5 * (rises[0].start_mjd + rises[0].end_mjd) - 60110.0) < 5.0
    assert rises[2] is None or rises[2].significance < options.dip_sigma
    stats = [summarize(curve.mjd, curve.flux_jy, curve.flux_err_jy, options) for curve in (flare, event, quiet)]
    places = unit_vector(np.array([10.0, 60.0, 120.0]), np.array([33.0, 33.0, 33.0]))
    found = judge_together([flare, event, quiet], stats, places, options)
    assert {name: one.flag_type for name, one in found.items()} == {"flare": "variability", "event": "ese"}
    assert found["flare"].metric == "rise"
