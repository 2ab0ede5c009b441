"""Light curves follow the measurements: normalized fluxes, statistics and candidates from the rows of all mosaics.

Everything is derived anew from `photometry`, so that the order in which mosaics arrive leaves no trace.
"""

import json
import time

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import Image, Photometry
from dsa110_contimg.database.repositories import CandidateRepository, PhotometryRepository
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import judge
from dsa110_contimg.photometry.epochs import normalize, reference_mask
from dsa110_contimg.photometry.lightcurves import LightCurveStats, clean_lightcurve, one_per_transit, summarize

ANCHOR_RADIUS_DEG = 1.0 / 60.0
FloatArray = NDArray[np.float64]
STATISTICS = (
    *("n_obs", "mean_flux_mjy", "std_flux_mjy", "min_flux_mjy", "max_flux_mjy", "chi2_nu", "sigma_deviation"),
    *("eta_metric", "v_metric", "last_mjd"),
)


def update_variability(session: Session, options: PhotometryOptions) -> tuple[int, int]:
    """Bring light curves, statistics and candidates up to date; return how many sources and new candidates."""
    rows = list(
        session.scalars(
            select(Photometry)
            .join(Image, Image.path == Photometry.image_path)
            .where(Image.type == "mosaic", Photometry.retracted_at.is_(None))
            .order_by(Photometry.source_id, Photometry.mjd, Photometry.image_path)
        )
    )
    chosen = _choose(session, rows)
    if not chosen:
        return 0, 0
    _normalize(chosen, options)
    by_source: dict[str, list[Photometry]] = {}
    for row in chosen:
        by_source.setdefault(row.source_id, []).append(row)
    statistics, candidates = [], []
    for source_id, points in by_source.items():
        mjd, flux, error = (_column(points, name) for name in ("mjd", "normalized_flux_jy", "normalized_flux_err_jy"))
        flags = np.array([row.flags or 0 for row in points])
        curve = clean_lightcurve(source_id, mjd, flux, error, flags)
        stats = summarize(curve.mjd, curve.flux_jy, curve.flux_err_jy, options)
        statistics.append(_statistics_row(points[-1], stats))
        candidate = judge(stats, curve, options)
        if candidate is not None:
            candidates.append(candidate)
    PhotometryRepository.store_statistics(session, statistics)
    new = [
        CandidateRepository.flag(
            session,
            source_id=candidate.source_id,
            significance=candidate.significance,
            flag_type=candidate.flag_type,
            now=time.time(),
            notes=json.dumps({"metric": candidate.metric, "mjd": candidate.mjd, "reason": candidate.reason}),
        )
        for candidate in candidates
    ]
    return len(statistics), sum(new)


def _choose(session: Session, rows: list[Photometry]) -> list[Photometry]:
    """Mark and return the one row per source and sidereal transit that feeds the statistics."""
    if not rows:
        return []
    session.execute(update(Photometry).values(in_lightcurve=0))
    with np.errstate(divide="ignore"):
        weight = 1.0 / _column(rows, "local_rms_jyb") ** 2
    picked = one_per_transit([row.source_id for row in rows], _column(rows, "mjd"), weight)
    for row, keep in zip(rows, picked, strict=True):
        row.in_lightcurve = int(keep)
    return [row for row, keep in zip(rows, picked, strict=True) if keep]


def _normalize(rows: list[Photometry], options: PhotometryOptions) -> None:
    """Bring every epoch onto the scale of its reference sources, the source itself left out."""
    sources = {name: index for index, name in enumerate(dict.fromkeys(row.source_id for row in rows))}
    epochs = {path: index for index, path in enumerate(dict.fromkeys(row.image_path for row in rows))}
    shape = (len(sources), len(epochs))
    flux, error, flags = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
    places = [(sources[row.source_id], epochs[row.image_path]) for row in rows]
    for place, row in zip(places, rows, strict=True):
        flux[place] = np.nan if row.flux_jy is None else row.flux_jy
        error[place] = np.nan if row.flux_err_jy is None else row.flux_err_jy
        flags[place] = row.flags or 0
    mask = reference_mask(flux, error, flags, _anchors(rows, sources))
    scaled, scaled_error, _factors = normalize(flux, error, mask, options)
    for place, row in zip(places, rows, strict=True):
        good = np.isfinite(scaled[place]) and np.isfinite(scaled_error[place])
        row.normalized_flux_jy = float(scaled[place]) if good else None
        row.normalized_flux_err_jy = float(scaled_error[place]) if good else None


def _anchors(rows: list[Photometry], sources: dict[str, int]) -> NDArray[np.bool_]:
    """Return the sources that are flux calibrators: they set the scale and cannot test it."""
    ra, dec = np.zeros(len(sources)), np.zeros(len(sources))
    for row in rows:
        ra[sources[row.source_id]], dec[sources[row.source_id]] = np.radians(row.ra_deg), np.radians(row.dec_deg)
    anchors = np.zeros(len(sources), bool)
    for position in POSITIONS.values():
        distance = separation(ra, dec, *np.radians(position))
        anchors |= distance < np.radians(ANCHOR_RADIUS_DEG)
    return anchors


def _column(rows: list[Photometry], name: str) -> FloatArray:
    return np.array([np.nan if (value := getattr(row, name)) is None else value for row in rows], float)


def _statistics_row(row: Photometry, stats: LightCurveStats) -> dict[str, str | float | int | None]:
    return {
        "source_id": row.source_id,
        "ra_deg": row.ra_deg,
        "dec_deg": row.dec_deg,
        "nvss_flux_mjy": row.nvss_flux_mjy,
        "last_measured_at": row.measured_at,
        "updated_at": time.time(),
        **{name: getattr(stats, name) for name in STATISTICS},
    }
