"""ESE candidates: flagged by the pipeline or a person, and what people did about them.

A source has at most one active candidate. `notes` is JSON: metric, mjd and reason of what was found, and a `history` of
who did what and when. What a person has closed is not flagged again by the same event: one whose time lies within
`SAME_EVENT_DAYS` and whose significance has grown by less than half.
"""

import json
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dsa110_contimg.database.explanations import is_duplicate
from dsa110_contimg.database.models import ESECandidate, TransientCandidate
from dsa110_contimg.database.upserts import list_page
from dsa110_contimg.errors import PipelineError

SAME_EVENT_DAYS = 60.0
GROWN = 1.5
CLOSED = ("investigated", "dismissed")


def told(notes: str | None) -> dict[str, Any]:
    """Return notes as a dictionary; a person may have written plain text instead."""
    try:
        content = json.loads(notes or "{}")
    except ValueError:
        content = notes
    return content if isinstance(content, dict) else {"notes": content}


def with_entry(notes: str | None, *, at: float, by: str, did: str, note: str = "") -> str:
    """Return notes with one more entry in their history."""
    content = told(notes)
    entry = {"at": at, "by": by, "did": did} | ({"note": note} if note else {})
    return json.dumps(content | {"history": [*content.get("history", []), entry]})


def close(
    session: Session, found: ESECandidate | TransientCandidate, *, status: str, by: str, note: str, now: float
) -> None:
    """Mark an active candidate of either kind as investigated or dismissed.

    Raises
    ------
    PipelineError
        If it is closed already, or the status is another one.
    """
    if status not in CLOSED:
        raise PipelineError(f"a candidate is closed as {' or '.join(CLOSED)}, not as {status!r}")
    model = type(found)
    moment = "investigated_at" if status == "investigated" else "dismissed_at"
    values = {
        "status": status,
        moment: now,
        "notes": with_entry(found.notes, at=now, by=by, did=status, note=note),
    }
    statement = update(model).where(model.id == found.id, model.status == "active")
    if session.connection().execute(statement.values(**values)).rowcount != 1:
        raise PipelineError(f"candidate {found.id} ({found.source_id}) is {found.status} already")
    session.refresh(found)


class CandidateRepository:
    """ESE candidates; every method takes a session of `products` first."""

    @staticmethod
    def flag(
        session: Session,
        *,
        source_id: str,
        significance: float,
        flag_type: str,
        now: float,
        flagged_by: str = "auto",
        notes: str | None = None,
    ) -> bool:
        """Flag a source that has statistics; False when it is flagged already, or a person closed the same event.

        What the pipeline flagged and nobody has closed follows what it finds now. `known_as` is told in the notes.
        """
        known_as = told(notes).get("known_as")
        if flagged_by == "auto" and _closed_by_a_person(session, source_id, significance, told(notes).get("mjd")):
            return False
        try:
            with session.begin_nested():
                session.add(
                    ESECandidate(
                        source_id=source_id,
                        significance=significance,
                        flag_type=flag_type,
                        flagged_at=now,
                        flagged_by=flagged_by,
                        notes=notes,
                        known_as=known_as,
                    )
                )
        except IntegrityError as error:
            if not is_duplicate(error):
                raise
        else:
            return True
        _follow(session, source_id, significance, flag_type, notes, known_as)
        return False

    @staticmethod
    def get(session: Session, which: str) -> ESECandidate:
        """Return a candidate by its number, or the newest of a source by its name.

        Raises
        ------
        PipelineError
            If there is none.
        """
        query = select(ESECandidate).order_by(ESECandidate.id.desc()).limit(1)
        by = ESECandidate.id == int(which) if which.isdecimal() else ESECandidate.source_id == which
        found = session.scalar(query.where(by))
        if found is None:
            raise PipelineError(f"there is no candidate {which!r}: see `contimg candidates list --status all`")
        return found

    @staticmethod
    def close(session: Session, which: str, *, status: str, by: str, note: str, now: float) -> ESECandidate:
        """Mark an active candidate as investigated or dismissed.

        Raises
        ------
        PipelineError
            If there is none, it is closed already, or the status is another one.
        """
        found = CandidateRepository.get(session, which)
        close(session, found, status=status, by=by, note=note, now=now)
        return found

    @staticmethod
    def note(session: Session, which: str, *, by: str, note: str, now: float) -> ESECandidate:
        """Add a note to a candidate, closed ones included."""
        found = CandidateRepository.get(session, which)
        found.notes = with_entry(found.notes, at=now, by=by, did="noted", note=note)
        session.flush()
        return found

    @staticmethod
    def list_all(
        session: Session,
        *,
        status: str | None = "active",
        after: tuple[float, int] | None = None,
        limit: int | None = None,
    ) -> list[ESECandidate]:
        """Return candidates, the most significant first; `after` is (significance, id) of the last one before."""
        query = select(ESECandidate)
        if status is not None:
            query = query.where(ESECandidate.status == status)
        key = (ESECandidate.significance, ESECandidate.id)
        return list_page(session, query, key, after=after, limit=limit, descending=True)


def _closed_by_a_person(session: Session, source_id: str, significance: float, mjd: object) -> bool:
    """Say whether a person closed a candidate of this source that was about the same event."""
    closed = select(ESECandidate).where(ESECandidate.source_id == source_id, ESECandidate.status.in_(CLOSED))
    for earlier in session.scalars(closed):
        content = told(earlier.notes)
        by_person = any(entry.get("did") in CLOSED for entry in content.get("history", []))
        then = content.get("mjd")
        if not by_person or not isinstance(mjd, int | float) or not isinstance(then, int | float):
            continue
        if abs(mjd - then) < SAME_EVENT_DAYS and significance < GROWN * earlier.significance:
            return True
    return False


def _follow(
    session: Session, source_id: str, significance: float, flag_type: str, notes: str | None, known_as: str | None
) -> None:
    """Bring the active candidate of a source up to date: what a person flagged keeps its kind and notes.

    The significance is the largest that was seen, of the present kind.
    """
    active = select(ESECandidate).where(ESECandidate.source_id == source_id, ESECandidate.status == "active")
    found = session.scalars(active).one()
    own = found.flagged_by == "auto"
    if not own or found.flag_type == flag_type:
        significance = max(significance, found.significance)
    found.significance = significance
    found.known_as = known_as or found.known_as
    if own:
        kept = {name: value for name, value in told(found.notes).items() if name == "history"}
        found.flag_type = flag_type
        found.notes = json.dumps(told(notes) | kept) if notes or kept else None
    session.flush()
