"""Candidates in the order in which a person should look at them, and flags that a person sets."""

import json

from sqlalchemy.orm import Session

from dsa110_contimg.database.candidate_repository import CandidateRepository, with_entry
from dsa110_contimg.database.models import ESECandidate, VariabilityStats
from dsa110_contimg.database.photometry_repository import PhotometryRepository
from dsa110_contimg.errors import PipelineError

ORDER = {"ese": 0, "user": 1, "rapid_change": 2, "variability": 3}


def ranked(session: Session, status: str | None) -> list[ESECandidate]:
    """Return candidates by kind, then by significance."""
    rows = CandidateRepository.list_all(session, status=status)
    return sorted(rows, key=lambda row: (ORDER.get(row.flag_type, len(ORDER)), -row.significance))


def flag_by_hand(session: Session, source: str, *, by: str, note: str, now: float) -> ESECandidate:
    """Flag a source, in any usual spelling of its name.

    Raises
    ------
    PipelineError
        If no source with statistics, or several, fit the name, or it is flagged already.
    """
    found = PhotometryRepository.find_sources(session, source)
    if len(found) != 1:
        raise PipelineError(f"{source!r} fits {len(found)} sources with statistics: write its name in full")
    stats = session.get(VariabilityStats, found[0])
    significance = (stats.sigma_deviation if stats is not None else None) or 0.0
    notes = with_entry(
        json.dumps({"reason": note or "flagged by hand", "mjd": stats.last_mjd if stats is not None else None}),
        at=now, by=by, did="flagged", note=note,
    )  # fmt: skip
    if not CandidateRepository.flag(
        session, source_id=found[0], significance=significance, flag_type="user", now=now, flagged_by=by, notes=notes
    ):
        raise PipelineError(f"{found[0]} is a candidate already: see `contimg candidates list`")
    return CandidateRepository.get(session, found[0])
