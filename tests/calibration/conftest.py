"""A small synthetic tile: random antennas, true uvw, known gains, noise, one flux calibrator and a field around it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsa110_contimg.calibration.sky_model import referred, transit_mjd
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model
from dsa110_contimg.telescope import (
    BAND_HIGH_HZ,
    BAND_LOW_HZ,
    MID_BAND_HZ,
    aberration_scale,
    meridian_icrs,
    tangent_basis_itrs,
)
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities, predict

DEC_DEG = 33.2
INTEGRATION_S = 12.8849
MakeTile = Callable[..., Visibilities]


def blank_tile(n_ant: int, n_time: int, n_chan: int, rng: np.random.Generator, mid_mjd: float) -> Visibilities:
    """Return a tile with geometry and pointings and visibilities of zero; the last table antenna has no rows."""
    position = np.zeros((n_ant + 1, 3))
    position[:, :2] = rng.normal(0.0, 400.0, (n_ant + 1, 2))
    position[:, 2] = rng.normal(0.0, 300.0, n_ant + 1)
    first, second = np.triu_indices(n_ant)
    antenna1, antenna2 = np.tile(first, n_time).astype(np.int32), np.tile(second, n_time).astype(np.int32)
    times = mid_mjd + (np.arange(n_time, dtype=np.float64) - 0.5 * (n_time - 1)) * INTEGRATION_S / 86400.0
    ra, dec = meridian_icrs(DEC_DEG, times)
    ra0, dec0 = (float(v[0]) for v in meridian_icrs(DEC_DEG, mid_mjd))
    basis = tangent_basis_itrs(ra0, dec0, times)
    uvw = np.einsum("tij,bj->tbi", basis, position[second] - position[first]).reshape(-1, 3)
    width = (BAND_HIGH_HZ - BAND_LOW_HZ) / n_chan
    shape = (antenna1.size, n_chan, 2)
    return Visibilities(
        vis=np.zeros(shape, np.complex64),
        flags=np.zeros(shape, bool),
        weights=np.ones((shape[0], 2), np.float32),
        uvw_m=uvw,
        antenna1=antenna1,
        antenna2=antenna2,
        time_mjd=np.repeat(times, first.size),
        freq_hz=BAND_LOW_HZ + width * (np.arange(n_chan, dtype=np.float64) + 0.5),
        channel_width_hz=width,
        integration_s=INTEGRATION_S,
        phase_center=SkyPosition(ra0, dec0),
        antenna_names=[str(i + 1) for i in range(n_ant + 1)],
        antenna_itrf_m=position,
        telescope="OVRO_MMA",
        pointing_mjd=times,
        pointing_icrs_deg=np.stack([ra, dec], axis=1),
        field_name="synthetic",
        aberration=aberration_scale(ra0, dec0, mid_mjd),
    )


@pytest.fixture(scope="session")
def transit() -> float:
    """A transit of 3C48 (MJD)."""
    return transit_mjd(*POSITIONS["3C48"], 60700.2)


@pytest.fixture(scope="session")
def sky() -> SkyModel:
    """3C48 and twelve fainter sources around it."""
    rng = np.random.default_rng(48)
    calibrator = referred(calibrator_model("3C48"), 1.4e9)
    return SkyModel(
        names=["3C48", *(f"field{i}" for i in range(12))],
        ra_deg=np.append(calibrator.ra_deg, calibrator.ra_deg + rng.uniform(-1.5, 1.5, 12)),
        dec_deg=np.append(calibrator.dec_deg, DEC_DEG + rng.uniform(-1.2, 1.2, 12)),
        flux_jy=np.append(calibrator.flux_jy, rng.uniform(0.2, 2.0, 12)),
        spectrum=np.concatenate([calibrator.spectrum, np.outer(np.full(12, -0.7), [1.0, 0.0, 0.0])]),
    )


@pytest.fixture(scope="session")
def make_tile(sky: SkyModel, transit: float) -> MakeTile:
    """Return a builder: make_tile(gains, n_ant=..., n_time=..., n_chan=..., noise_jy=..., seed=..., sky=...)."""

    def build(
        gains: NDArray[np.complex128] | None = None,
        *,
        n_ant: int = 14,
        n_time: int = 12,
        n_chan: int = 32,
        noise_jy: float = 0.5,
        seed: int = 1,
        model: SkyModel | None = None,
    ) -> Visibilities:
        print(f"tile seed {seed}")
        rng = np.random.default_rng(seed)
        vis = blank_tile(n_ant, n_time, n_chan, rng, transit)
        noise = rng.normal(0.0, noise_jy, (*vis.vis.shape, 2)) if noise_jy else np.zeros((*vis.vis.shape, 2))
        true = predict(vis, sky if model is None else model)[:, :, None] + noise[..., 0] + 1j * noise[..., 1]
        if gains is not None:
            true = true * gains[vis.antenna1] * np.conj(gains[vis.antenna2])
        vis.vis[:] = true
        return vis

    return build


@pytest.fixture(scope="session")
def make_gains() -> Callable[..., NDArray[np.complex128]]:
    """Return a builder of true gains (n_ant, n_chan, 2): raw amplitudes, a smooth bandpass, phases and delays."""

    def build(n_ant: int = 14, n_chan: int = 32, *, seed: int = 7, delays_ns: float = 0.0) -> NDArray[np.complex128]:
        rng = np.random.default_rng(seed)
        width = (BAND_HIGH_HZ - BAND_LOW_HZ) / n_chan
        offset = BAND_LOW_HZ + width * (np.arange(n_chan) + 0.5) - MID_BAND_HZ
        tau = rng.uniform(-delays_ns, delays_ns, (n_ant, 1, 2)) * 1e-9
        ripple = 1.0 + 0.15 * np.sin(rng.uniform(0, 6.28, (n_ant, 1, 2)) + 12.0 * np.linspace(0, 1, n_chan)[:, None])
        amplitude = rng.uniform(0.05, 0.09, (n_ant, 1, 2)) * ripple
        phase = rng.uniform(-np.pi, np.pi, (n_ant, 1, 2)) + 2 * np.pi * tau * offset[:, None]
        return np.asarray(amplitude * np.exp(1j * phase))

    return build
