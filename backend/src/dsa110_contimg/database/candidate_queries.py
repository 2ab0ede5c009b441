"""Candidates as readers ask for them: sources that vary, and new sources, with what is known and what was done.

The two kinds are told alike. Fluxes are Jy, the time of an event MJD, all other times unix seconds.
"""

from pathlib import PurePosixPath
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.candidate_repository import told
from dsa110_contimg.database.models import ESECandidate, TransientCandidate, VariabilityStats
from dsa110_contimg.database.ordering import Order, Place, Query, ordered
from dsa110_contimg.database.source_table import MJY_PER_JY

STATES = ("active", "investigated", "dismissed")
VARIABLE, NEW = "variable", "new"


class HistoryEntry(NamedTuple):
    """Who did what, and when."""

    at: float
    by: str
    did: str
    note: str


class CandidateRow(NamedTuple):
    """One candidate; None is what is not known."""

    id: int
    kind: str
    """variable or new."""
    source_id: str
    ra_deg: float
    dec_deg: float
    status: str
    flag_type: str
    """ese, rapid_change, variability or user; new_source."""
    significance: float | None
    flagged_at: float | None
    flagged_by: str
    reason: str | None
    """In plain words."""
    event_mjd: float | None
    last_image: str | None
    """Of a new source: name of the last image that it was found on, without its ending."""
    n_obs: int | None
    mean_flux_jy: float | None
    eta: float | None
    v: float | None
    investigated_at: float | None
    dismissed_at: float | None
    history: list[HistoryEntry]


_SHARED = ("investigated_at", "dismissed_at", "notes")
_VARIABLE = select(
    ESECandidate.id,
    ESECandidate.source_id,
    VariabilityStats.ra_deg,
    VariabilityStats.dec_deg,
    ESECandidate.status,
    ESECandidate.flag_type,
    ESECandidate.significance,
    ESECandidate.flagged_at,
    ESECandidate.flagged_by,
    VariabilityStats.n_obs,
    (VariabilityStats.mean_flux_mjy / MJY_PER_JY).label("mean_flux_jy"),
    VariabilityStats.eta_metric.label("eta"),
    VariabilityStats.v_metric.label("v"),
    *(getattr(ESECandidate, name) for name in _SHARED),
).join(VariabilityStats, VariabilityStats.source_id == ESECandidate.source_id)
_NEW = select(
    TransientCandidate.id,
    TransientCandidate.source_id,
    TransientCandidate.ra_deg,
    TransientCandidate.dec_deg,
    TransientCandidate.status,
    TransientCandidate.detection_type.label("flag_type"),
    TransientCandidate.significance_sigma.label("significance"),
    TransientCandidate.detected_at.label("flagged_at"),
    TransientCandidate.n_detections.label("n_obs"),
    TransientCandidate.mean_flux_jy,
    TransientCandidate.eta,
    TransientCandidate.v_index.label("v"),
    TransientCandidate.last_detected_at.label("event_mjd"),
    *(getattr(TransientCandidate, name) for name in _SHARED),
)
SORTS = ("significance", "flagged_at")
_ORDERS: dict[str, dict[str, InstrumentedAttribute[Any]]] = {
    VARIABLE: {"significance": ESECandidate.significance, "flagged_at": ESECandidate.flagged_at},
    NEW: {"significance": TransientCandidate.significance_sigma, "flagged_at": TransientCandidate.detected_at},
}
_MODELS: dict[str, type[ESECandidate | TransientCandidate]] = {VARIABLE: ESECandidate, NEW: TransientCandidate}
_QUERIES: dict[str, Query] = {VARIABLE: _VARIABLE, NEW: _NEW}


def list_candidates(
    session: Session, kind: str, status: str | None, sort: str, after: Place | None, limit: int
) -> list[CandidateRow]:
    """Return the candidates of a kind behind a place, at most `limit`.

    Parameters
    ----------
    session
        Of `products`.
    kind
        'variable' or 'new'.
    status
        One of `STATES`; None for all.
    sort
        One of `SORTS`, or with a minus sign descending.
    after
        What `place_of` says of the last row of the page before.
    limit
        Most rows.
    """
    model, name = _MODELS[kind], sort.removeprefix("-")
    query = _QUERIES[kind] if status is None else _QUERIES[kind].where(model.status == status)
    order = Order(_ORDERS[kind][name], model.id, sort.startswith("-"))
    return [_row(kind, row._mapping) for row in ordered(session, query, order, after, limit)]


def place_of(row: CandidateRow, sort: str) -> Place:
    """Return where a candidate stands in a sorted list."""
    return getattr(row, sort.removeprefix("-")), row.id


def get_candidate(session: Session, kind: str, number: int) -> CandidateRow | None:
    """Return a candidate by its number."""
    row = session.execute(_QUERIES[kind].where(_MODELS[kind].id == number)).first()
    return None if row is None else _row(kind, row._mapping)


def candidates_of(session: Session, source_id: str) -> list[CandidateRow]:
    """Return every candidate that a source ever was, the newest first."""
    rows = [
        _row(kind, row._mapping)
        for kind, query in _QUERIES.items()
        for row in session.execute(query.where(_MODELS[kind].source_id == source_id))
    ]
    return sorted(rows, key=lambda row: -(row.flagged_at or 0.0))


def count_by_status(session: Session) -> dict[str, dict[str, int]]:
    """Return how many candidates of each kind are in each state."""
    found = {kind: dict.fromkeys(STATES, 0) for kind in _MODELS}
    for kind, model in _MODELS.items():
        for status, number in session.execute(select(model.status, func.count()).group_by(model.status)):
            found[kind][status or "active"] = number
    return found


def count_since(session: Session, since_unix: float) -> int:
    """Return how many active candidates of both kinds were flagged after a time."""
    variable = select(func.count()).where(ESECandidate.status == "active", ESECandidate.flagged_at > since_unix)
    new = select(func.count()).where(TransientCandidate.status == "active", TransientCandidate.detected_at > since_unix)
    return (session.scalar(variable) or 0) + (session.scalar(new) or 0)


def _row(kind: str, row: Any) -> CandidateRow:  # noqa: ANN401 - a mapping of columns
    content = told(row["notes"])
    mjd = row["event_mjd"] if kind == NEW else content.get("mjd")
    return CandidateRow(
        id=row["id"],
        kind=kind,
        source_id=row["source_id"] or "",
        ra_deg=row["ra_deg"],
        dec_deg=row["dec_deg"],
        status=row["status"] or "active",
        flag_type=row["flag_type"],
        significance=row["significance"],
        flagged_at=row["flagged_at"],
        flagged_by="auto" if kind == NEW else row["flagged_by"] or "auto",
        reason=_reason(kind, row, content),
        event_mjd=float(mjd) if isinstance(mjd, int | float) else None,
        last_image=_last_image(content),
        n_obs=row["n_obs"],
        mean_flux_jy=row["mean_flux_jy"],
        eta=row["eta"],
        v=row["v"],
        investigated_at=row["investigated_at"],
        dismissed_at=row["dismissed_at"],
        history=_history(content),
    )


def _reason(kind: str, row: Any, content: dict[str, Any]) -> str | None:  # noqa: ANN401 - a mapping of columns
    if kind == VARIABLE:
        found = content.get("reason", content.get("notes"))
        return None if found is None else str(found)
    times = f"{row['n_obs']} image{'' if row['n_obs'] == 1 else 's'}"
    if row["mean_flux_jy"] is None:
        return f"no catalogue knows it; seen on {times}"
    return f"no catalogue knows it; {MJY_PER_JY * row['mean_flux_jy']:.1f} mJy on {times}"


def _last_image(content: dict[str, Any]) -> str | None:
    """Return the name of the last of the images that are noted, each with [mjd, flux, significance]."""
    images = content.get("images")
    if not isinstance(images, dict) or not images:
        return None
    return PurePosixPath(max(images, key=lambda path: images[path][0])).stem


def _history(content: dict[str, Any]) -> list[HistoryEntry]:
    entries = content.get("history", [])
    if not isinstance(entries, list):
        return []
    return [
        HistoryEntry(
            float(one.get("at") or 0.0), str(one.get("by", "")), str(one.get("did", "")), str(one.get("note", ""))
        )
        for one in entries
        if isinstance(one, dict)
    ]
