"""What quality assurance left behind, as readers ask for it: plots and reports, and the values behind each verdict.

A subject is what was checked: a group id (a tile), a mosaic, or a version of the sky. Artifacts are kept by group: the
group id of a tile, or `mg_...` of a mosaic.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import QAArtifact, QACheck
from dsa110_contimg.database.upserts import Key, page


class ArtifactRow(NamedTuple):
    """One plot, table or report."""

    id: int
    group_id: str
    name: str
    path: str
    type: str | None
    category: str | None
    created_at: float
    removed_at: float | None


class CheckRow(NamedTuple):
    """One measured value, its thresholds and the verdict."""

    id: int
    subject: str
    name: str
    value: float | None
    threshold_warning: float | None
    threshold_failure: float | None
    verdict: str
    reason: str | None
    measured_at: float


def list_artifacts(
    session: Session,
    *,
    group_id: str | None = None,
    category: str | None = None,
    after: Sequence[Key] | None = None,
    limit: int,
) -> list[ArtifactRow]:
    """Return artifacts, the newest first, all or those of a group or a category; `after` is (created_at, id)."""
    query = select(*(getattr(QAArtifact, name) for name in ArtifactRow._fields))
    if group_id is not None:
        query = query.where(QAArtifact.group_id == group_id)
    if category is not None:
        query = query.where(QAArtifact.category == category)
    rows = page(query, (QAArtifact.created_at, QAArtifact.id), after=after, limit=limit, descending=True)
    return [ArtifactRow._make(row) for row in session.execute(rows)]


def get_artifact(session: Session, artifact_id: int) -> ArtifactRow | None:
    """Return one artifact by its id."""
    query = select(*(getattr(QAArtifact, name) for name in ArtifactRow._fields)).where(QAArtifact.id == artifact_id)
    row = session.execute(query).first()
    return None if row is None else ArtifactRow._make(row)


def list_checks(
    session: Session,
    *,
    subject: str | None = None,
    verdict: str | None = None,
    after: Sequence[Key] | None = None,
    limit: int,
) -> list[CheckRow]:
    """Return checks, the newest first, all or those of a subject or with a verdict; `after` is (id,)."""
    query = select(*(getattr(QACheck, name) for name in CheckRow._fields))
    if subject is not None:
        query = query.where(QACheck.subject == subject)
    if verdict is not None:
        query = query.where(QACheck.verdict == verdict)
    rows = session.execute(page(query, (QACheck.id,), after=after, limit=limit, descending=True))
    return [CheckRow._make(row) for row in rows]


def checks_of(session: Session, subject: str) -> list[CheckRow]:
    """Return all checks of a subject, those that speak against it first."""
    order = case((QACheck.verdict == "failed", 0), (QACheck.verdict == "passed", 2), else_=1)
    query = select(*(getattr(QACheck, name) for name in CheckRow._fields)).where(QACheck.subject == subject)
    return [CheckRow._make(row) for row in session.execute(query.order_by(order, QACheck.name))]
