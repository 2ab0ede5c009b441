"""The questions that the pipeline and its readers ask of the rows; every method takes a session first.

Writers take columns by keyword only, and an upsert keeps what it is not told.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.candidate_repository import CandidateRepository
from dsa110_contimg.database.models import Image, MSIndex, QACheck, Verdict
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.photometry_repository import LightCurvePoint, PhotometryRepository
from dsa110_contimg.database.upserts import Value, list_page, upsert

__all__ = [
    "CaltableRepository",
    "CandidateRepository",
    "ImageRepository",
    "LightCurvePoint",
    "MSRepository",
    "MosaicRepository",
    "PhotometryRepository",
    "QARepository",
    "ms_index_upsert",
]


def ms_index_upsert(session: Session, path: str, **columns: Value) -> None:
    """Record or update one Measurement Set; columns that are not named keep their values."""
    upsert(session, MSIndex, ["path"], [{"path": str(path), **columns}])


class MSRepository:
    """Measurement Sets."""

    @staticmethod
    def get(session: Session, path: str) -> MSIndex | None:
        """Return one by its path."""
        return session.get(MSIndex, str(path))

    @staticmethod
    def list_all(
        session: Session,
        *,
        stage: str | None = None,
        status: str | None = None,
        start_mjd: float | None = None,
        end_mjd: float | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[MSIndex]:
        """Return those at a stage, of a status, and whose middle lies in [start_mjd, end_mjd], by path.

        Paths hold the group id, so this is the order of time. `after` is the last path of the page before.
        """
        query = select(MSIndex)
        if stage is not None:
            query = query.where(MSIndex.stage == stage)
        if status is not None:
            query = query.where(MSIndex.status == status)
        if start_mjd is not None:
            query = query.where(MSIndex.mid_mjd >= start_mjd)
        if end_mjd is not None:
            query = query.where(MSIndex.mid_mjd <= end_mjd)
        return list_page(session, query, (MSIndex.path,), after=None if after is None else (after,), limit=limit)

    @staticmethod
    def set_stage(session: Session, path: str, stage: str, *, now: float, **columns: Value) -> None:
        """Move one to a stage."""
        ms_index_upsert(session, path, stage=stage, stage_updated_at=now, **columns)


class ImageRepository:
    """Image files."""

    @staticmethod
    def add(session: Session, *, path: str, ms_path: str, type: str, created_at: float, **columns: Value) -> Image:
        """Record an image, or the newer content of a known path."""
        row: dict[str, Value] = {"path": str(path), "ms_path": str(ms_path), "type": type, "created_at": created_at}
        row |= {"removed_at": None, **columns}
        upsert(session, Image, ["path"], [row])
        return session.scalars(select(Image).where(Image.path == str(path))).one()

    @staticmethod
    def get_by_path(session: Session, path: str) -> Image | None:
        """Return one by its path."""
        return session.scalar(select(Image).where(Image.path == str(path)))

    @staticmethod
    def list_all(
        session: Session,
        *,
        type_filter: str | None = None,
        ms_path: str | None = None,
        after: tuple[float, int] | None = None,
        limit: int | None = None,
    ) -> list[Image]:
        """Return those of one type or of one Measurement Set, the newest first.

        `after` is (created_at, id) of the last one of the page before.
        """
        query = select(Image)
        if type_filter is not None:
            query = query.where(Image.type == type_filter)
        if ms_path is not None:
            query = query.where(Image.ms_path == str(ms_path))
        return list_page(session, query, (Image.created_at, Image.id), after=after, limit=limit, descending=True)


class QARepository:
    """What quality assurance measured."""

    @staticmethod
    def store(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record checks (subject, name, value, thresholds, verdict, reason, measured_at); the newest stays."""
        upsert(session, QACheck, ["subject", "name"], rows)

    @staticmethod
    def for_subject(session: Session, subject: str) -> list[QACheck]:
        """Return the checks of one subject by name."""
        return list(session.scalars(select(QACheck).where(QACheck.subject == subject).order_by(QACheck.name)))

    @staticmethod
    def worst(session: Session, subject: str) -> Verdict | None:
        """Return the worst verdict of a subject, or None when nothing was checked; unmeasured counts as warning."""
        verdicts = {check.verdict for check in QARepository.for_subject(session, subject)}
        for verdict in (Verdict.FAILED, Verdict.WARNING, Verdict.UNMEASURED, Verdict.PASSED):
            if verdict.value in verdicts:
                return Verdict.WARNING if verdict is Verdict.UNMEASURED else verdict
        return None
