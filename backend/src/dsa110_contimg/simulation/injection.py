r"""Sources put into visibilities that exist already, real or simulated, so that their truth is known.

    V(t, f) += Σ_s S_s(f) P(θ_s(t), f) sinc(Δf τ) sinc(f τ' Δt) exp(2πi f τ),     τ = (r_1 − r_2)·(s(t) − s_p(t))/c

r are the antennas' positions on the Earth, s and the phase center s_p directions as seen from it (astropy), P an Airy
disk around the direction on which the dishes look. Neither the set's UVW nor anything else that imaging uses enters:
a set whose UVW are wrong shows its injected sources in wrong places, or not at all.

Fluxes follow N(>S) ∝ S^-1/2 from the faintest to the brightest, one from each equal share, so that every decade is
there; sources keep a distance from each other and from what is there already. A catalogue of them, for those who image
them, is as wrong as catalogues are: whoever is told the truth finds it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.simulation import geometry
from dsa110_contimg.simulation.fringes import SPEED_OF_LIGHT, airy_beam, sampled_visibilities, smeared_visibilities
from dsa110_contimg.visibilities import SkyModel, SkyPosition, Visibilities

SLOPE = 0.5
SPECTRAL_INDEX = -0.7
MOST_TRIES = 200
CHANNELS_AT_ONCE = 48
COMPLETE_JY, LISTED = 0.05, 0.8
"""A catalogue has all brighter sources, and this share of the fainter ones."""
FLUX_ERROR, PLACE_ERROR_ARCSEC, INDEX_ERROR = 0.05, 0.7, 0.2
"""Errors (rms) of what it says of them."""


def draw_fluxes(number: int, faintest_jy: float, brightest_jy: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return fluxes in random order, (number,), that span the whole range; see the head of this module."""
    share = (np.arange(number) + 0.5) / number
    # N(>S)/N = ((S^-a − b^-a)/(f^-a − b^-a)) runs from one at the faintest f to zero at the brightest b.
    low, high = brightest_jy**-SLOPE, faintest_jy**-SLOPE
    return np.asarray(rng.permutation((low + share * (high - low)) ** (-1.0 / SLOPE)))


def draw_sky(
    centers: list[SkyPosition],
    radius_deg: float,
    fluxes_jy: NDArray[np.float64],
    separation_deg: float,
    known: NDArray[np.float64],
    rng: np.random.Generator,
) -> SkyModel:
    """Place sources within a radius of any of some directions, apart from each other and from known sources.

    Parameters
    ----------
    centers
        Directions of the tiles.
    radius_deg
        How far out.
    fluxes_jy
        (n,), at 1.4 GHz.
    separation_deg
        Smallest distance between any two.
    known
        (n_known, 2), ICRS positions in degrees to keep clear of.
    rng
        Where randomness comes from.

    Raises
    ------
    ConfigurationError
        If so many sources do not fit.
    """
    taken = np.array(known, float).reshape(-1, 2)
    for flux in fluxes_jy:
        for _ in range(MOST_TRIES):
            place = _random_place(centers[rng.integers(len(centers))], radius_deg, rng)
            if not len(taken) or geometry.separation_deg(taken[:, 0], taken[:, 1], *place).min() >= separation_deg:
                break
        else:
            raise ConfigurationError(
                f"{fluxes_jy.size} sources do not fit {separation_deg * 60.0:.1f} arcmin apart: inject fewer "
                f"(the one of {1e3 * flux:.3g} mJy found no place)"
            )
        taken = np.append(taken, [place], axis=0)
    ra, dec = taken[len(known) :].T
    spectrum = np.full((fluxes_jy.size, 1), SPECTRAL_INDEX)
    return SkyModel([f"injected {i + 1}" for i in range(fluxes_jy.size)], ra, dec, fluxes_jy, spectrum)


def as_listed(sky: SkyModel, rng: np.random.Generator) -> SkyModel:
    """Return what a catalogue has of a sky: not all of it, with errors of flux, place and spectral index."""
    n = len(sky)
    east, north = rng.normal(0.0, PLACE_ERROR_ARCSEC / 3600.0, (2, n))
    listed = replace(
        sky,
        ra_deg=sky.ra_deg + east / np.cos(np.radians(sky.dec_deg)),
        dec_deg=sky.dec_deg + north,
        flux_jy=sky.flux_jy * np.exp(rng.normal(0.0, FLUX_ERROR, n)),
        spectrum=sky.spectrum + rng.normal(0.0, INDEX_ERROR, (n, 1)) * (np.arange(sky.spectrum.shape[1]) == 0),
    )
    return listed.select((sky.flux_jy > COMPLETE_JY) | (rng.random(n) < LISTED))


def _random_place(center: SkyPosition, radius_deg: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return a direction, evenly distributed over the disk around another."""
    away, turn = np.radians(radius_deg) * np.sqrt(rng.random()), 2.0 * np.pi * rng.random()
    ra0, dec0 = np.radians(center)
    dec = np.arcsin(np.sin(dec0) * np.cos(away) + np.cos(dec0) * np.sin(away) * np.cos(turn))
    east = np.sin(turn) * np.sin(away) * np.cos(dec0)
    ra = ra0 + np.arctan2(east, np.cos(away) - np.sin(dec0) * np.sin(dec))
    return float(np.degrees(ra) % 360.0), float(np.degrees(dec))


def inject(vis: Visibilities, sky: SkyModel, *, smear: bool = True) -> None:
    """Add sources to calibrated visibilities, in place.

    Parameters
    ----------
    vis
        Of this telescope, in Jy; flagged samples are left as they are.
    sky
        Points; Gaussians are put in as points.
    smear
        Average over channel and integration, as the correlator does, instead of sampling their centers.

    Raises
    ------
    BadInputError
        If the set has no pointings, or an antenna with data has no position.
    """
    if vis.pointing_mjd.size == 0:
        raise BadInputError(
            f"{vis.field_name or 'the set'} has no pointings: the beam that sources shine through is unknown"
        )
    used = np.unique([vis.antenna1, vis.antenna2])
    if not np.isfinite(vis.antenna_itrf_m[used]).all():
        raise BadInputError(f"{vis.field_name or 'the set'} has antennas without a position: nothing can be injected")
    places = np.nan_to_num(vis.antenna_itrf_m[used] - vis.antenna_itrf_m[used].mean(axis=0))
    first, second = np.searchsorted(used, vis.antenna1), np.searchsorted(used, vis.antenna2)
    times, of_row = np.unique(vis.time_mjd, return_inverse=True)
    for index, mjd in enumerate(times):
        rows = np.flatnonzero(of_row == index)
        delays, rates, theta, followed = _seen(vis, sky, places, float(mjd))
        for start in range(0, vis.freq_hz.size, CHANNELS_AT_ONCE):
            channels = slice(start, start + CHANNELS_AT_ONCE)
            freq = vis.freq_hz[channels]
            beam = airy_beam(theta[None, :], freq[:, None], vis.dish_diameter_m)
            amplitude = np.ascontiguousarray(sky.flux_at(freq).T * beam, np.float32)
            model = (
                smeared_visibilities(delays, rates, amplitude, freq, vis.channel_width_hz, vis.integration_s)
                if smear
                else sampled_visibilities(delays, amplitude, freq)
            )
            turned = np.exp(2j * np.pi * np.outer(freq, followed))
            model *= (turned[:, None, :] * turned[:, :, None].conj()).astype(np.complex64)
            part = model[:, second[rows], first[rows]].T
            vis.vis[rows, channels] += np.where(vis.flags[rows, channels], 0.0, part[:, :, None])


def _seen(
    vis: Visibilities, sky: SkyModel, places: NDArray[np.float64], mjd: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what the correlator sees, and what leads from there to the phase center.

    Delays (s) and their rates against the direction that the dishes look at, (n_antenna, n_source); distances from it
    (rad), (n_source,); delays of that direction against the phase center, (n_antenna,).
    """
    pointing = vis.pointing_icrs_deg[np.abs(vis.pointing_mjd - mjd).argmin()]
    ra = np.concatenate([sky.ra_deg, [vis.phase_center.ra_deg, pointing[0]]])
    dec = np.concatenate([sky.dec_deg, [vis.phase_center.dec_deg, pointing[1]]])
    seen = geometry.source_directions(ra, dec, np.array([mjd]))[0]
    sources, center, dishes = seen[:-2], seen[-2], seen[-1]
    theta = np.arctan2(np.linalg.norm(np.cross(sources, dishes), axis=1), sources @ dishes)
    turning = _turned(sources - dishes)
    return (
        np.ascontiguousarray(places @ (sources - dishes).T) / SPEED_OF_LIGHT,
        np.ascontiguousarray(places @ turning.T) / SPEED_OF_LIGHT,
        theta,
        places @ (dishes - center) / SPEED_OF_LIGHT,
    )


def _turned(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how fast offsets on the sky turn as seen from the Earth, per second, same shape."""
    east, north = offsets[:, 1], -offsets[:, 0]
    return geometry.EARTH_TURN_RAD_S * np.stack([east, north, np.zeros(len(offsets))], axis=1)
