"""New sources that were found blind; each position has one row that grows with every image that shows it."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.candidate_repository import with_entry
from dsa110_contimg.database.models import TransientCandidate
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.naming import source_name

NEW = "new_source"
HIGH_SIGMA = 10.0


class Sighting(NamedTuple):
    """A new source on one image."""

    ra_deg: float
    dec_deg: float
    flux_jy: float
    snr: float


def store_sightings(
    session: Session, image_path: str, mjd: float, found: Sequence[Sighting], radius_deg: float, now: float
) -> list[TransientCandidate]:
    """Record the new sources of an image; one that is known within a radius gains a detection.

    An image that is searched again replaces what it had said before. Times of detection are MJD.
    """
    rows = list(session.scalars(select(TransientCandidate).where(TransientCandidate.detection_type == NEW)))
    for row in rows:
        _set(row, {path: values for path, values in _seen(row).items() if path != image_path}, now)
    touched = []
    for sighting in found:
        known = _nearest(rows, sighting, radius_deg)
        row = known or TransientCandidate(
            source_id=source_name(sighting.ra_deg, sighting.dec_deg, "DSA"),
            ra_deg=sighting.ra_deg,
            dec_deg=sighting.dec_deg,
            detection_type=NEW,
            detected_at=now,
        )
        if known is None:
            session.add(row)
            rows.append(row)
        _set(row, _seen(row) | {image_path: [mjd, sighting.flux_jy, sighting.snr]}, now)
        touched.append(row)
    for row in rows:
        if not _seen(row):
            session.delete(row)
    session.flush()
    return touched


def get_transient(session: Session, number: int) -> TransientCandidate:
    """Return a new source by its number; PipelineError if there is none."""
    found = session.get(TransientCandidate, number)
    if found is None:
        raise PipelineError(f"there is no new source {number}: see the list of candidates")
    return found


def note_transient(session: Session, number: int, *, by: str, note: str, now: float) -> TransientCandidate:
    """Add a note to a new source, closed ones included."""
    found = get_transient(session, number)
    found.notes = with_entry(found.notes, at=now, by=by, did="noted", note=note)
    session.flush()
    return found


def _nearest(rows: Sequence[TransientCandidate], place: Sighting, radius_deg: float) -> TransientCandidate | None:
    near = [(_apart(row, place), index) for index, row in enumerate(rows)]
    best = min(near, default=(np.inf, 0))
    return rows[best[1]] if best[0] < radius_deg else None


def _apart(row: TransientCandidate, place: Sighting) -> float:
    east = (row.ra_deg - place.ra_deg + 180.0) % 360.0 - 180.0
    return float(np.hypot(east * np.cos(np.radians(place.dec_deg)), row.dec_deg - place.dec_deg))


def _seen(row: TransientCandidate) -> dict[str, list[float]]:
    """Return (mjd, flux in Jy, snr) by image."""
    content = json.loads(row.notes or "{}")
    return dict(content.get("images", {}))


def _set(row: TransientCandidate, images: dict[str, list[float]], now: float) -> None:
    """Let a row say what its images say."""
    content = json.loads(row.notes or "{}") | {"images": images}
    row.notes, row.n_detections, row.last_updated = json.dumps(content), len(images), now
    if not images:
        return
    mjd, flux, snr = np.array(list(images.values())).T
    row.mean_flux_jy, row.significance_sigma = float(flux.mean()), float(snr.max())
    row.std_flux_jy = float(flux.std(ddof=1)) if flux.size > 1 else None
    row.first_detected_at, row.last_detected_at = float(mjd.min()), float(mjd.max())
    row.priority = "high" if len(images) > 1 or row.significance_sigma >= HIGH_SIGMA else "normal"
