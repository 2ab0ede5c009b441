"""Skies, source counts, light curves, the survey's list, and the truth."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.flux_scale import calibrator_model
from dsa110_contimg.simulation import SimulationOptions, Truth, Variable, load_truth, simulate
from dsa110_contimg.simulation.catalogs import SourceTable, as_surveyed, load_catalog
from dsa110_contimg.simulation.counts import differential_counts, draw_fluxes, number_per_sr
from dsa110_contimg.simulation.geometry import separation_deg
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event
from dsa110_contimg.simulation.plan import plan_tiles, prepare_sky
from dsa110_contimg.simulation.sky import make_sky, place_event, power_law_sky

TINY = SimulationOptions(antennas=4, channels=1, integrations=2, subbands=(0,), min_flux_jy=0.05)
SR_PER_SQUARE_DEGREE = (np.pi / 180.0) ** 2


def _nvss() -> Path:
    if "CONTIMG_DATA" not in os.environ:
        pytest.skip("CONTIMG_DATA does not say where the NVSS table is")
    return Path(os.environ["CONTIMG_DATA"]) / "catalogs" / "NVSSVZ.FIT.gz"


def test_drawn_counts_follow_the_fit() -> None:
    rng = np.random.default_rng(20)
    flux = draw_fluxes(0.5, 0.005, rng)
    edges = np.geomspace(0.005, 1.0, 12)
    found = np.histogram(flux, edges)[0]
    for low, high, count in zip(edges[:-1], edges[1:], found, strict=True):
        grid = np.linspace(low, high, 2001)
        expected = 0.5 * np.trapezoid(differential_counts(grid), grid)
        assert abs(count - expected) < 4.5 * np.sqrt(expected), (low, count, expected)
    assert flux.min() >= 0.005
    assert flux.max() <= 1.0


def test_counts_are_those_of_the_radio_sky() -> None:
    """Published figures: some 50 sources per square degree above 2.5 mJy (NVSS), 16 above 10 mJy."""
    assert number_per_sr(0.0025) * SR_PER_SQUARE_DEGREE == pytest.approx(50, rel=0.12)
    assert number_per_sr(0.010) * SR_PER_SQUARE_DEGREE == pytest.approx(16, rel=0.15)


def test_counts_agree_with_the_nvss_table() -> None:
    table = load_catalog(_nvss())
    solid_angle = 2 * np.pi * (1 + np.sin(np.radians(40.0)))
    for low, high in ((0.06, 0.1), (0.1, 0.3), (0.3, 1.0)):
        # Its peaks are 2.7 % above catalogue fluxes, but below the whole flux of what is extended.
        listed = np.sum((table.flux_jy / 1.027 >= low) & (table.flux_jy / 1.027 < high))
        assert number_per_sr(low, high) * solid_angle == pytest.approx(listed, rel=0.15), (low, high)


def test_nvss_table_is_read_with_its_byte_order_and_names() -> None:
    table = load_catalog(_nvss())
    assert table.flux_jy.size == 125309
    assert table.flux_jy.min() > 0.0499
    index = int(np.argmin(separation_deg(table.ra_deg, table.dec_deg, 24.4220792, 33.1597583)))
    assert table.names[index].startswith("NVSS J013741")
    assert 15.0 < table.flux_jy[index] < 17.5


def test_calibrator_replaces_its_entry_and_keeps_its_spectrum() -> None:
    options = replace(TINY, sky=str(_nvss()), transit="3C48")
    sky = prepare_sky(options, plan_tiles(options))[0]
    distance = separation_deg(sky.ra_deg, sky.dec_deg, 24.4220792, 33.1597583)
    assert np.sum(distance < 1 / 60) == 1
    index = sky.index_of("3C48")
    freq = np.array([1.35e9, 1.4e9, 1.49e9])
    assert_allclose(sky.flux_at(freq)[index], calibrator_model("3C48").flux_at(freq)[0], rtol=1e-12)
    assert sky.survey_jy[index] != sky.flux_at(freq)[index, 1], "the survey lists what it measured"


def test_drawn_sky_fills_the_strip_evenly_across_ra_zero() -> None:
    pointing_ra, pointing_dec = np.array([359.0, 0.3, 1.6]), np.full(3, 60.0)
    options = replace(TINY, min_flux_jy=0.002, calibrators=False)
    sky = make_sky(options, pointing_ra, pointing_dec)
    alone = make_sky(options, pointing_ra[1:2], pointing_dec[1:2])
    area = 2 * np.pi * (1 - np.cos(np.radians(3.5)))
    expected = number_per_sr(0.002) * area
    for one in (alone, sky.select(np.flatnonzero(separation_deg(sky.ra_deg, sky.dec_deg, 359.0, 60.0) < 3.5))):
        assert abs(len(one) - expected) < 4.5 * np.sqrt(expected)
    for sign in (-1, 1):
        side = np.sum(sign * ((alone.ra_deg - 0.3 + 180) % 360 - 180) > 0)
        assert abs(side - len(alone) / 2) < 4.5 * np.sqrt(len(alone) / 4)
    assert len(set(sky.names)) == len(sky)
    assert np.mean(sky.spectrum[:, 0]) == pytest.approx(-0.7, abs=0.03)
    assert np.std(sky.spectrum[:, 0]) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("suffix", ["csv", "fits"])
def test_sky_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sky.{suffix}"
    Table({"name": ["A", "B"], "ra_deg": [359.9, 10.0], "dec_deg": [-1.0, 2.0], "flux_jy": [1.0, 0.2]}).write(path)
    table = load_catalog(path)
    assert table.names == ("A", "B")
    assert_allclose(table.ra_deg, [359.9, 10.0])
    assert np.all(np.isnan(table.alpha))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("ra_deg,flux_jy\n1,2\n", "no column dec_deg"),
        ("", "neither a CSV nor"),
        ("ra_deg,dec_deg,flux_jy\n1,2,bright\n", "no number"),
    ],
)
def test_bad_sky_files_are_refused_by_name(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "sky.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_catalog(path)
    assert "sky.csv" in str(caught.value)


def test_event_is_flat_dips_and_has_caustic_spikes() -> None:
    day = np.linspace(-60, 60, 2401)
    factor = extreme_scattering_event(day, 0.0, 30.0, 0.4)
    assert_allclose(factor[np.abs(day) > 30], 1.0, atol=1e-3)
    assert factor[np.abs(day) < 10] == pytest.approx(0.6, abs=0.01)
    before, after = (factor[np.sign(day) == sign].max() for sign in (-1, 1))
    assert 1.1 < after < before < 1.3
    half = day[np.flatnonzero(np.diff(np.sign(factor - 0.8)))]
    assert np.ptp(half) == pytest.approx(30.0, abs=0.5)


def test_an_isolated_source_is_chosen_for_the_event() -> None:
    ra = np.array([10.0, 10.05, 10.3, 10.9])
    flux = np.array([0.3, 0.3, 0.4, 0.5])
    sky = power_law_sky(("blend", "blended", "alone", "far"), ra, np.full(4, 20.0), flux, np.full(4, -0.7))
    assert place_event(sky, (10.0, 20.0), (), "X")[1:] == ("alone", False)
    grown, name, planted = place_event(sky, (10.0, 20.0), ("alone",), "X")
    assert (name, planted, len(grown)) == ("X", True, 5)
    distance = separation_deg(sky.ra_deg, sky.dec_deg, grown.ra_deg[4], grown.dec_deg[4])
    assert distance.min() > 0.1
    assert separation_deg(grown.ra_deg[4:], grown.dec_deg[4:], 10.0, 20.0)[0] < 0.5


def test_variable_sources_vary_in_truth(tmp_path: Path) -> None:
    sky = tmp_path / "sky.csv"
    ra = plan_center_ra()
    sky.write_text(f"name,ra_deg,dec_deg,flux_jy\nA,{ra},33.2,1.0\nB,{ra + 0.2},33.3,0.5\nC,{ra},33.6,0.3\n")
    options = replace(
        TINY,
        sky=str(sky),
        calibrators=False,
        epochs=5,
        day_spacing=10,
        ese="B",
        ese_days=20.0,
        control="C",
        variables=(Variable(source="A", factors=(1.0, 1.5, 1.0, 0.5, 1.0)),),
    )
    truth = simulate(tmp_path / "out", options)
    band = (1405 / 1400) ** truth.source("A").spectrum[0]
    assert_allclose(truth.source("A").flux_1405_jy, np.array([1.0, 1.5, 1.0, 0.5, 1.0]) * band, rtol=1e-9)
    event = np.array(truth.source("B").flux_1405_jy)
    assert event[2] / event[0] == pytest.approx(0.6, abs=0.01)
    assert len(set(truth.source("C").flux_1405_jy)) == 1
    assert [truth.source(n).role for n in "ABC"] == ["variable", "ese", "control"]
    with pytest.raises(ConfigurationError, match="no source D"):
        simulate(tmp_path / "other", replace(options, ese="D"))
    with pytest.raises(ConfigurationError, match="factors for 5 epochs"):
        simulate(tmp_path / "other", replace(options, variables=(Variable(source="A", factors=(1.0,)),)))


def plan_center_ra() -> float:
    from dsa110_contimg.simulation.geometry import pointing_icrs

    return float(pointing_icrs(33.2, plan_tiles(TINY)[0].mid_times_mjd[:1])[0][0])


def test_truth_comes_back_as_it_was(observation: tuple[Path, Truth]) -> None:
    folder, truth = observation
    loaded = load_truth(folder)
    for name in truth.__dataclass_fields__:
        if name in ("gains", "delays_ns"):
            assert_array_equal(getattr(loaded, name), getattr(truth, name))
        elif name == "options":
            assert loaded.options == json.loads(json.dumps(truth.options))
        else:
            assert getattr(loaded, name) == getattr(truth, name), name
    assert loaded.gains.shape == (2, 12, 2)
    assert np.all(loaded.gains[0] != loaded.gains[1]), "each epoch has its own gains"
    assert loaded.options["seed"] == loaded.seed == 11
    assert loaded.source(loaded.ese).role == "ese"
    assert loaded.ese != loaded.control
    (folder / "other.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="not the truth"):
        load_truth(folder / "other.json")
    (folder / "other.json").unlink()


def test_catalog_is_what_a_survey_would_list() -> None:
    rng = np.random.default_rng(4)
    n = 4000
    flux = np.repeat([0.3, 0.012], n // 2)
    table = SourceTable(
        tuple(f"S{i}" for i in range(n)), np.linspace(0, 359.99, n), np.full(n, 50.0), flux, np.full(n, np.nan)
    )
    rows = as_surveyed(table, 0.01, perfect=False, rng=rng)
    assert rows[0] == ["name", "ra_deg", "dec_deg", "flux_jy", "flux_err_jy"]
    index = np.array([int(row[0][1:]) for row in rows[1:]])
    ra, dec, listed, error = (np.array([float(row[k]) for row in rows[1:]]) for k in (1, 2, 3, 4))
    assert listed.min() >= 0.01
    bright = flux[index] == 0.3
    assert bright.sum() == n // 2
    assert ((listed - flux[index]) / error)[bright].std() == pytest.approx(1.0, abs=0.05)
    assert error[bright][0] == pytest.approx(np.hypot(0.009, 0.0005), rel=1e-3)
    offset = separation_deg(ra, dec, 0.0, 90.0) - 40.0
    assert 3600 * offset[bright].std() == pytest.approx(0.3, abs=0.03)
    assert 3600 * offset[~bright].std() == pytest.approx(1.04, abs=0.1)
    same = as_surveyed(table, 0.01, perfect=True, rng=rng)
    assert float(same[1][1]) == pytest.approx(table.ra_deg[int(same[1][0][1:])], abs=1e-7)


def test_catalog_file_differs_from_the_sky_and_has_the_calibrator(observation: tuple[Path, Truth]) -> None:
    folder, truth = observation
    lines = [line.split(",") for line in (folder / "catalog.csv").read_text().splitlines()]
    listed = {row[0]: [float(v) for v in row[1:]] for row in lines[1:]}
    assert "3C48" in listed
    assert listed["3C48"][2] == pytest.approx(16.26, rel=0.12)
    name = next(s.name for s in truth.sources if s.flux_jy > 0.1 and s.role == "")
    assert listed[name][0] != truth.source(name).ra_deg
    assert abs(listed[name][0] - truth.source(name).ra_deg) < 3 / 3600
    assert abs(listed[name][2] / truth.source(name).flux_jy - 1) < 0.15
