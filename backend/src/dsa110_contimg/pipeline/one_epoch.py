"""The measurements of a mosaic come, change or go: light curves and statistics follow, whatever lies behind them.

The scale of the epoch rests on the levels that its sources have so far (`light_curve_moments`), and what feeds the
statistics is the difference: points that left the light curves are taken away from the sums, new ones are added. So it
does not matter whether an epoch comes again, late, or is taken back. Earlier epochs keep their scale. Light curves are
read for those sources alone whose order statistics are due (`kernels.moments`).
"""

import time
import zlib
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import in_parts, upsert_columns, without_collection
from dsa110_contimg.database.light_curve_rows import (
    MeasuredRows,
    load_moments,
    moments_on,
    rows_around,
    rows_on,
    store_moments,
    store_points,
    stored_curves,
)
from dsa110_contimg.database.models import EpochCorrection as EpochCorrectionRow
from dsa110_contimg.database.models import VariabilityStats
from dsa110_contimg.database.upserts import Value, upsert
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.kernels import moments as kernel
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate
from dsa110_contimg.photometry.epochs import (
    MIN_REFERENCES,
    NO_REFERENCE,
    REFERENCE_SNR,
    VARIABLE_CHI2,
    EpochCorrection,
    epoch_correction,
    epoch_scale,
)
from dsa110_contimg.photometry.judgment import judge_together
from dsa110_contimg.photometry.lightcurves import (
    UNUSABLE,
    LightCurve,
    one_per_transit,
    statistics_columns,
    statistics_of,
)
from dsa110_contimg.telescope import unit_vector

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ANCHOR_RADIUS_DEG = 1.0 / 60.0
STATISTICS = (
    *("n_obs", "mean_flux_mjy", "std_flux_mjy", "min_flux_mjy", "max_flux_mjy", "chi2_nu", "sigma_deviation"),
    *("eta_metric", "v_metric", "last_mjd"),
)
PATIENCE = (0.125, 0.375)
"""By which fraction a light curve grows before its order statistics are due, from one source to the next."""


def update_epochs(
    session: Session, options: PhotometryOptions, mosaics: Collection[str]
) -> tuple[list[str], list[str]]:
    """Let light curves and statistics follow the rows of some mosaics.

    Returns
    -------
    tuple
        The sources on the mosaics, and those of them that have a light curve.
    """
    with without_collection():
        return _update_epochs(session, options, mosaics)


def _update_epochs(
    session: Session, options: PhotometryOptions, mosaics: Collection[str]
) -> tuple[list[str], list[str]]:
    rows = rows_around(session, mosaics)
    sources, source = rows.by_source()
    moments, unknown = _known_moments(session, sources, mosaics, options)
    chosen = choose(rows)
    before = rows.in_lightcurve == 1
    anew = chosen & (np.isin(rows.image_path, list(mosaics)) | ~before)
    flux, error = rows.normalized_flux_jy.copy(), rows.normalized_flux_err_jy.copy()
    levels = dict(zip(sources, _levels(moments), strict=True))
    ids = _scale(session, rows, anew, (flux, error), levels, options)
    _count(moments, source, rows, (before, chosen, anew), (flux, error), options)
    touched = anew | (before & ~chosen)
    picked = rows.select(touched)
    corrections = [ids.get(path) for path in picked.image_path]
    store_points(session, picked, chosen[touched], (flux[touched], error[touched]), corrections)
    _settle(session, sources, moments, unknown, options)
    store_moments(session, sources, kernel.COLUMNS, moments)
    _store_statistics(session, rows, source, moments)
    return sources, [name for name, n in zip(sources, moments[:, kernel.N], strict=True) if n > 0.0]


def choose(rows: MeasuredRows) -> BoolArray:
    """Return the one row per source and sidereal transit that feeds the statistics, of those that count."""
    chosen, counting = np.zeros(len(rows), np.bool_), np.flatnonzero(rows.counts)
    with np.errstate(divide="ignore"):
        weight = 1.0 / rows.local_rms_jyb[counting] ** 2
    chosen[counting] = one_per_transit(rows.by_source()[1][counting], rows.mjd[counting], weight)
    return chosen


def anchors(places: FloatArray) -> BoolArray:
    """Return which unit vectors (n_source, 3) are flux calibrators: they set the scale and cannot test it."""
    known = unit_vector(*np.array(list(POSITIONS.values())).T)
    return np.asarray((places @ known.T).max(axis=1) > np.cos(np.radians(ANCHOR_RADIUS_DEG)))


def correction_row(path: str, mjd: float | None, found: EpochCorrection | None) -> dict[str, Value]:
    """Return the row of an epoch's scale; measured fluxes stay as they are, so that it can be taken back."""
    return {
        "image_path": path,
        "mjd": mjd,
        "factor": None if found is None else found.factor,
        "factor_err": None if found is None else found.error,
        "n_references": None if found is None else found.n,
        "reason": "fewer than five reference sources" if found is None else None,
        "computed_at": time.time(),
    }


def _known_moments(
    session: Session, sources: list[str], mosaics: Collection[str], options: PhotometryOptions
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the moments of sources, (n_source, n_column), and which were not stored: those come from their rows."""
    moments, stored = kernel.empty(len(sources)), moments_on(session, mosaics, kernel.COLUMNS)
    unknown = np.array([name not in stored for name in sources], np.bool_)
    if stored:
        moments[~unknown] = np.array([stored[name] for name in sources if name in stored], np.float64)
    fresh = [name for name in sources if name not in stored]
    moments[unknown] = _from_rows(session, fresh, options)
    store_moments(session, fresh, kernel.COLUMNS, moments[unknown])
    return moments, unknown


def _from_rows(session: Session, sources: list[str], options: PhotometryOptions) -> FloatArray:
    curves = stored_curves(session, sources, int(UNUSABLE))
    points = (curves.offsets, curves.mjd, curves.flux_jy, curves.flux_err_jy)
    return np.asarray(kernel.settle(*points, options.systematic, options.baseline_window_days))


def _settle(
    session: Session, sources: list[str], moments: FloatArray, unknown: BoolArray, options: PhotometryOptions
) -> None:
    """Read the light curves whose order statistics are due, or which had no moments; in place."""
    turn = np.array([zlib.crc32(name.encode()) % 1024 for name in sources]) / 1024.0
    patience = PATIENCE[0] + (PATIENCE[1] - PATIENCE[0]) * turn
    due = np.flatnonzero(unknown | kernel.due(moments, patience, options.systematic))
    moments[due] = _from_rows(session, [sources[index] for index in due], options)


def _count(
    moments: FloatArray,
    source: NDArray[np.int64],
    rows: MeasuredRows,
    marks: tuple[BoolArray, BoolArray, BoolArray],
    values: tuple[FloatArray, FloatArray],
    options: PhotometryOptions,
) -> None:
    """Take away the points that leave the light curves or change, and add those that come; in place.

    Parameters
    ----------
    marks
        Rows that were in the light curves, that are, and those of the latter whose flux is new.
    values
        Normalized fluxes and errors as they are now.
    """
    before, chosen, anew = marks
    for sign, which, flux, error in (
        (-1, before & (~chosen | anew), rows.normalized_flux_jy, rows.normalized_flux_err_jy),
        (1, anew, *values),
    ):
        with np.errstate(invalid="ignore"):
            good = which & np.isfinite(flux) & (error > 0.0) & np.isfinite(rows.mjd)
        good &= (rows.flags & int(UNUSABLE)) == 0
        points = (source[good], rows.mjd[good], flux[good], error[good])
        if sign < 0:
            kernel.take_points(moments, *points)
        else:
            kernel.add_points(moments, *points, options.systematic)


def _scale(
    session: Session,
    rows: MeasuredRows,
    anew: BoolArray,
    values: tuple[FloatArray, FloatArray],
    levels: dict[str, tuple[float, float]],
    options: PhotometryOptions,
) -> dict[str, int]:
    """Bring rows onto the scale of their epochs, in place of `values`; return the ids of the scales by image."""
    paths = np.unique(rows.image_path[anew]).tolist()
    corrections = []
    for path in paths:
        own = (rows.image_path == path) & rows.counts
        epoch, known = _whole_epoch(session, path, rows.select(own), levels, complete=bool(anew[own].all()))
        told = np.array([known.get(name, (np.nan, 0.0)) for name in epoch.source_id])
        places = unit_vector(epoch.ra_deg, epoch.dec_deg)
        doubtful = (epoch.flags & int(NO_REFERENCE)) != 0
        reference = np.where(doubtful | anchors(places), np.nan, told[:, 0])
        measured = (epoch.flux_jy, epoch.flux_err_jy)
        scaled = epoch_scale(*measured, reference, places, options.systematic, float(np.median(told[:, 1])))
        wanted = np.flatnonzero(own & anew)
        found = np.searchsorted(epoch.id, rows.id[wanted], sorter=np.argsort(epoch.id))
        found = np.argsort(epoch.id)[found]
        values[0][wanted], values[1][wanted] = scaled[0][found], scaled[1][found]
        correction = epoch_correction(*measured, reference, options.systematic)
        corrections.append(correction_row(path, float(epoch.mjd[0]), correction))
    upsert(session, EpochCorrectionRow, ["image_path"], corrections)
    stored = (EpochCorrectionRow.image_path, EpochCorrectionRow.id)
    return {
        path: number
        for part in in_parts(paths)
        for path, number in session.execute(select(*stored).where(stored[0].in_(part)))
    }


def _whole_epoch(
    session: Session, path: str, rows: MeasuredRows, levels: dict[str, tuple[float, float]], *, complete: bool
) -> tuple[MeasuredRows, dict[str, tuple[float, float]]]:
    """Return the rows of an image, of which only some may be at hand, and the levels of their sources.

    Single rows of an image come back when those that they had lost to are taken away.
    """
    if complete:
        return rows, levels
    whole = rows_on(session, [path])
    whole = whole.select(whole.counts)
    stored = load_moments(session, [name for name in whole.source_id if name not in levels], kernel.COLUMNS)
    held = np.array(list(stored.values()), np.float64).reshape(-1, kernel.N_COLUMNS)
    return whole, levels | dict(zip(stored, _levels(held), strict=True))


def _levels(moments: FloatArray) -> list[tuple[float, float]]:
    """Return of each source its flux as a reference (NaN: it is none: faint, variable, unknown) and its epochs."""
    n, level = moments[:, kernel.N], moments[:, kernel.LEVEL]
    with np.errstate(invalid="ignore", divide="ignore"):
        bright = level * np.sqrt(moments[:, kernel.W] / n) >= REFERENCE_SNR
    chi2 = kernel.reduced_spread(n, *(moments[:, column] for column in (kernel.V, kernel.VD, kernel.VDD)))
    steady = bright & ~(chi2 >= VARIABLE_CHI2)
    # Where nearly all seem to vary, it is not they that do.
    good = steady if steady.sum() > max(MIN_REFERENCES, 0.5 * bright.sum()) else bright
    return list(zip(np.where(good, level, np.nan).tolist(), n.tolist(), strict=True))


def statistics_rows(last: MeasuredRows, moments: FloatArray) -> list[dict[str, Value]]:
    """Return rows of `variability_stats`: of each source its last row and moments, (n_source,)."""
    columns = _statistics_columns(last, moments)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _statistics_columns(last: MeasuredRows, moments: FloatArray) -> dict[str, Sequence[Value]]:
    found = statistics_columns(moments)
    same: dict[str, Sequence[Value]] = {name: _cells(found[name]) for name in STATISTICS[1:]}
    return {
        "source_id": last.source_id.tolist(),
        "ra_deg": last.ra_deg.tolist(),
        "dec_deg": last.dec_deg.tolist(),
        "nvss_flux_mjy": _cells(last.nvss_flux_mjy),
        "last_measured_at": last.measured_at.tolist(),
        "updated_at": [time.time()] * len(last),
        "n_obs": moments[:, kernel.N].astype(int).tolist(),
    } | same


def _cells(values: FloatArray) -> list[Value]:
    """Return the values as a database keeps them; None for NaN."""
    cells: list[Value] = values.tolist()
    return cells if np.isfinite(values).all() else [value if value == value else None for value in cells]


def _store_statistics(session: Session, rows: MeasuredRows, source: NDArray[np.int64], moments: FloatArray) -> None:
    """Record the statistics of the sources of some rows; those without a point keep a row without a value."""
    last = np.zeros(len(moments), np.int64)
    last[source] = np.arange(len(rows))
    held = np.flatnonzero(moments[:, kernel.N] > 0.0)
    columns = _statistics_columns(rows.select(last[held]), moments[held])
    upsert_columns(session, VariabilityStats, ["source_id"], columns)


def judge_sources(session: Session, options: PhotometryOptions, sources: Sequence[str]) -> dict[str, Candidate]:
    """Return the candidates among sources, which are each other's neighbors, from their whole light curves."""
    names = list(sources)
    stored = load_moments(session, names, kernel.COLUMNS)
    where = (VariabilityStats.source_id, VariabilityStats.ra_deg, VariabilityStats.dec_deg)
    places = {
        name: (ra, dec)
        for part in in_parts(names)
        for name, ra, dec in session.execute(select(*where).where(where[0].in_(part)))
    }
    curves = stored_curves(session, names, int(UNUSABLE))
    lightcurves = [LightCurve(name, *curves.curve(index)) for index, name in enumerate(names)]
    stats = statistics_of(np.array([stored[name] for name in names], np.float64).reshape(-1, kernel.N_COLUMNS))
    ra_dec = np.array([places[name] for name in names], np.float64).reshape(-1, 2)
    return judge_together(lightcurves, stats, unit_vector(*ra_dec.T), options)
