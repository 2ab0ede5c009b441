"""Injected sources stand where the set says, as bright as they should be; draws keep their rules."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.imaging import synthetic
from tests.imaging.synthetic import Tile, add_sources, empty_tile, sources

from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.simulation.injection import as_listed, draw_fluxes, draw_sky, inject
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities

SMALL = Tile(n_antennas=9, n_times=3, n_channels=6, extent_m=1500.0)
OFFSETS_DEG = np.array([[0.0, 0.0], [1.1, 0.3], [-0.7, 0.9], [0.4, -1.2], [-1.0, -0.6]])
FLUX_JY = np.array([1.0, 0.7, 2.0, 0.5, 1.5])
RA_ZERO_MJD = 60700.5 - 186.5 / 360.9856
"""When right ascension 0 crosses the meridian."""


@pytest.mark.parametrize(("dec_deg", "mjd"), [(33.2, 60700.5), (85.0, 60700.5), (16.1, RA_ZERO_MJD)])
def test_sources_stand_where_the_set_says(dec_deg: float, mjd: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The injection uses antenna positions alone, the oracle the set's UVW: their phases agree to 1.5 degrees."""
    monkeypatch.setattr(synthetic, "MID_MJD", mjd)
    tile = replace(SMALL, dec_deg=dec_deg)
    expected, injected = empty_tile(tile), empty_tile(tile)
    if mjd == RA_ZERO_MJD:
        assert min(expected.phase_center.ra_deg, 360.0 - expected.phase_center.ra_deg) < 1.0
    sky = sources(expected, OFFSETS_DEG, FLUX_JY)
    for index in range(len(sky)):
        one = sky.select(np.array([index]))
        expected.vis[:], injected.vis[:] = 0.0, 0.0
        add_sources(expected, one)
        inject(injected, replace(one, ref_freq_hz=1.4e9), smear=False)
        good = ~expected.flags
        ratio = injected.vis[good] / expected.vis[good]
        assert np.abs(np.degrees(np.angle(ratio))).max() < 1.5, OFFSETS_DEG[index]
        assert np.abs(np.abs(ratio) - 1.0).max() < 2e-3


def amplitudes(vis: Visibilities, offset_deg: float, *, smear: bool) -> np.ndarray:
    vis.vis[:] = 0.0
    inject(vis, sources(vis, np.array([[offset_deg, 0.0]]), np.array([1.0])), smear=smear)
    cross = vis.antenna1 != vis.antenna2
    return np.asarray(np.abs(vis.vis[cross, :, 0]))


def test_smearing_takes_flux_off_far_from_the_pointing_only() -> None:
    vis = replace(empty_tile(replace(SMALL, n_times=1)), integration_s=12.885, channel_width_hz=2e6)
    long = np.hypot(*vis.uvw_m[vis.antenna1 != vis.antenna2, :2].T) > 1000.0
    loss = {at: 1.0 - amplitudes(vis, at, smear=True) / amplitudes(vis, at, smear=False) for at in (0.02, 1.0)}
    assert np.abs(loss[0.02]).max() < 1e-3, "near the direction on which the dishes look nothing smears"
    # At one degree a baseline of 1 km drifts by 0.07 turns in an integration, and a channel of 2 MHz adds 0.12.
    assert 0.005 < loss[1.0][long].mean() < 0.2
    assert (loss[1.0] > -1e-4).all()


def test_what_is_flagged_stays_as_it_is() -> None:
    vis = empty_tile(SMALL)
    vis.flags[:, 2] = True
    inject(vis, sources(vis, OFFSETS_DEG, FLUX_JY))
    assert not vis.vis[:, 2].any()
    assert vis.vis[:, 3].any()


def test_a_set_that_does_not_say_where_it_looks_is_refused() -> None:
    vis = empty_tile(SMALL)
    sky = sources(vis, OFFSETS_DEG, FLUX_JY)
    with pytest.raises(BadInputError, match="has no pointings"):
        inject(replace(vis, pointing_mjd=np.empty(0)), sky)
    nowhere = vis.antenna_itrf_m.copy()
    nowhere[4] = np.nan
    with pytest.raises(BadInputError, match="antennas without a position"):
        inject(replace(vis, antenna_itrf_m=nowhere), sky)


@given(st.integers(1, 2000), st.floats(1e-4, 1e-2), st.floats(0.1, 100.0))
@settings(max_examples=50, deadline=None)
def test_fluxes_span_the_whole_range(number: int, faintest: float, brightest: float) -> None:
    drawn = np.sort(draw_fluxes(number, faintest, brightest, np.random.default_rng(1)))
    assert drawn.size == number
    assert faintest <= drawn[0]
    assert drawn[-1] <= brightest
    if number >= 100:
        above = (drawn > 4.0 * faintest).mean()
        share = ((4.0 * faintest) ** -0.5 - brightest**-0.5) / (faintest**-0.5 - brightest**-0.5)
        assert above == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("center", [SkyPosition(0.2, 33.0), SkyPosition(120.0, 85.0), SkyPosition(359.9, -5.0)])
def test_sources_keep_their_distances(center: SkyPosition) -> None:
    rng = np.random.default_rng(5)
    known = np.array([[center.ra_deg, center.dec_deg + 0.3]])
    sky = draw_sky([center], 1.5, np.full(150, 0.01), 0.15, known, rng)
    ra, dec = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    apart = separation(ra[:, None], dec[:, None], ra[None, :], dec[None, :])
    assert np.degrees(apart[~np.eye(150, dtype=bool)].min()) >= 0.15 - 1e-9
    from_center = np.degrees(separation(ra, dec, *np.radians(center)))
    assert from_center.max() <= 1.5 + 1e-9
    assert (from_center < 1.5 / np.sqrt(2.0)).mean() == pytest.approx(0.5, abs=0.1), "as many inside as outside"
    assert np.degrees(separation(ra, dec, *np.radians(known[0]))).min() >= 0.15 - 1e-9


def test_too_many_sources_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"5000 sources do not fit 12\.0 arcmin apart"):
        draw_sky([SkyPosition(10.0, 33.0)], 1.0, np.ones(5000), 0.2, np.empty((0, 2)), np.random.default_rng(2))


def test_a_catalogue_is_as_wrong_as_it_says() -> None:
    n = 4000
    places = np.linspace(0.0, 359.0, n), np.linspace(-80.0, 85.0, n)
    bright = SkyModel(["bright"], np.array([10.0]), np.array([33.0]), np.array([0.06]), np.array([[-0.7]]))
    assert all(as_listed(bright, np.random.default_rng(seed)).names for seed in range(20))
    sky = SkyModel([f"s{i}" for i in range(n)], *places, np.full(n, 0.02), np.full((n, 1), -0.7))
    listed = as_listed(sky, np.random.default_rng(3))
    kept = np.array([int(name[1:]) for name in listed.names])
    assert len(listed) == pytest.approx(0.8 * n, rel=0.03)
    assert np.log(listed.flux_jy / 0.02).std() == pytest.approx(0.05, rel=0.05)
    assert (listed.spectrum + 0.7).std() == pytest.approx(0.2, rel=0.05)
    apart = separation(*np.radians([listed.ra_deg, listed.dec_deg, sky.ra_deg[kept], sky.dec_deg[kept]]))
    assert np.degrees(np.sqrt(np.mean(apart**2))) * 3600.0 == pytest.approx(0.7 * np.sqrt(2.0), rel=0.05)
