"""Predicted visibilities against a direct sum that shares nothing with them: astropy's directions, delays on the Earth.

A Gaussian is the sum of points at the nodes of a Gauss-Hermite rule, laid out on the sky around the source.
"""

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import ITRS, EarthLocation, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray
from scipy.special import j1

from dsa110_contimg.calibration.sky_model import referred, transit_mjd
from dsa110_contimg.telescope import (
    DISH_DIAMETER_M,
    TEE_HEIGHT_M,
    TEE_LATITUDE_RAD,
    TEE_LONGITUDE_RAD,
    aberration_scale,
    meridian_icrs,
    tangent_basis_itrs,
)
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities, predict

SEED = 20
C = 299792458.0
N_ANT, N_TIME, N_CHAN, N_NODE = 6, 4, 40, 24
TEE = EarthLocation.from_geodetic(
    np.degrees(TEE_LONGITUDE_RAD) * units.deg, np.degrees(TEE_LATITUDE_RAD) * units.deg, TEE_HEIGHT_M * units.m
)
OFFSETS_DEG = np.array([[0.0, 0.0], [0.9, 0.7], [-1.1, 0.4], [0.6, -0.8], [-0.5, -1.0]])
"""(east, north) of the sources."""
SIZES = np.array([[0.0, 0.0, 0.0], [25.0, 6.0, 30.0], [0.0, 0.0, 0.0], [60.0, 20.0, 120.0], [8.0, 8.0, 0.0]])
FLUX_JY = np.array([15.0, 2.0, 1.0, 3.0, 0.5])
SPECTRA = np.array([[-0.5, -0.15], [-1.2, 0.0], [0.4, 0.1], [-0.7, 0.0], [0.0, 0.0]])


def frame(dec_deg: float, mid_mjd: float) -> tuple[Visibilities, NDArray[np.float64]]:
    """Return the axes of a tile with baselines up to 2 km, and the baselines (m, ITRS)."""
    rng = np.random.default_rng(SEED)
    antenna = rng.normal(0.0, 500.0, (N_ANT, 3))
    first, second = np.triu_indices(N_ANT, 1)
    times = mid_mjd + (np.arange(N_TIME, dtype=np.float64) - 1.5) * 90.0 / 86400.0
    ra, dec = meridian_icrs(dec_deg, times)
    center = SkyPosition(*(float(value[0]) for value in meridian_icrs(dec_deg, mid_mjd)))
    baseline = antenna[second] - antenna[first]
    shape = (first.size * N_TIME, N_CHAN, 2)
    vis = Visibilities(
        vis=np.zeros(shape, np.complex64),
        flags=np.zeros(shape, bool),
        weights=np.ones((shape[0], 2), np.float32),
        uvw_m=np.einsum("tij,bj->tbi", tangent_basis_itrs(*center, times), baseline).reshape(-1, 3),
        antenna1=np.tile(first, N_TIME).astype(np.int32),
        antenna2=np.tile(second, N_TIME).astype(np.int32),
        time_mjd=np.repeat(times, first.size),
        freq_hz=np.linspace(1.3114e9, 1.4986e9, N_CHAN),
        channel_width_hz=187.2e6 / (N_CHAN - 1),
        integration_s=12.8849,
        phase_center=center,
        antenna_names=[str(i) for i in range(N_ANT)],
        antenna_itrf_m=antenna,
        telescope="OVRO_MMA",
        pointing_mjd=times,
        pointing_icrs_deg=np.stack([ra, dec], axis=1),
        aberration=aberration_scale(*center, mid_mjd),
    )
    return vis, baseline


def sky_around(center: SkyPosition) -> SkyModel:
    dec = center.dec_deg + OFFSETS_DEG[:, 1]
    ra = (center.ra_deg + OFFSETS_DEG[:, 0] / np.cos(np.radians(dec))) % 360.0
    return SkyModel([f"s{i}" for i in range(len(dec))], ra, dec, FLUX_JY, SPECTRA, 1.4e9, SIZES)


def on_earth(where: SkyCoord, mjd: float) -> NDArray[np.float64]:
    itrs = where.transform_to(ITRS(obstime=Time(mjd, format="mjd"), location=TEE))
    vector = np.asarray(itrs.cartesian.xyz.value).T
    return np.asarray(vector / np.linalg.norm(vector, axis=-1, keepdims=True))


def cloud(sky: SkyModel, source: int) -> tuple[SkyCoord, NDArray[np.float64]]:
    """Return points that are together one source of the sky, and their shares of its flux."""
    center = SkyCoord(sky.ra_deg[source], sky.dec_deg[source], unit="deg")
    major, minor, angle_deg = sky.gaussian[source]
    if major == 0.0:
        return center.reshape(1), np.ones(1)
    nodes, weights = np.polynomial.hermite.hermgauss(N_NODE)
    along, across = np.meshgrid(nodes * major, nodes * minor)
    along, across = along.ravel() / (2.0 * np.sqrt(np.log(2.0))), across.ravel() / (2.0 * np.sqrt(np.log(2.0)))
    turn = np.arctan2(across, along) * units.rad + angle_deg * units.deg
    shares = np.outer(weights, weights).ravel() / np.pi
    return center.directional_offset_by(turn, np.hypot(along, across) * units.arcsec), shares


def direct_sum(
    vis: Visibilities, baseline: NDArray[np.float64], sky: SkyModel, dec_deg: float
) -> NDArray[np.complex128]:
    center = SkyCoord(*vis.phase_center, unit="deg")
    lon, lat = TEE_LONGITUDE_RAD, np.radians(dec_deg)
    pointing = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    parts = []
    for mjd in vis.times_mjd:
        toward = on_earth(center.reshape(1), mjd)[0]
        total = np.zeros((len(baseline), N_CHAN), complex)
        for source in range(len(sky)):
            points, shares = cloud(sky, source)
            direction = on_earth(points, mjd)
            delay = (direction - toward) @ baseline.T / C
            middle = on_earth(SkyCoord([sky.ra_deg[source]], [sky.dec_deg[source]], unit="deg"), mjd)[0]
            x = np.pi * DISH_DIAMETER_M / C * vis.freq_hz * np.linalg.norm(np.cross(pointing, middle)) + 1e-12
            log_f = np.log10(vis.freq_hz / 1.4e9)
            flux = FLUX_JY[source] * 10.0 ** (SPECTRA[source, 0] * log_f + SPECTRA[source, 1] * log_f**2)
            fringe = np.exp(2j * np.pi * delay[:, :, None] * vis.freq_hz)
            total += flux * (2.0 * j1(x) / x) ** 2 * np.einsum("p,pbf->bf", shares, fringe)
        parts.append(total)
    return np.concatenate(parts)


@pytest.mark.parametrize(("dec_deg", "ra_deg"), [(16.0, 0.0), (37.0, 0.0), (71.0, 0.0), (37.0, 140.0)])
def test_prediction_equals_a_direct_sum(dec_deg: float, ra_deg: float) -> None:
    """Off the center on both axes, on three strips, across RA 0; each kind of source by itself and all together."""
    print(f"seed {SEED}")
    vis, baseline = frame(dec_deg, transit_mjd(ra_deg, dec_deg, 60700.0))
    sky = sky_around(vis.phase_center)
    if ra_deg == 0.0:
        assert np.ptp(sky.ra_deg) > 300.0, "the field lies across RA 0"
    truth = direct_sum(vis, baseline, sky, dec_deg)
    found = predict(vis, sky)
    off = np.abs(found - truth)
    print(f"dec {dec_deg}: largest error {off.max():.2e} Jy of {FLUX_JY.sum()} Jy")
    assert off.max() < 2e-4 * FLUX_JY.sum()
    points = SkyModel(sky.names, sky.ra_deg, sky.dec_deg, sky.flux_jy, sky.spectrum, sky.ref_freq_hz)
    assert np.abs(predict(vis, points) - truth).max() > 1.0, "sizes matter on these baselines"


def test_uneven_channels_and_other_reference_frequencies_change_nothing() -> None:
    vis, _baseline = frame(37.0, transit_mjd(0.0, 37.0, 60700.0))
    sky = sky_around(vis.phase_center)
    whole = predict(vis, sky)
    np.testing.assert_allclose(predict(vis, referred(sky, 1.0e9)), whole, atol=2e-5 * FLUX_JY.sum())
    some = np.array([0, 1, 5, 17, 39])
    vis.freq_hz = vis.freq_hz[some]
    np.testing.assert_allclose(predict(vis, sky), whole[:, some], atol=2e-5 * FLUX_JY.sum())
