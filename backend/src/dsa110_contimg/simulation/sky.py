r"""The sky of a strip: point sources with spectra, from a catalogue or from source counts.

    log10 S(f) = log10 S0 + Σ_k c_k log10(f/f0)^(k+1)

Perley-Butler calibrators that lie in the strip replace what the catalogue says within an arcminute of them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model
from dsa110_contimg.naming import source_name
from dsa110_contimg.simulation.catalogs import load_catalog
from dsa110_contimg.simulation.counts import draw_fluxes
from dsa110_contimg.simulation.geometry import separation_deg
from dsa110_contimg.simulation.options import SimulationOptions

REFERENCE_HZ = 1.4e9
N_TERMS = 5
REPLACE_ARCMIN = 1.0
EVENT_FLUX_JY = (0.2, 1.0)
EVENT_OFFSET_DEG = 0.5
ISOLATION_ARCMIN = 6.0
PLANTED_JY = 0.5


@dataclass(frozen=True)
class Sky:
    """Point sources; arrays have one entry per source."""

    names: tuple[str, ...]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    """At `ref_hz`."""
    spectrum: NDArray[np.float64]
    """(n_source, 5)."""
    ref_hz: NDArray[np.float64]
    survey_jy: NDArray[np.float64]
    """What a survey at 1.4 GHz would find, before its errors."""

    def __len__(self) -> int:
        return len(self.names)

    def flux_at(self, freq_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return fluxes in Jy, shape (n_source, n_freq)."""
        ratio = np.log10(freq_hz[None, :] / self.ref_hz[:, None])
        exponent = sum(self.spectrum[:, k, None] * ratio ** (k + 1) for k in range(N_TERMS))
        return np.asarray(self.flux_jy[:, None] * 10.0**exponent)

    def select(self, index: NDArray[np.int64]) -> "Sky":
        """Return the sources of an index array."""
        columns = (self.ra_deg, self.dec_deg, self.flux_jy, self.spectrum, self.ref_hz, self.survey_jy)
        return Sky(tuple(self.names[i] for i in index), *(column[index] for column in columns))

    def joined(self, other: "Sky") -> "Sky":
        """Return both skies as one."""
        return Sky(
            self.names + other.names,
            *(
                np.concatenate([getattr(self, key), getattr(other, key)])
                for key in ("ra_deg", "dec_deg", "flux_jy", "spectrum", "ref_hz", "survey_jy")
            ),
        )

    def index_of(self, name: str) -> int:
        """Return the index of a source given by name or by index.

        Raises
        ------
        ConfigurationError
            If the sky has no such source.
        """
        if name in self.names:
            return self.names.index(name)
        if name.isdigit() and int(name) < len(self):
            return int(name)
        raise ConfigurationError(
            f"the sky has no source {name}: give a name from the sky file, an index below {len(self)}, or auto"
        )


def power_law_sky(
    names: tuple[str, ...],
    ra_deg: NDArray[np.float64],
    dec_deg: NDArray[np.float64],
    flux_jy: NDArray[np.float64],
    alpha: NDArray[np.float64],
) -> Sky:
    """Return sources with power-law spectra about 1.4 GHz."""
    spectrum = np.zeros((len(names), N_TERMS))
    spectrum[:, 0] = alpha
    return Sky(names, ra_deg, dec_deg, flux_jy, spectrum, np.full(len(names), REFERENCE_HZ), flux_jy)


def make_sky(options: SimulationOptions, pointing_ra: NDArray[np.float64], pointing_dec: NDArray[np.float64]) -> Sky:
    """Return the sky around a track of pointings (ICRS, degrees): catalogue or counts, then calibrators."""
    if options.sky == "counts":
        sky = _drawn(options, pointing_ra, pointing_dec)
    else:
        sky = _from_file(options, pointing_ra, pointing_dec)
    return _with_calibrators(sky, options.sky_radius, pointing_ra, pointing_dec) if options.calibrators else sky


def distance_to_track(
    ra_deg: NDArray[np.float64],
    dec_deg: NDArray[np.float64],
    pointing_ra: NDArray[np.float64],
    pointing_dec: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the distance in degrees of each position to the nearest pointing."""
    places = zip(pointing_ra, pointing_dec, strict=True)
    return np.asarray(np.min([separation_deg(ra_deg, dec_deg, *place) for place in places], axis=0))


def _drawn(options: SimulationOptions, pointing_ra: NDArray[np.float64], pointing_dec: NDArray[np.float64]) -> Sky:
    """Draw sources over the box of sky around the track, and keep those within the radius."""
    rng = np.random.default_rng([options.seed, 4])
    low = max(pointing_dec.min() - options.sky_radius, -90.0)
    high = min(pointing_dec.max() + options.sky_radius, 90.0)
    nearest_pole = max(abs(low), abs(high))
    reach = np.radians(options.sky_radius) / max(np.cos(np.radians(nearest_pole)), 1e-3)
    offset = np.radians((pointing_ra - pointing_ra[0] + 180.0) % 360.0 - 180.0)
    span = min(float(np.ptp(offset) + 2.0 * reach), 2.0 * np.pi)
    sin_low, sin_high = np.sin(np.radians([low, high]))
    flux = draw_fluxes(span * (sin_high - sin_low), options.min_flux_jy, rng)
    ra = (pointing_ra[0] + np.degrees(offset.min() - reach + span * rng.random(flux.size))) % 360.0
    dec = np.degrees(np.arcsin(rng.uniform(sin_low, sin_high, flux.size)))
    alpha = options.alpha_mean + options.alpha_scatter * rng.standard_normal(flux.size)
    near = np.flatnonzero(distance_to_track(ra, dec, pointing_ra, pointing_dec) < options.sky_radius)
    names = _unique([source_name(ra[i], dec[i], "SIM") for i in near])
    return power_law_sky(names, ra[near], dec[near], flux[near], alpha[near])


def _from_file(options: SimulationOptions, pointing_ra: NDArray[np.float64], pointing_dec: NDArray[np.float64]) -> Sky:
    catalog = load_catalog(Path(options.sky))
    near = distance_to_track(catalog.ra_deg, catalog.dec_deg, pointing_ra, pointing_dec) < options.sky_radius
    keep = np.flatnonzero(near & (catalog.flux_jy >= options.min_flux_jy))
    drawn = np.random.default_rng([options.seed, 5]).standard_normal(catalog.flux_jy.size)
    alpha = np.where(np.isfinite(catalog.alpha), catalog.alpha, options.alpha_mean + options.alpha_scatter * drawn)
    names = _unique([catalog.names[i] for i in keep])
    return power_law_sky(names, catalog.ra_deg[keep], catalog.dec_deg[keep], catalog.flux_jy[keep], alpha[keep])


def _unique(names: list[str]) -> tuple[str, ...]:
    """Give sources that share a truncated position different names."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}{chr(ord('a') + seen[name] - 1)}")
    return tuple(unique)


def _with_calibrators(
    sky: Sky, radius_deg: float, pointing_ra: NDArray[np.float64], pointing_dec: NDArray[np.float64]
) -> Sky:
    """Put flux calibrators where they belong; a replaced entry's flux stays what the survey lists."""
    for name, place in POSITIONS.items():
        here = np.array([place.ra_deg]), np.array([place.dec_deg])
        if distance_to_track(*here, pointing_ra, pointing_dec)[0] > radius_deg:
            continue
        model = calibrator_model(name)
        away = separation_deg(sky.ra_deg, sky.dec_deg, place.ra_deg, place.dec_deg) > REPLACE_ARCMIN / 60.0
        listed = sky.survey_jy[~away]
        spectrum = np.zeros((1, N_TERMS))
        spectrum[0, : model.spectrum.shape[1]] = model.spectrum[0]
        survey = np.array([listed.max()]) if listed.size else model.flux_at(np.array([REFERENCE_HZ]))[:, 0]
        one = Sky((name,), *here, model.flux_jy, spectrum, np.array([model.ref_freq_hz]), survey)
        sky = one.joined(sky.select(np.flatnonzero(away)))
    return sky


def place_event(sky: Sky, center: tuple[float, float], taken: tuple[str, ...], label: str) -> tuple[Sky, str, bool]:
    """Choose an isolated source of 0.2 to 1 Jy near the strip's center for an event or a control.

    Parameters
    ----------
    center
        ICRS (ra_deg, dec_deg) of the strip's center.
    taken
        Names that may not be chosen.
    label
        Name of a source planted where none fits.

    Returns
    -------
    tuple
        The sky, the source's name, and whether it had to be planted.
    """
    offset = separation_deg(sky.ra_deg, sky.dec_deg, *center)
    low, high = EVENT_FLUX_JY
    for index in np.argsort(offset):
        if offset[index] > EVENT_OFFSET_DEG:
            break
        fits = low <= sky.flux_jy[index] <= high and sky.names[index] not in (*taken, *POSITIONS)
        if fits and _is_isolated(sky, sky.ra_deg[index], sky.dec_deg[index], 0.05 * sky.flux_jy[index]):
            return sky, sky.names[index], False
    ra, dec = _empty_place(sky, center)
    one = power_law_sky((label,), np.array([ra]), np.array([dec]), np.array([PLANTED_JY]), np.array([-0.7]))
    return sky.joined(one), label, True


def _is_isolated(sky: Sky, ra_deg: float, dec_deg: float, limit_jy: float) -> bool:
    """Say whether no neighbour above a limit is near, and none a hundred times that within twice the distance."""
    distance = separation_deg(sky.ra_deg, sky.dec_deg, ra_deg, dec_deg) * 60.0
    others = np.where(distance > 0.01, sky.flux_jy, 0.0)
    near, wide = distance < ISOLATION_ARCMIN, distance < 2.0 * ISOLATION_ARCMIN
    return not np.any(near & (others > limit_jy)) and not np.any(wide & (others > 100.0 * limit_jy))


def _empty_place(sky: Sky, center: tuple[float, float]) -> tuple[float, float]:
    """Return the emptiest of sixteen places a third of a degree from the center."""
    places = []
    for angle in 2.0 * np.pi * np.arange(16) / 16.0:
        dec = center[1] + 0.33 * np.cos(angle)
        ra = (center[0] + 0.33 * np.sin(angle) / np.cos(np.radians(dec))) % 360.0
        near = separation_deg(sky.ra_deg, sky.dec_deg, ra, dec) * 60.0 < ISOLATION_ARCMIN
        places.append((float(sky.flux_jy[near].sum()), float(ra), float(dec)))
    _, ra, dec = min(places)
    return ra, dec


def scaled(sky: Sky, factors: NDArray[np.float64]) -> Sky:
    """Return the sky with each source's flux times its factor."""
    return replace(sky, flux_jy=sky.flux_jy * factors)
