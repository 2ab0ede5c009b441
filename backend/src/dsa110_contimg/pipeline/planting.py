"""Injection and recovery as part of every run: sources put into a copy of each mosaic, and followed to candidates.

The copy is measured like the mosaic and thrown away. Their fluxes know the noise, the neighbors and the background of
the image; of its scale they get the error that the correction of its epoch has. Tiles of a few places of the sky, the
same each day, get sources into their visibilities (`pipeline.planting_tiles`).
"""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.light_curve_rows import LEFT_OUT
from dsa110_contimg.database.models import EpochCorrection, InjectedFlux, InjectedSource, Mosaic
from dsa110_contimg.database.upserts import Value, upsert
from dsa110_contimg.kernels import match
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.photometry.candidates import Candidate
from dsa110_contimg.photometry.forced import Measurement, Missing
from dsa110_contimg.photometry.judgment import judge_together
from dsa110_contimg.photometry.lightcurves import LightCurve, clean_lightcurve, one_per_transit, summarize
from dsa110_contimg.photometry.new_sources import with_sources
from dsa110_contimg.pipeline.reference_sources import footprint
from dsa110_contimg.simulation.planted import PlantedSource, planted_sources
from dsa110_contimg.telescope import unit_vector
from dsa110_contimg.visibilities import SkyImage, SkyModel

FloatArray = NDArray[np.float64]

CLEAR_BEAMS = 2.0
LEAST_IN_EVENT = 3
SEED = 110


def plant(
    picture: SkyImage,
    noise: SkyImage,
    catalog: SkyModel,
    mjd_of: Callable[[FloatArray, FloatArray], FloatArray],
    options: PhotometryOptions,
) -> tuple[list[dict[str, Value]], list[dict[str, Value]]]:
    """Put sources into a copy of a mosaic and measure them; return rows of `injected_sources` and `injected_fluxes`.

    Parameters
    ----------
    picture, noise
        The mosaic, which is not changed, and its noise map.
    catalog
        What is really there: nothing is put within two beams of it.
    mjd_of
        When directions (ra_deg, dec_deg) transit in this mosaic (MJD).
    options
        `injected_per_sq_deg` says how many.
    """
    planted = clear_of(_candidates(picture, mjd_of, options), catalog, picture)
    if not planted:
        return [], []
    sky = sky_of(planted, np.zeros(len(planted)))
    times = mjd_of(sky.ra_deg, sky.dec_deg).tolist()
    truth = np.array([source.flux_at(mjd) for source, mjd in zip(planted, times, strict=True)])
    sky = sky_of(planted, truth)
    spiked = with_sources(picture, sky.ra_deg, sky.dec_deg, truth)
    rows = forced.measure(spiked, joined(catalog, sky), options, noise=noise)[len(catalog) :]
    return planted_rows(planted, times, truth, rows)


def planted_rows(
    planted: Sequence[PlantedSource], times: Sequence[float], truth: FloatArray, rows: Sequence[Measurement | Missing]
) -> tuple[list[dict[str, Value]], list[dict[str, Value]]]:
    """Return rows of `injected_sources` and of `injected_fluxes`: times (MJD), true fluxes (Jy), measurements."""
    sources: list[dict[str, Value]] = []
    fluxes: list[dict[str, Value]] = []
    for source, mjd, flux, row in zip(planted, times, truth, rows, strict=True):
        columns: dict[str, Value] = {name: value for name, value in vars(source).items() if name != "name"}
        columns["source_id"] = source.name
        sources.append(columns)
        measured = row if isinstance(row, Measurement) else None
        names = ("flux_jy", "flux_err_jy", "local_rms_jyb")
        values: dict[str, Value] = {name: getattr(measured, name, None) for name in names}
        flags = int(measured.flags) if measured is not None else None
        values |= {"source_id": source.name, "mjd": mjd, "true_flux_jy": float(flux), "flags": flags}
        fluxes.append(values)
    return sources, fluxes


def store_planted(session: Session, path: str, rows: tuple[list[dict[str, Value]], list[dict[str, Value]]]) -> None:
    """Record what was put into a mosaic, in place of what an earlier measurement of it put there."""
    sources, fluxes = rows
    session.execute(delete(InjectedFlux).where(InjectedFlux.image_path == path))
    upsert(session, InjectedSource, ["source_id"], sources)
    upsert(session, InjectedFlux, ["image_path", "source_id"], [{"image_path": path} | row for row in fluxes])


def follow_planted(session: Session, options: PhotometryOptions) -> int:
    """Judge the light curves of all injected sources like real ones; return how many there are."""
    left_out = select(Mosaic.path).where(Mosaic.status.in_(LEFT_OUT))
    query = select(InjectedFlux).where(InjectedFlux.image_path.not_in(left_out))
    rows = list(session.scalars(query.order_by(InjectedFlux.source_id, InjectedFlux.mjd, InjectedFlux.image_path)))
    weight = np.array([1.0 / row.local_rms_jyb**2 if row.local_rms_jyb else np.nan for row in rows])
    picked = one_per_transit([row.source_id for row in rows], np.array([row.mjd for row in rows]), weight)
    by_source: dict[str, list[InjectedFlux]] = {}
    for row, keep in zip(rows, picked, strict=True):
        if keep:
            by_source.setdefault(row.source_id, []).append(row)
    scales = _scale_errors(session)
    curves = [_curve(name, points, scales) for name, points in by_source.items()]
    sources = {source.source_id: source for source in session.scalars(select(InjectedSource))}
    stats = [summarize(curve.mjd, curve.flux_jy, curve.flux_err_jy, options) for curve in curves]
    known = [sources[name] for name in by_source]
    places = unit_vector([s.ra_deg for s in known], [s.dec_deg for s in known])
    candidates = judge_together(curves, stats, places, options) if curves else {}
    for source in sources.values():
        source.n_obs, source.n_event, source.found_as, source.significance, source.found_mjd = 0, 0, None, None, None
    for curve in curves:
        _tell(sources[curve.source_id], curve, candidates.get(curve.source_id))
    session.flush()
    return len(curves)


def planted_recovery(session: Session, options: PhotometryOptions) -> dict[str, tuple[int, int]]:
    """Return, by kind and place, how many injected sources could have been judged, and how many became candidates.

    Of events those count of which three epochs were seen, and as found if the candidate is about the event.
    """
    result: dict[str, tuple[int, int]] = {}
    for source in session.scalars(select(InjectedSource).where(InjectedSource.n_obs >= options.min_epochs)):
        event = source.kind != "constant"
        if event and (source.n_event or 0) < LEAST_IN_EVENT:
            continue
        about = source.found_mjd is not None and abs(source.found_mjd - source.middle_mjd) < source.days
        found = source.found_as is not None and (about or not event)
        kind = source.kind if source.put_into == "mosaic" else f"{source.kind} (in {source.put_into})"
        seen, known = result.get(kind, (0, 0))
        result[kind] = (seen + 1, known + int(found))
    return result


def _tell(source: InjectedSource, curve: LightCurve, candidate: Candidate | None) -> None:
    source.n_obs = len(curve)
    source.n_event = int(np.sum(np.abs(curve.mjd - source.middle_mjd) < 0.5 * source.days))
    if candidate is not None:
        source.found_as, source.significance = candidate.flag_type, candidate.significance
        source.found_mjd = candidate.mjd


def _scale_errors(session: Session) -> dict[str, float]:
    """Return the fractional error of each image's flux scale, which its real sources have in their errors."""
    columns = (EpochCorrection.image_path, EpochCorrection.factor, EpochCorrection.factor_err)
    return {path: error / factor for path, factor, error in session.execute(select(*columns)) if factor and error}


def _curve(name: str, points: Sequence[InjectedFlux], scales: Mapping[str, float]) -> LightCurve:
    names = ("mjd", "flux_jy", "flux_err_jy")
    mjd, flux, error = (np.array([getattr(row, n) for row in points], np.float64) for n in names)
    scale = np.array([scales.get(row.image_path, 0.0) for row in points], np.float64)
    # The scale was not wrong where they were put in: it is now, by as much as it may be for real sources.
    own = [np.random.default_rng([SEED, zlib.crc32(row.image_path.encode())]).normal() for row in points]
    flux, error = flux * (1.0 + scale * np.array(own)), np.hypot(error, scale * flux)
    return clean_lightcurve(name, mjd, flux, error, np.array([row.flags or 0 for row in points]))


def _candidates(
    picture: SkyImage, mjd_of: Callable[[FloatArray, FloatArray], FloatArray], options: PhotometryOptions
) -> list[PlantedSource]:
    radius = 0.75 * picture.cell_deg * float(max(picture.data.shape))
    middle = picture.middle
    per_sq_deg = options.injected_per_sq_deg
    mjd = float(mjd_of(np.array([middle.ra_deg]), np.array([middle.dec_deg]))[0])
    found = planted_sources(middle, min(radius, 179.0), mjd, per_sq_deg, SEED) if per_sq_deg > 0.0 else []
    inside = footprint(picture, sky_of(found, np.zeros(len(found))))
    return [source for source, there in zip(found, inside, strict=True) if there]


def clear_of(planted: Sequence[PlantedSource], catalog: SkyModel, picture: SkyImage) -> list[PlantedSource]:
    """Return the sources that are farther than two beams from what is really there."""
    if not planted or not len(catalog) or picture.beam is None:
        return list(planted)
    own = np.radians([[s.ra_deg for s in planted], [s.dec_deg for s in planted]])
    _index, apart = match.nearest(own[0], own[1], np.radians(catalog.ra_deg), np.radians(catalog.dec_deg))
    least = np.radians(CLEAR_BEAMS * picture.beam.major_arcsec / 3600.0)
    return [source for source, distance in zip(planted, apart, strict=True) if distance > least]


def sky_of(planted: Sequence[PlantedSource], flux_jy: FloatArray) -> SkyModel:
    """Return sources with fluxes as a sky."""
    ra, dec = np.array([s.ra_deg for s in planted], float), np.array([s.dec_deg for s in planted], float)
    return SkyModel([s.name for s in planted], ra, dec, flux_jy, np.zeros((len(planted), 1)))


def joined(catalog: SkyModel, more: SkyModel) -> SkyModel:
    """Return the positions and fluxes of two skies, spectra left out."""
    ra, dec, flux = (np.concatenate([getattr(s, n) for s in (catalog, more)]) for n in ("ra_deg", "dec_deg", "flux_jy"))
    return SkyModel([*catalog.names, *more.names], ra, dec, flux, np.zeros((ra.size, 1)))
