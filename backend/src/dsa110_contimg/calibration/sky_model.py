r"""The sky that a tile is calibrated against.

Catalogue sources near the pointings, with every flux calibrator in the field standing in for its own catalogue
entries: its flux follows the Perley-Butler polynomial, which sets the scale. A polynomial in L = log10(f / GHz)
becomes one in log10(f / f0) by a shift of its argument, so that all sources share the catalogue's f0.

A calibrator transits when its hour angle is zero at the tee's longitude; near transit the hour angle grows by
360.9856° a day, so one Newton step from mid-tile and one correction reach it to the microsecond.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from dsa110_contimg.errors import CalibrationError
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import MID_BAND_HZ, TEE_LONGITUDE_RAD, icrs_to_itrs, spherical
from dsa110_contimg.visibilities import SkyModel, Visibilities, apparent_spectrum, beam_response

TURN_DEG_PER_DAY = 360.98564736629
REPLACE_DEG = 1.0 / 60.0
NEGLIGIBLE = 1e-3


class Transit(NamedTuple):
    """A flux calibrator that crosses the meridian during a tile."""

    name: str
    mjd: float
    apparent_jy: float
    """At mid-band, after the primary beam, averaged over the tile."""


def field_model(vis: Visibilities, catalog: SkyModel, options: CalibrationOptions) -> SkyModel:
    """Return the sources that the tile's visibilities hold, but for those that together hardly show in them.

    Parameters
    ----------
    vis
        Gives the pointings (the phase center where there are none).
    catalog
        Catalogue sources; may be empty.
    options
        Radius and flux limit.

    Raises
    ------
    CalibrationError
        If nothing is left: there is no sky to calibrate against.
    """
    near = _distance_deg(vis, catalog.ra_deg, catalog.dec_deg) <= options.model_radius_deg
    sky = catalog.select(near & (catalog.flux_jy >= options.model_min_flux_jy))
    for name in POSITIONS:
        calibrator = calibrator_model(name)
        if _distance_deg(vis, calibrator.ra_deg, calibrator.dec_deg)[0] <= options.model_radius_deg:
            sky = _replace(sky, referred(calibrator, catalog.ref_freq_hz))
    if not len(sky):
        raise CalibrationError(
            f"no source of {options.model_min_flux_jy} Jy within {options.model_radius_deg} deg of "
            f"{vis.field_name or 'the tile'}: import a catalogue, or lower model_min_flux_jy"
        )
    return _worth_predicting(vis, sky)


def _worth_predicting(vis: Visibilities, sky: SkyModel) -> SkyModel:
    """Leave out the sources faintest behind the beam whose joint flux, in quadrature, is NEGLIGIBLE of the whole."""
    flux_jy = apparent_spectrum(vis, sky).max(axis=1)
    faint_first = np.argsort(flux_jy, kind="stable")
    joint = np.sqrt(np.cumsum(flux_jy[faint_first] ** 2))
    kept = faint_first[joint > NEGLIGIBLE * flux_jy.sum()]
    return sky.select(np.sort(kept))


def transiting_calibrator(
    vis: Visibilities, options: CalibrationOptions, names: Iterable[str] = tuple(POSITIONS)
) -> Transit | None:
    """Return the flux calibrator whose transit lies in the tile's time range [start, end), the brightest of several.

    None where no calibrator transits, or its apparent flux is below `options.min_calibrator_jy`.
    """
    start = float(vis.time_mjd.min()) - 0.5 * vis.integration_s / 86400.0
    end = float(vis.time_mjd.max()) + 0.5 * vis.integration_s / 86400.0
    found = []
    for name in names:
        mjd = transit_mjd(POSITIONS[name].ra_deg, POSITIONS[name].dec_deg, vis.mid_mjd)
        apparent = apparent_flux_jy(vis, name) if start <= mjd < end else 0.0
        if start <= mjd < end and apparent >= options.min_calibrator_jy:
            found.append(Transit(name, mjd, apparent))
    return max(found, key=lambda transit: transit.apparent_jy, default=None)


def transit_mjd(ra_deg: float, dec_deg: float, near_mjd: float) -> float:
    """Return the upper transit of an ICRS position that is nearest to a time (MJD, UTC)."""
    return float(transit_mjds(ra_deg, dec_deg, np.array([near_mjd]))[0])


def transit_mjds(ra_deg: float, dec_deg: float, near_mjd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper transits of an ICRS position that are nearest to times (MJD, UTC), of the same shape (n,)."""
    mjd = near_mjd.astype(float)
    for _ in range(3):
        longitude, _latitude = spherical(icrs_to_itrs(ra_deg, dec_deg, mjd)[:, 0])
        mjd += ((longitude - np.degrees(TEE_LONGITUDE_RAD) + 180.0) % 360.0 - 180.0) / TURN_DEG_PER_DAY
    return mjd


def apparent_flux_jy(vis: Visibilities, name: str) -> float:
    """Return a flux calibrator's mid-band flux through the tile's beam, averaged over its pointings."""
    calibrator = calibrator_model(name)
    beam = beam_response(vis, calibrator.ra_deg, calibrator.dec_deg)[:, 0, :]
    middle = int(np.abs(vis.freq_hz - np.clip(MID_BAND_HZ, vis.freq_hz[0], vis.freq_hz[-1])).argmin())
    return float(calibrator.flux_at(vis.freq_hz[middle : middle + 1])[0, 0] * beam[:, middle].mean())


def referred(sky: SkyModel, ref_freq_hz: float) -> SkyModel:
    """Return the same spectra, referred to another frequency."""
    shift = float(np.log10(ref_freq_hz / sky.ref_freq_hz))
    flux, spectrum = sky.flux_jy.copy(), np.zeros_like(sky.spectrum)
    for i in range(len(sky)):
        moved = Polynomial([0.0, *sky.spectrum[i]])(Polynomial([shift, 1.0]))
        flux[i] *= 10.0 ** moved.coef[0]
        spectrum[i, : moved.coef.size - 1] = moved.coef[1:]
    return replace(sky, flux_jy=flux, spectrum=spectrum, ref_freq_hz=ref_freq_hz)


def joined(one: SkyModel, other: SkyModel) -> SkyModel:
    """Return the sources of two models of the same reference frequency in one."""
    terms = max(one.spectrum.shape[1], other.spectrum.shape[1])
    padded = [np.pad(part.spectrum, ((0, 0), (0, terms - part.spectrum.shape[1]))) for part in (one, other)]
    return SkyModel(
        names=one.names + other.names,
        ra_deg=np.concatenate([one.ra_deg, other.ra_deg]),
        dec_deg=np.concatenate([one.dec_deg, other.dec_deg]),
        flux_jy=np.concatenate([one.flux_jy, other.flux_jy]),
        spectrum=np.concatenate(padded),
        ref_freq_hz=one.ref_freq_hz,
        gaussian=np.concatenate([one.gaussian, other.gaussian]),
    )


def _replace(sky: SkyModel, calibrator: SkyModel) -> SkyModel:
    """Return *sky* with a calibrator (of the same reference frequency) instead of the entries on top of it."""
    apart = np.degrees(
        separation(
            np.radians(sky.ra_deg), np.radians(sky.dec_deg), *np.radians([calibrator.ra_deg[0], calibrator.dec_deg[0]])
        )
    )
    rest = sky.select(apart > REPLACE_DEG)
    return joined(calibrator, rest)


def _distance_deg(vis: Visibilities, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each position from the nearest pointing, (n_source,)."""
    centers = vis.pointing_icrs_deg if vis.pointing_mjd.size else np.array([vis.phase_center])
    ra0, dec0 = np.radians(centers).T
    apart = separation(ra0[:, None], dec0[:, None], np.radians(ra_deg)[None, :], np.radians(dec_deg)[None, :])
    return np.asarray(np.degrees(apart).min(axis=0))
