"""A small drift-scan tile whose visibilities come from a plain Fourier sum, not from the package's predictor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from dsa110_contimg import telescope
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities

MID_MJD = 60700.5
C = 299792458.0


@dataclass(frozen=True)
class Tile:
    """The size of a synthetic tile."""

    n_antennas: int = 20
    n_times: int = 6
    n_channels: int = 8
    extent_m: float = 600.0
    dec_deg: float = 33.2
    seed: int = 7
    channel_width_hz: float = 187.5e6 / 8


def empty_tile(tile: Tile) -> Visibilities:
    """Return a tile of the telescope's drift scan with no signal."""
    rng = np.random.default_rng(tile.seed)
    east, north = rng.uniform(-0.5, 0.5, (2, tile.n_antennas)) * tile.extent_m
    up = rng.normal(0.0, 2.0, tile.n_antennas)
    zenith = telescope.unit_vector(np.degrees(telescope.TEE_LONGITUDE_RAD), np.degrees(telescope.TEE_LATITUDE_RAD))
    e_axis = np.array([-np.sin(telescope.TEE_LONGITUDE_RAD), np.cos(telescope.TEE_LONGITUDE_RAD), 0.0])
    itrf = np.outer(east, e_axis) + np.outer(north, np.cross(zenith, e_axis)) + np.outer(up, zenith)
    seconds = (np.arange(tile.n_times, dtype=np.float64) - (tile.n_times - 1) / 2) * (309.0 / tile.n_times)
    times = MID_MJD + seconds / 86400.0
    ra, dec = telescope.meridian_icrs(tile.dec_deg, times)
    ra0, dec0 = telescope.meridian_icrs(tile.dec_deg, MID_MJD)
    center = SkyPosition(float(ra0[0]), float(dec0[0]))
    first, second = np.triu_indices(tile.n_antennas)
    uvw = np.einsum("bj,tij->tbi", itrf[first] - itrf[second], telescope.tangent_basis_itrs(*center, times))
    n_row = tile.n_times * first.size
    channels = np.arange(tile.n_channels, dtype=np.float64) - (tile.n_channels - 1) / 2
    freq = telescope.MID_BAND_HZ + channels * tile.channel_width_hz
    flags = np.zeros((n_row, tile.n_channels, 2), bool)
    flags[np.tile(first == second, tile.n_times)] = True
    return Visibilities(
        vis=np.zeros((n_row, tile.n_channels, 2), np.complex64),
        flags=flags,
        weights=np.ones((n_row, 2), np.float32),
        uvw_m=uvw.reshape(-1, 3),
        antenna1=np.tile(first, tile.n_times).astype(np.int32),
        antenna2=np.tile(second, tile.n_times).astype(np.int32),
        time_mjd=np.repeat(times, first.size),
        freq_hz=freq,
        channel_width_hz=tile.channel_width_hz,
        integration_s=309.0 / tile.n_times,
        phase_center=center,
        antenna_names=[str(i) for i in range(tile.n_antennas)],
        antenna_itrf_m=itrf,
        telescope=telescope.TELESCOPE_NAME,
        pointing_mjd=times,
        pointing_icrs_deg=np.stack([ra, dec], axis=1),
        field_name="synthetic",
        aberration=telescope.aberration_scale(*center, MID_MJD),
    )


def sources(vis: Visibilities, offsets_deg: NDArray[np.float64], flux_jy: NDArray[np.float64]) -> SkyModel:
    """Return sources at (east, north) tangent-plane offsets in degrees on the sky."""
    ra0, dec0 = np.radians(vis.phase_center)
    x, y = np.radians(np.atleast_2d(offsets_deg)).T
    z = np.sqrt(1 - x**2 - y**2)
    dec = np.arcsin(y * np.cos(dec0) + z * np.sin(dec0))
    ra = ra0 + np.arctan2(x, z * np.cos(dec0) - y * np.sin(dec0))
    n = ra.size
    return SkyModel(
        [f"s{i}" for i in range(n)], np.degrees(ra), np.degrees(dec), np.asarray(flux_jy, float), np.zeros((n, 1))
    )


def add_sources(vis: Visibilities, sky: SkyModel, *, drifting: bool = True) -> None:
    """Add point sources by a plain sum over directions, with the dish's beam at each integration, in place."""
    ra0, dec0 = np.radians(vis.phase_center)
    places = np.radians(sky.ra_deg), np.radians(sky.dec_deg)
    for ra, dec, flux in zip(*places, sky.flux_at(vis.freq_hz), strict=True):
        l = np.cos(dec) * np.sin(ra - ra0) / vis.aberration  # noqa: E741
        m = (np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)) / vis.aberration
        path = vis.uvw_m @ np.array([l, m, np.sqrt(1 - l**2 - m**2) - 1])
        beam = np.ones((vis.time_mjd.size, vis.freq_hz.size))
        if drifting:
            s = telescope.unit_vector(np.degrees(ra), np.degrees(dec))
            points = telescope.unit_vector(*vis.pointing_icrs_deg.T)
            sine = np.linalg.norm(np.cross(points, s), axis=1)
            index = np.searchsorted(vis.pointing_mjd, vis.time_mjd - 1e-9)
            x = np.pi * telescope.DISH_DIAMETER_M * sine[:, None] * vis.freq_hz / C + 1e-12
            beam = ((2 * j1(x) / x) ** 2)[index]
        signal = flux * beam * np.exp(2j * np.pi * path[:, None] * vis.freq_hz / C)
        vis.vis += signal[:, :, None].astype(np.complex64)


def add_noise(vis: Visibilities, sigma_jy: float, seed: int) -> None:
    """Add Gaussian noise of `sigma_jy` to the real and imaginary part of each hand, in place."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sigma_jy, (*vis.vis.shape, 2)).astype(np.float32)
    vis.vis += noise[..., 0] + 1j * noise[..., 1]
