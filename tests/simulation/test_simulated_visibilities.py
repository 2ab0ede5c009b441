"""Visibilities against formulas that share nothing with the simulator."""

import functools
from dataclasses import replace
from pathlib import Path

import erfa
import h5py
import numpy as np
import pytest
from astropy.utils import iers
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from dsa110_contimg.simulation import SimulationOptions, Truth, geometry, load_truth, simulate
from dsa110_contimg.simulation.fringes import airy_beam, sampled_visibilities, smeared_visibilities

C = 299792458.0
LONGITUDE, LATITUDE = -2.064427799136453, 0.6498455107238486
PLAIN = SimulationOptions(
    antennas=40,
    channels=2,
    integrations=3,
    subbands=(0, 15),
    noise=False,
    gain_amplitude=1.0,
    gain_scatter=0.0,
    phase_range_deg=0.0,
    delay_ns=0.0,
    calibrators=False,
    min_apparent_jy=0.0,
)


@functools.cache
def _earth_rotation() -> iers.IERS_A:
    return iers.IERS_A.open(iers.IERS_A_FILE)


def _observed(ra_deg: float, dec_deg: float, jd: float) -> tuple[float, float]:
    """Return (hour angle east-positive longitude offset, declination) by ERFA's observed place, in a vacuum."""
    table = _earth_rotation()
    dut1 = table.ut1_utc(jd, 0.0).to_value("s")
    xp, yp = (a.to_value("rad") for a in table.pm_xy(jd, 0.0))
    place = (np.radians(ra_deg), np.radians(dec_deg), 0.0, 0.0, 0.0, 0.0)
    _az, _zd, ha, dec, _ra, _eo = erfa.atco13(*place, jd, 0.0, dut1, LONGITUDE, LATITUDE, 1188.0, xp, yp, 0, 0, 0, 1)
    return float(ha), float(dec)


def _direction(ha: float, dec: float) -> NDArray[np.float64]:
    return np.array([np.cos(dec) * np.cos(LONGITUDE - ha), np.cos(dec) * np.sin(LONGITUDE - ha), np.sin(dec)])


def _one_source(folder: Path, options: SimulationOptions, ra_deg: float, dec_deg: float) -> Truth:
    folder.mkdir(exist_ok=True)
    sky = folder / "sky.csv"
    sky.write_text(f"name,ra_deg,dec_deg,flux_jy,alpha\nA,{ra_deg % 360.0},{dec_deg},2.5,-0.8\n")
    return simulate(folder / "out", replace(options, sky=str(sky)))


@pytest.mark.parametrize(
    ("declination", "ra_at_start", "offset_deg"),
    [(33.2, 24.0, (0.9, -0.7)), (71.6, 200.0, (-0.8, 0.6)), (16.1, 359.97, (0.4, 0.5)), (16.1, 0.05, (-0.5, 0.3))],
)
def test_off_center_source_against_erfa(
    tmp_path: Path, declination: float, ra_at_start: float, offset_deg: tuple[float, float]
) -> None:
    mjd = geometry.transit_mjd(ra_at_start, declination, 60990.0)
    start = str(np.datetime64(round((mjd - 40587.0) * 86400.0), "s"))
    ra = ra_at_start + offset_deg[0] / np.cos(np.radians(declination))
    options = replace(PLAIN, declination=declination, start=start)
    truth = _one_source(tmp_path, options, ra, declination + offset_deg[1])
    for name in truth.groups[0].files:
        with h5py.File(tmp_path / "out" / name) as file:
            vis = file["Data/visdata"][:, 0].reshape(3, 820, 2, 2)
            header = file["Header"]
            times, ant_1, ant_2 = (header[k][...].reshape(3, 820) for k in ("time_array", "ant_1_array", "ant_2_array"))
            positions, freq = header["antenna_positions"][...], header["freq_array"][0]
        assert np.all(vis[..., 0] == vis[..., 1])
        baseline = positions[ant_2[0]] - positions[ant_1[0]]
        cross = ant_1[0] != ant_2[0]
        for i in range(3):
            ha, dec = _observed(ra % 360.0, declination + offset_deg[1], float(times[i, 0]))
            source, center = _direction(ha, dec), _direction(0.0, np.radians(declination))
            angle = np.arctan2(np.linalg.norm(np.cross(source, center)), source @ center)
            flux = 2.5 * (freq / 1.4e9) ** -0.8 * airy_beam(angle, freq, 4.65)
            turns = freq[None, :] / C * (baseline @ (source - center))[:, None]
            expected = flux * np.exp(2j * np.pi * turns)
            # ERFA's place has 0.32 arcsec of diurnal aberration, which the Earth-fixed formula leaves out.
            error = np.angle(vis[i, cross, :, 0] / expected[cross]) / (2 * np.pi)
            allowed = 0.4 / 206265.0 * np.linalg.norm(baseline[cross], axis=1)[:, None] * freq / C + 2e-6
            assert np.all(np.abs(error) < allowed)
            assert np.median(np.abs(np.angle(expected))) > 0.5, "conjugated data would be far off"
            assert_allclose(np.abs(vis[i, cross, :, 0]), np.abs(expected[cross]), rtol=2e-4)


def test_beam_has_its_half_power_width_and_value_one_in_the_center() -> None:
    freq = 1405e6
    theta = np.radians(np.linspace(0, 4, 40001))
    power = airy_beam(theta, freq, 4.65)
    assert power[0] == pytest.approx(1.0, abs=1e-12)
    half = np.degrees(theta[np.argmin(np.abs(power - 0.5))])
    assert 2 * half == pytest.approx(2.70, abs=0.01)
    first_null = np.degrees(theta[np.flatnonzero(np.diff(np.sign(np.diff(power))) > 0)[0]])
    assert first_null == pytest.approx(np.degrees(np.arcsin(1.2197 * C / freq / 4.65)), abs=0.01)


def test_beam_drifts_over_the_source(tmp_path: Path) -> None:
    """A source that transits in mid-file is brightest there, by the beam at its distance from the meridian."""
    mjd = geometry.transit_mjd(40.0, 33.0, 60990.0)
    options = replace(
        PLAIN,
        antennas=4,
        integrations=25,
        declination=33.2,
        subbands=(7,),
        start=str(np.datetime64(round((mjd - 40587.0) * 86400.0 - 12.5 * 12.884901888), "s")),
    )
    truth = _one_source(tmp_path, options, 40.0, 33.07)
    with h5py.File(tmp_path / "out" / truth.groups[0].files[0]) as file:
        amplitude = np.abs(file["Data/visdata"][:, 0, 0, 0].reshape(25, 10))[:, 1]
    assert np.argmax(amplitude) in (11, 12, 13)
    edge = np.radians(12 * 12.884901888 * 15.041067 / 3600.0) * np.cos(np.radians(33.07))
    assert amplitude[[0, -1]].mean() / amplitude[12] == pytest.approx(airy_beam(edge, 1405e6, 4.65), rel=0.02)


def test_smearing_of_the_longest_baseline() -> None:
    """2.6 km, 1.5 degrees: 0.859 by the integration, and at most half a percent by the channel."""
    b, offset, freq = 2600.0, np.radians(1.5), np.array([1405e6])
    tau = np.array([[0.0], [b * offset / C]])
    rate = np.array([[0.0], [geometry.EARTH_TURN_RAD_S * b * offset / C]])
    one = np.ones((1, 1), np.float32)
    plain = sampled_visibilities(tau, one, freq)[0, 0, 1]
    in_time = smeared_visibilities(tau, rate, one, freq, 1.0, 12.884901888)[0, 0, 1]
    in_band = smeared_visibilities(tau, 0 * rate, one, freq, 244140.625, 12.884901888)[0, 0, 1]
    assert abs(in_time) / abs(plain) == pytest.approx(0.859, abs=0.001)
    assert 0.994 < abs(in_band) < 0.997
    assert in_time / abs(in_time) == pytest.approx(plain, abs=1e-5)


def test_smeared_visibilities_are_the_mean_over_channel_and_integration() -> None:
    rng = np.random.default_rng(3)
    tau, rate = 3e-8 * rng.standard_normal((5, 7)), 3e-11 * rng.standard_normal((5, 7))
    amplitude = rng.random((6, 7)).astype(np.float32)
    width, step = 1953125.0, 12.884901888
    freq = np.asarray(1.44e9 - width * np.arange(6), np.float64)
    got = smeared_visibilities(tau, rate, amplitude, freq, width, step)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    expected = np.zeros_like(got)
    for x, wx in zip(nodes, weights / 2, strict=True):
        for y, wy in zip(nodes, weights / 2, strict=True):
            delay = tau + rate * x * step / 2
            for chan in range(6):
                shifted = freq[chan : chan + 1] + y * width / 2
                expected[chan] += wx * wy * sampled_visibilities(delay, amplitude[chan : chan + 1], shifted)[0]
    # The two averages do not factor exactly: the cross term is of second order.
    assert_allclose(got, expected, atol=2e-3)
    unsmeared = sampled_visibilities(tau, amplitude, freq)
    assert np.abs(unsmeared - expected).max() > 0.03


def test_smear_option_averages_each_baseline_by_its_fringe_rate_and_delay(tmp_path: Path) -> None:
    mjd = geometry.transit_mjd(40.0, 33.0, 60990.0)
    start = str(np.datetime64(round((mjd - 40587.0) * 86400.0 - 19), "s"))
    step, smallest = 12.884901888, {}
    for label, ra, dec in (("center", 40.0, 33.06), ("edge", 41.2, 34.4)):
        data = []
        for smear in (False, True):
            options = replace(PLAIN, smear=smear, subbands=(7,), channels=48, start=start)
            folder = tmp_path / f"{label}{smear}"
            truth = _one_source(folder, options, ra, dec)
            with h5py.File(folder / "out" / truth.groups[0].files[0]) as file:
                data.append(file["Data/visdata"][820:1640, 0, :, 0])
                header = file["Header"]
                first, second = (header[k][:820] for k in ("ant_1_array", "ant_2_array"))
                baseline = header["antenna_positions"][...][second] - header["antenna_positions"][...][first]
                freq, jd = header["freq_array"][0], header["time_array"][820]
        early, middle, late = (_direction(*_observed(ra, dec, jd + k * step / 2 / 86400)) for k in (-1, 0, 1))
        turn, center_dec = np.pi * step / 86164.0905, np.radians(33.2)
        centers = _direction(turn, center_dec) - _direction(-turn, center_dec)
        rate = freq[None, :] / C * (baseline @ (late - early - centers))[:, None]
        delay = (baseline @ (middle - _direction(0.0, center_dec)))[:, None] / C
        cross = first != second
        ratio = np.real(data[1] / data[0])[cross]
        assert_allclose(ratio, (np.sinc(rate) * np.sinc(244140.625 * delay))[cross], atol=5e-4)
        smallest[label] = ratio.min()
    assert smallest["center"] > 0.998
    assert smallest["edge"] < 0.96


def test_noise_is_that_of_the_sefd_and_autocorrelations_hold_its_power(tmp_path: Path) -> None:
    options = SimulationOptions(
        antennas=24,
        channels=6,
        integrations=6,
        subbands=(4,),
        calibrators=False,
        min_flux_jy=0.2,
        gain_amplitude=0.068,
        gain_scatter=0.0,
        phase_range_deg=0.0,
        delay_ns=0.0,
        seed=8,
    )
    both = []
    for name, one in (("noisy", options), ("quiet", replace(options, noise=False))):
        truth = simulate(tmp_path / name, one)
        with h5py.File(tmp_path / name / truth.groups[0].files[0]) as file:
            both.append(file["Data/visdata"][:, 0].reshape(6, 300, 6, 2).astype(np.complex128) / 0.068**2)
            same = file["Header/ant_1_array"][:300] == file["Header/ant_2_array"][:300]
    noise, auto = both[0] - both[1], both[0][:, same]
    assert truth.noise_sigma_jy == 0.0
    sigma = 6500.0 / np.sqrt(2 * 1953125.0 * 12.884901888)
    assert load_truth(tmp_path / "noisy").noise_sigma_jy == pytest.approx(sigma, rel=1e-12)
    cross = noise[:, ~same]
    for part in (cross.real, cross.imag):
        assert part.std() == pytest.approx(sigma, rel=0.01)
    assert abs(np.mean(cross[..., 0] * np.conj(cross[..., 1]))) < 0.02 * sigma**2, "polarizations share no noise"
    assert np.all(auto.imag == 0.0)
    assert auto.real.mean() == pytest.approx(6500.0, rel=2e-3)
    assert (auto.real.std()) == pytest.approx(6500.0 / np.sqrt(1953125.0 * 12.884901888), rel=0.1)


def test_gains_in_the_files_are_those_of_the_truth(tmp_path: Path) -> None:
    base = SimulationOptions(antennas=10, channels=6, integrations=2, subbands=(0, 9), noise=False, min_flux_jy=0.1)
    corrupted = simulate(tmp_path / "a", replace(base, dead_stations=(114,), single_pol_stations=(28,)))
    plain = simulate(tmp_path / "b", replace(base, gain_amplitude=1.0, gain_scatter=0, phase_range_deg=0, delay_ns=0))
    assert np.abs(np.angle(corrupted.gains)).max() > 1.0
    dead, single = corrupted.stations.index(114), corrupted.stations.index(28)
    for left, right in zip(corrupted.groups[0].files, plain.groups[0].files, strict=True):
        with h5py.File(tmp_path / "a" / left) as file_a, h5py.File(tmp_path / "b" / right) as file_b:
            raw, true = file_a["Data/visdata"][:, 0], file_b["Data/visdata"][:, 0]
            index = [corrupted.stations.index(s) for s in range(1, 118) if s in corrupted.stations]
            lookup = dict(zip(sorted(corrupted.stations), index, strict=True))
            first, second = (
                [lookup[n + 1] for n in file_a[f"Header/{k}"][...]] for k in ("ant_1_array", "ant_2_array")
            )
            freq = file_a["Header/freq_array"][0]
        turns = (freq[None, :, None] - 1405e6) * corrupted.delays_ns[0][:, None, :] * 1e-9
        gain = corrupted.gains[0][:, None, :] * np.exp(2j * np.pi * turns)
        gain[dead] = 0.0
        gain[single, :, 1] = 0.0
        assert_allclose(raw, np.conj(gain[first]) * gain[second] * true, rtol=2e-5, atol=1e-6)


def test_interference_is_where_the_truth_says(tmp_path: Path) -> None:
    base = SimulationOptions(antennas=12, channels=4, integrations=5, subbands=(0, 3), noise=False, min_flux_jy=0.3)
    quiet = simulate(tmp_path / "a", base)
    loud = simulate(tmp_path / "b", replace(base, rfi_carriers=1, rfi_bursts=1))
    assert [item.kind for item in loud.interference] == ["carrier", "burst"]
    for subband, names in zip((0, 3), zip(quiet.groups[0].files, loud.groups[0].files, strict=True), strict=True):
        with h5py.File(tmp_path / "a" / names[0]) as file_a, h5py.File(tmp_path / "b" / names[1]) as file_b:
            hit = (file_a["Data/visdata"][:, 0, :, 0] != file_b["Data/visdata"][:, 0, :, 0]).reshape(5, 78, 4)
        carrier, burst = loud.interference
        expected = np.zeros((5, 4), bool)
        expected[list(burst.integrations)] = True
        if carrier.subband == subband:
            expected[:, carrier.channel] = True
        assert np.array_equal(hit.any(axis=1), expected)
        assert 0 < hit.any(axis=(0, 2)).sum() < 78, "some baselines only"
