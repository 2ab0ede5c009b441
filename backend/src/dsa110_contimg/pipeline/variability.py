"""Light curves follow the measurements: normalized fluxes, statistics and candidates from the rows of mosaics.

While there are few measurements everything is derived anew from all of them, so that the order in which mosaics
arrive leaves no trace: an epoch's flux scale rests on all of its sources, and theirs on all epochs. Later the scale of
an epoch rests on what is known of its sources then, and one epoch more or less is added to the statistics or taken
away from them (`pipeline.one_epoch`), whatever lies behind it. What is retracted, or set aside for another version of
its mosaic, does not count.
"""

import json
import time
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.candidate_repository import told
from dsa110_contimg.database.light_curve_rows import (
    MeasuredRows,
    all_rows,
    empty_statistics,
    forget_moments,
    has_many_points,
    store_moments,
    store_points,
)
from dsa110_contimg.database.models import ESECandidate, Photometry, VariabilityStats
from dsa110_contimg.database.repositories import CandidateRepository, PhotometryRepository
from dsa110_contimg.database.upserts import Value
from dsa110_contimg.kernels.moments import COLUMNS
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.photometry.candidates import Candidate
from dsa110_contimg.photometry.epochs import epoch_correction, normalize, reference_fluxes, reference_mask
from dsa110_contimg.photometry.judgment import judge_together
from dsa110_contimg.photometry.lightcurves import LightCurve, clean_lightcurve, settle, statistics_of
from dsa110_contimg.pipeline.candidate_context import in_context
from dsa110_contimg.pipeline.one_epoch import (
    STATISTICS,
    anchors,
    choose,
    correction_row,
    judge_sources,
    statistics_rows,
    update_epochs,
)
from dsa110_contimg.telescope import unit_vector

FloatArray = NDArray[np.float64]
FEW_POINTS = 50_000
"""Up to as many measurements in light curves, everything is derived anew with each mosaic."""


def update_variability(
    session: Session,
    options: PhotometryOptions,
    withdrawn: Mapping[str, str] | None = None,
    mosaics: Collection[str] | None = None,
) -> tuple[int, int]:
    """Bring light curves, statistics and candidates up to date; return how many sources and new candidates.

    Parameters
    ----------
    withdrawn
        Mosaics that no longer count (path → why). Everything becomes what it were had they never been measured,
        except that a source without any measurement left keeps its row, with no observation and no value.
    mosaics
        Paths of those whose measurements came, changed or went. None: everything is derived anew.
    """
    if mosaics is not None and has_many_points(session, FEW_POINTS):
        session.flush()
        sources, measured = update_epochs(session, options, mosaics)
        candidates = judge_sources(session, options, measured)
    else:
        statistics, candidates, corrections = _derive(session, options)
        PhotometryRepository.store_statistics(session, statistics)
        PhotometryRepository.store_corrections(session, corrections)
        sources = measured = [str(row["source_id"]) for row in statistics]
    candidates = in_context(session, candidates, options)
    if withdrawn:
        _withdraw(session, withdrawn, set(measured), candidates)
    return len(sources), _flag(session, candidates)


def _flag(session: Session, candidates: Mapping[str, Candidate]) -> int:
    """Record candidates; return how many are new."""
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
    return sum(new)


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
    known = (VariabilityStats.source_id, VariabilityStats.n_obs > 0)
    lost = [name for name in reasons if name not in measured]
    emptied = [
        name
        for part in in_parts(lost)
        for name in session.scalars(select(known[0]).where(known[0].in_(part), known[1]))
    ]
    empty_statistics(session, emptied, STATISTICS)
    automatic = (ESECandidate.status == "active", ESECandidate.flagged_by == "auto")
    for flagged in session.scalars(select(ESECandidate).where(*automatic)):
        if flagged.source_id in reasons:
            _judge_again(flagged, candidates.get(flagged.source_id), reasons[flagged.source_id])
    session.flush()


def _judge_again(flagged: ESECandidate, candidate: Candidate | None, why: str) -> None:
    """Let what is left decide on a candidate."""
    if candidate is not None:
        flagged.significance, flagged.flag_type = candidate.significance, candidate.flag_type
        flagged.notes, flagged.known_as = _notes(candidate), candidate.known_as
        return
    flagged.status, flagged.dismissed_at = "dismissed", time.time()
    flagged.notes = json.dumps(told(flagged.notes) | {"dismissed": f"{why}; without it nothing varies"})


def _notes(candidate: Candidate) -> str:
    known = {} if candidate.known_as is None else {"known_as": candidate.known_as}
    return json.dumps({"metric": candidate.metric, "mjd": candidate.mjd, "reason": candidate.reason} | known)


def _derive(
    session: Session, options: PhotometryOptions
) -> tuple[list[dict[str, Value]], dict[str, Candidate], list[dict[str, Value]]]:
    """Normalize all rows that count; return statistics, candidates by source, and the corrections of the epochs."""
    rows = all_rows(session)
    rows = rows.select(rows.counts)
    # A row that has since lost to another one of its transit would keep what tells of the order of arrival.
    nothing = {"in_lightcurve": 0, "normalized_flux_jy": None, "normalized_flux_err_jy": None}
    session.execute(update(Photometry).values(**nothing))
    forget_moments(session)
    rows = rows.select(choose(rows))
    if not len(rows):
        return [], {}, []
    flux, error, corrections = _normalize(rows, options)
    store_points(session, rows, np.ones(len(rows), np.bool_), (flux, error), [None] * len(rows))
    names, first = np.unique(rows.source_id, return_index=True)
    curves = _curves(names, first, rows, flux, error)
    moments = settle(curves, options)
    store_moments(session, names.tolist(), COLUMNS, moments)
    last = rows.select(np.append(first[1:], len(rows)) - 1)
    candidates = judge_together(curves, statistics_of(moments), unit_vector(last.ra_deg, last.dec_deg), options)
    return statistics_rows(last, moments), candidates, corrections


def _curves(
    names: NDArray[np.object_], first: NDArray[np.int64], rows: MeasuredRows, flux: FloatArray, error: FloatArray
) -> list[LightCurve]:
    ends = np.append(first[1:], len(rows))
    spans = [slice(begin, end) for begin, end in zip(first, ends, strict=True)]
    return [
        clean_lightcurve(str(name), rows.mjd[span], flux[span], error[span], rows.flags[span])
        for name, span in zip(names, spans, strict=True)
    ]


def _normalize(rows: MeasuredRows, options: PhotometryOptions) -> tuple[FloatArray, FloatArray, list[dict[str, Value]]]:
    """Bring every epoch onto the scale of its reference sources, the source itself left out.

    Returns normalized fluxes and errors, (n_row,), NaN where there is none, and the scales of the epochs.
    """
    names, source = np.unique(rows.source_id, return_inverse=True)
    paths, epoch = np.unique(rows.image_path, return_inverse=True)
    shape = (names.size, paths.size)
    flux, error, flags = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.int64)
    flux[source, epoch], error[source, epoch], flags[source, epoch] = rows.flux_jy, rows.flux_err_jy, rows.flags
    ra, dec = np.zeros(names.size), np.zeros(names.size)
    ra[source], dec[source] = rows.ra_deg, rows.dec_deg
    places = unit_vector(ra, dec)
    mask = reference_mask(flux, error, flags, anchors(places))
    scaled, scaled_error, _factors = normalize(flux, error, mask, options, places)
    reference = np.where(mask, reference_fluxes(scaled), np.nan)
    times = dict(zip(rows.image_path, rows.mjd, strict=True))
    corrections = [
        correction_row(path, times[path], epoch_correction(flux[:, i], error[:, i], reference, options.systematic))
        for i, path in enumerate(paths)
    ]
    good = np.isfinite(scaled) & np.isfinite(scaled_error)
    scaled, scaled_error = np.where(good, scaled, np.nan), np.where(good, scaled_error, np.nan)
    return scaled[source, epoch], scaled_error[source, epoch], corrections
