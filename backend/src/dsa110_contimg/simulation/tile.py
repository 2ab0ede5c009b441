"""One tile computed: the sky carried to the Earth once, then visibilities subband by subband."""

from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.simulation import array, geometry
from dsa110_contimg.simulation.corrupt import (
    EpochGains,
    Interference,
    add_interference,
    noise_sigma_jy,
    to_raw,
    unit_noise,
)
from dsa110_contimg.simulation.fringes import SPEED_OF_LIGHT, airy_beam, sampled_visibilities, smeared_visibilities
from dsa110_contimg.simulation.options import SimulationOptions
from dsa110_contimg.simulation.plan import Tile
from dsa110_contimg.simulation.sky import Sky
from dsa110_contimg.simulation.uvh5_writer import DISH_DIAMETER_M, STEP_S, Layout


class TileVisibilities:
    """The sky of one tile, carried to the Earth once and evaluated subband by subband."""

    def __init__(self, options: SimulationOptions, layout: Layout, tile: Tile, sky: Sky) -> None:
        self.options, self.layout, self.tile = options, layout, tile
        center = geometry.meridian(options.declination)
        directions = geometry.source_directions(sky.ra_deg, sky.dec_deg, tile.mid_times_mjd)
        theta = np.arctan2(np.linalg.norm(np.cross(directions, center), axis=-1), directions @ center)
        lowest = array.subband_frequencies(15, options.channels)[-1:]
        apparent = sky.flux_at(lowest)[:, 0] * airy_beam(theta, lowest[0], DISH_DIAMETER_M)
        keep = np.flatnonzero(
            (apparent.max(axis=0) >= options.min_apparent_jy) & (theta.min(axis=0) < np.radians(options.sky_radius))
        )
        self.sky, self.theta = sky.select(keep), theta[:, keep]
        offsets = directions[:, keep] - center
        places = array.station_positions()[np.array(layout.stations) - 1] - array.header_position()
        self.tau = np.einsum("ak,tsk->tas", places, offsets) / SPEED_OF_LIGHT
        turning = geometry.EARTH_TURN_RAD_S * np.stack(
            [offsets[..., 1], -offsets[..., 0], np.zeros(offsets.shape[:2])], axis=-1
        )
        self.tau_rate = np.einsum("ak,tsk->tas", places, turning) / SPEED_OF_LIGHT
        self.alive = np.ones((len(layout.stations), 2), bool)
        for index, station in enumerate(layout.stations):
            self.alive[index, :] &= station not in options.dead_stations
            self.alive[index, 1] &= station not in options.single_pol_stations

    @property
    def n_sources(self) -> int:
        """Sources bright enough behind the beam."""
        return len(self.sky)

    def model(self, subband: int, integration: int) -> NDArray[np.complex64]:
        """Return conj(E_p) E_q of one integration in Jy, shape (n_chan, n_antenna, n_antenna)."""
        freq = array.subband_frequencies(subband, self.options.channels)
        beam = airy_beam(self.theta[integration][None, :], freq[:, None], DISH_DIAMETER_M)
        amplitude = np.ascontiguousarray(self.sky.flux_at(freq).T * beam, np.float32)
        tau = np.ascontiguousarray(self.tau[integration])
        if not self.options.smear:
            return sampled_visibilities(tau, amplitude, freq)
        rate = np.ascontiguousarray(self.tau_rate[integration])
        width = array.channel_width(self.options.channels)
        return np.asarray(smeared_visibilities(tau, rate, amplitude, freq, width, STEP_S))

    def subband(
        self, subband: int, gains: EpochGains, interference: list[Interference], pool: Executor
    ) -> NDArray[np.complex64]:
        """Return the raw visibilities of a subband, shape (n_time, n_baseline, n_chan, 2); one task per integration."""
        options, layout = self.options, self.layout
        width = array.channel_width(options.channels)
        auto_fraction = 1.0 / float(np.sqrt(width * STEP_S)) if options.noise else 0.0
        levels = (options.sefd_jy, noise_sigma_jy(options, width, STEP_S), auto_fraction)
        gain = gains.at(array.subband_frequencies(subband, options.channels))
        out = np.empty((options.integrations, layout.n_baselines, options.channels, 2), np.complex64)

        def integrate(integration: int) -> None:
            model = self.model(subband, integration)
            where = (self.tile.number, subband, integration)
            add_interference(model, interference, layout.stations, where, options.seed)
            noise = unit_noise(options, where, layout.n_baselines)
            to_raw(model, gain, noise, levels, self.alive, out[integration])

        list(pool.map(integrate, range(options.integrations)))
        return out
