r"""What happens to the sky's visibilities on their way into a file.

    raw(ant_1, ant_2) = conj(g[ant_1]) g[ant_2] · (V + R + noise),      g(f) = a e^{iφ} e^{2πi (f − f0) d}

with one amplitude a, phase φ and delay d per antenna, polarization and epoch, and f0 = 1405 MHz. R is interference.
Real and imaginary part of the noise each have σ = SEFD/√(2 Δf Δt) on cross products. An autocorrelation is the
power SEFD + Σ A, with σ = power/√(Δf Δt), and real.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled
from dsa110_contimg.simulation.options import SimulationOptions

REFERENCE_HZ = 1405.0e6
N_POL = 2


@dataclass(frozen=True)
class EpochGains:
    """Gains at 1405 MHz, complex (n_antenna, 2), and delays in ns of the same shape."""

    gain: NDArray[np.complex128]
    delay_ns: NDArray[np.float64]

    def at(self, freq_hz: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Return the gain at each channel, shape (n_antenna, n_chan, 2)."""
        turns = (freq_hz[None, :, None] - REFERENCE_HZ) * self.delay_ns[:, None, :] * 1e-9
        return np.asarray(self.gain[:, None, :] * np.exp(2j * np.pi * turns), np.complex64)


@dataclass(frozen=True)
class Interference:
    """One interferer: where it is in the files, and on which antennas."""

    kind: str
    """carrier or burst."""
    tile: int
    """Running number of the group; -1 means all of them."""
    subband: int
    """-1 means all of them."""
    channel: int
    """Channel of the file that a carrier is in; -1 means all of them."""
    integrations: tuple[int, ...]
    """Integrations of a burst; empty means all of them."""
    stations: tuple[int, ...]
    strength_jy: float


def draw_gains(options: SimulationOptions, n_antenna: int, epoch: int) -> EpochGains:
    """Draw the gains and delays of one epoch; antennas and polarizations are independent."""
    rng = np.random.default_rng([options.seed, 1, epoch])
    shape = (n_antenna, N_POL)
    amplitude = options.gain_amplitude * np.maximum(1.0 + options.gain_scatter * rng.standard_normal(shape), 0.1)
    phase = np.radians(options.phase_range_deg) * rng.uniform(-1.0, 1.0, shape)
    return EpochGains(amplitude * np.exp(1j * phase), options.delay_ns * rng.standard_normal(shape))


def noise_sigma_jy(options: SimulationOptions, channel_hz: float, integration_s: float) -> float:
    """Return the noise of real and imaginary part of one cross product, channel, integration, polarization."""
    return options.sefd_jy / float(np.sqrt(2.0 * channel_hz * integration_s)) if options.noise else 0.0


def draw_interference(options: SimulationOptions, stations: tuple[int, ...], n_group: int) -> list[Interference]:
    """Draw carriers and bursts; each is seen by a third of the antennas."""
    rng = np.random.default_rng([options.seed, 2])
    found = []
    for index in range(options.rfi_carriers + options.rfi_bursts):
        carrier = index < options.rfi_carriers
        seen_by = np.sort(rng.choice(stations, max(2, len(stations) // 3), replace=False))
        first, length = int(rng.integers(options.integrations)), int(rng.integers(1, 3))
        found.append(
            Interference(
                kind="carrier" if carrier else "burst",
                tile=-1 if carrier else int(rng.integers(n_group)),
                subband=int(rng.choice(options.subbands)) if carrier else -1,
                channel=int(rng.integers(options.channels)) if carrier else -1,
                integrations=() if carrier else tuple(range(first, min(first + length, options.integrations))),
                stations=tuple(int(s) for s in seen_by),
                strength_jy=float(options.rfi_jy * rng.uniform(0.5, 1.5)),
            )
        )
    return found


def add_interference(
    model: NDArray[np.complex64],
    interferers: list[Interference],
    stations: tuple[int, ...],
    where: tuple[int, int, int],
    seed: int,
) -> None:
    """Add interference to the visibilities of one integration, in place.

    Parameters
    ----------
    model
        (n_chan, n_antenna, n_antenna), Jy.
    where
        Running number of the group, subband, integration.
    """
    group, subband, integration = where
    for index, item in enumerate(interferers):
        if item.tile not in (-1, group) or item.subband not in (-1, subband):
            continue
        if item.integrations and integration not in item.integrations:
            continue
        rng = np.random.default_rng([seed, 3, index])
        seen = np.array([stations.index(s) for s in item.stations])
        field = np.sqrt(item.strength_jy) * np.exp(2j * np.pi * rng.random(seen.size))
        channels = slice(None) if item.channel < 0 else slice(item.channel, item.channel + 1)
        model[channels, seen[:, None], seen[None, :]] += np.conj(field)[:, None] * field[None, :]


def unit_noise(options: SimulationOptions, where: tuple[int, int, int], n_baseline: int) -> NDArray[np.complex64]:
    """Return noise of unit variance in real and imaginary part, (n_baseline, n_chan, 2), seeded by its place."""
    shape = (n_baseline, options.channels, 2 * N_POL)
    if not options.noise:
        return np.zeros(shape, np.float32).view(np.complex64)
    rng = np.random.default_rng([options.seed, 6, *where])
    return rng.standard_normal(shape, np.float32).view(np.complex64)


@compiled
def to_raw(
    model: NDArray[np.complex64],
    gains: NDArray[np.complex64],
    noise: NDArray[np.complex64],
    levels: tuple[float, float, float],
    alive: NDArray[np.bool_],
    out: NDArray[np.complex64],
) -> None:
    """Turn the visibilities of one integration into the products of the correlator.

    Parameters
    ----------
    model
        (n_chan, n_antenna, n_antenna), [c, p, q] = conj(E_p) E_q in Jy.
    gains
        (n_antenna, n_chan, 2).
    noise
        (n_baseline, n_chan, 2), real and imaginary part of unit variance.
    levels
        SEFD (Jy), σ of a cross product (Jy), σ of an autocorrelation as a fraction of its power.
    alive
        (n_antenna, 2); a dead antenna's products are zero.
    out
        (n_baseline, n_chan, 2), raw units, baselines (0,0) (0,1) (1,1) (0,2) ...
    """
    sefd, sigma, auto_fraction = levels
    n_ant, n_chan, n_pol = gains.shape
    for q in range(n_ant):
        for p in range(q + 1):
            row = q * (q + 1) // 2 + p
            for chan in range(n_chan):
                for pol in range(n_pol):
                    value = np.complex128(0.0)
                    if alive[p, pol] and alive[q, pol]:
                        if p == q:
                            power = sefd + model[chan, p, p].real
                            value = np.complex128(power * (1.0 + auto_fraction * noise[row, chan, pol].real))
                        else:
                            value = model[chan, p, q] + sigma * noise[row, chan, pol]
                    out[row, chan, pol] = np.conj(gains[p, chan, pol]) * gains[q, chan, pol] * value
