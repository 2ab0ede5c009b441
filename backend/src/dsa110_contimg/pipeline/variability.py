"""Light curves follow the measurements: normalized fluxes, statistics and candidates from the rows of all mosaics.

Everything is derived anew from `photometry`, so that the order in which mosaics arrive leaves no trace. All of it,
because an epoch's flux scale rests on all of its sources: one row less can change every light curve of its epoch.
What is retracted, or set aside for another version of its mosaic, does not count.
"""

import json
import time
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import ESECandidate, Image, Mosaic, Photometry, VariabilityStats
from dsa110_contimg.database.repositories import CandidateRepository, PhotometryRepository
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate, judge
from dsa110_contimg.photometry.epochs import normalize, reference_mask
from dsa110_contimg.photometry.lightcurves import LightCurveStats, clean_lightcurve, one_per_transit, summarize

ANCHOR_RADIUS_DEG = 1.0 / 60.0
FloatArray = NDArray[np.float64]
STATISTICS = (
    *("n_obs", "mean_flux_mjy", "std_flux_mjy", "min_flux_mjy", "max_flux_mjy", "chi2_nu", "sigma_deviation"),
    *("eta_metric", "v_metric", "last_mjd"),
)


LEFT_OUT = ("set_aside", "retracted")
"""Values of mosaics.status whose measurements feed no light curve."""


def update_variability(
    session: Session, options: PhotometryOptions, withdrawn: Mapping[str, str] | None = None
) -> tuple[int, int]:
    """Bring light curves, statistics and candidates up to date; return how many sources and new candidates.

    Parameters
    ----------
    withdrawn
        Mosaics that no longer count (path → why). Everything becomes what it were had they never been measured,
        except that a source without any measurement left keeps its row, with no observation and no value.
    """
    statistics, candidates = _derive(session, options)
    PhotometryRepository.store_statistics(session, statistics)
    if withdrawn:
        _withdraw(session, withdrawn, {str(row["source_id"]) for row in statistics}, candidates)
    new = [
        CandidateRepository.flag(
            session,
            source_id=candidate.source_id,
            significance=candidate.significance,
            flag_type=candidate.flag_type,
            now=time.time(),
            notes=_notes(candidate),
        )
        for candidate in candidates.values()
    ]
    return len(statistics), sum(new)


def _withdraw(
    session: Session, mosaics: Mapping[str, str], measured: Collection[str], candidates: Mapping[str, Candidate]
) -> None:
    """Empty the statistics that lost all their rows, and judge the active candidates on the mosaics' sources anew.

    What a person flagged or investigated stays as the person left it.
    """
    reasons: dict[str, str] = {}
    for path, why in mosaics.items():
        on_mosaic = session.scalars(select(Photometry.source_id).where(Photometry.image_path == path))
        reasons.update(dict.fromkeys(on_mosaic, why))
    for known in session.scalars(select(VariabilityStats).where(VariabilityStats.n_obs > 0)):
        if known.source_id in reasons and known.source_id not in measured:
            _empty(known)
    automatic = (ESECandidate.status == "active", ESECandidate.flagged_by == "auto")
    for flagged in session.scalars(select(ESECandidate).where(*automatic)):
        if flagged.source_id in reasons:
            _judge_again(flagged, candidates.get(flagged.source_id), reasons[flagged.source_id])
    session.flush()


def _empty(statistics: VariabilityStats) -> None:
    """Leave nothing in a row of statistics but the source it is about."""
    for name in (*STATISTICS, "last_measured_at"):
        setattr(statistics, name, None)
    statistics.n_obs, statistics.updated_at = 0, time.time()


def _judge_again(flagged: ESECandidate, candidate: Candidate | None, why: str) -> None:
    """Let what is left decide on a candidate."""
    if candidate is not None:
        flagged.significance, flagged.flag_type = candidate.significance, candidate.flag_type
        flagged.notes = _notes(candidate)
        return
    flagged.status, flagged.dismissed_at = "dismissed", time.time()
    flagged.notes = json.dumps(_told(flagged.notes) | {"dismissed": f"{why}; without it nothing varies"})


def _told(notes: str | None) -> dict[str, object]:
    """Return notes as a dictionary; a person may have written plain text instead."""
    try:
        told = json.loads(notes or "{}")
    except ValueError:
        told = notes
    return told if isinstance(told, dict) else {"notes": told}


def _notes(candidate: Candidate) -> str:
    return json.dumps({"metric": candidate.metric, "mjd": candidate.mjd, "reason": candidate.reason})


def _derive(
    session: Session, options: PhotometryOptions
) -> tuple[list[dict[str, str | float | int | None]], dict[str, Candidate]]:
    """Normalize the rows that count; return each source's statistics, and the candidates by source."""
    by_source: dict[str, list[Photometry]] = {}
    for row in _normalized_rows(session, options):
        by_source.setdefault(row.source_id, []).append(row)
    statistics, candidates = [], {}
    for source_id, points in by_source.items():
        mjd, flux, error = (_column(points, name) for name in ("mjd", "normalized_flux_jy", "normalized_flux_err_jy"))
        flags = np.array([row.flags or 0 for row in points])
        curve = clean_lightcurve(source_id, mjd, flux, error, flags)
        stats = summarize(curve.mjd, curve.flux_jy, curve.flux_err_jy, options)
        statistics.append(_statistics_row(points[-1], stats))
        candidate = judge(stats, curve, options)
        if candidate is not None:
            candidates[source_id] = candidate
    return statistics, candidates


def _normalized_rows(session: Session, options: PhotometryOptions) -> list[Photometry]:
    """Mark and return the rows that feed the statistics, by source and time, on the scale of their epochs."""
    left_out = select(Mosaic.path).where(Mosaic.status.in_(LEFT_OUT))
    rows = list(
        session.scalars(
            select(Photometry)
            .join(Image, Image.path == Photometry.image_path)
            .where(Image.type == "mosaic", Photometry.retracted_at.is_(None), Photometry.image_path.not_in(left_out))
            .order_by(Photometry.source_id, Photometry.mjd, Photometry.image_path)
        )
    )
    # A row that has since lost to another one of its transit would keep what tells of the order of arrival.
    session.execute(update(Photometry).values(in_lightcurve=0, normalized_flux_jy=None, normalized_flux_err_jy=None))
    chosen = _choose(rows)
    if chosen:
        _normalize(chosen, options)
    return chosen


def _choose(rows: list[Photometry]) -> list[Photometry]:
    """Mark and return the one row per source and sidereal transit that feeds the statistics."""
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
