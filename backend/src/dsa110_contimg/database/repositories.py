"""The questions that the pipeline and its readers ask of the rows; every method takes a session first.

Writers take columns by keyword only, and an upsert keeps what it is not told.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Select, inspect, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import (
    ESECandidate,
    Image,
    MSIndex,
    Photometry,
    PhotometryMissing,
    ProductsBase,
    QACheck,
    VariabilityStats,
    Verdict,
)
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.errors import PipelineError

__all__ = [
    "CaltableRepository",
    "CandidateRepository",
    "ImageRepository",
    "MSRepository",
    "MosaicRepository",
    "PhotometryRepository",
    "QARepository",
    "ms_index_upsert",
]

Value = str | int | float | None
Row = TypeVar("Row", bound=ProductsBase)


def _upsert(
    session: Session, model: type[ProductsBase], keys: Sequence[str], rows: Sequence[Mapping[str, Value]]
) -> None:
    """Insert rows, or update the columns that they name; rows must name the same columns."""
    if not rows:
        return
    unknown = set(rows[0]) - set(inspect(model).columns.keys())
    if unknown:
        raise PipelineError(f"{model.__name__} has no column {', '.join(sorted(unknown))}")
    statement = insert(model)
    told = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    if told:
        statement = statement.on_conflict_do_update(index_elements=list(keys), set_=told)
    else:
        statement = statement.on_conflict_do_nothing()
    session.execute(statement, [dict(row) for row in rows])
    session.expire_all()


def _page(session: Session, query: Select[Row], limit: int | None, offset: int) -> list[Row]:
    return list(session.scalars(query.limit(limit).offset(offset)))


def ms_index_upsert(session: Session, path: str, **columns: Value) -> None:
    """Record or update one Measurement Set; columns that are not named keep their values."""
    _upsert(session, MSIndex, ["path"], [{"path": str(path), **columns}])


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
        limit: int | None = None,
        offset: int = 0,
    ) -> list[MSIndex]:
        """Return those at a stage, of a status, and whose middle lies in [start_mjd, end_mjd], in time order."""
        query = select(MSIndex).order_by(MSIndex.mid_mjd, MSIndex.path)
        if stage is not None:
            query = query.where(MSIndex.stage == stage)
        if status is not None:
            query = query.where(MSIndex.status == status)
        if start_mjd is not None:
            query = query.where(MSIndex.mid_mjd >= start_mjd)
        if end_mjd is not None:
            query = query.where(MSIndex.mid_mjd <= end_mjd)
        return _page(session, query, limit, offset)

    @staticmethod
    def set_stage(session: Session, path: str, stage: str, *, now: float, **columns: Value) -> None:
        """Move one to a stage."""
        ms_index_upsert(session, path, stage=stage, stage_updated_at=now, **columns)


class ImageRepository:
    """Image files."""

    @staticmethod
    def add(session: Session, *, path: str, ms_path: str, type: str, created_at: float, **columns: Value) -> Image:
        """Record an image, or the newer content of a known path."""
        row = {"path": str(path), "ms_path": str(ms_path), "type": type, "created_at": created_at, **columns}
        _upsert(session, Image, ["path"], [row])
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
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Image]:
        """Return those of one type or of one Measurement Set, the oldest first."""
        query = select(Image).order_by(Image.created_at, Image.id)
        if type_filter is not None:
            query = query.where(Image.type == type_filter)
        if ms_path is not None:
            query = query.where(Image.ms_path == str(ms_path))
        return _page(session, query, limit, offset)


class PhotometryRepository:
    """Forced fluxes and what they say about each source."""

    @staticmethod
    def store(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record measurements; one of the same image and source replaces the earlier one."""
        _upsert(session, Photometry, ["image_path", "source_id"], rows)

    @staticmethod
    def store_missing(session: Session, image_path: str, reasons: Mapping[str, str]) -> None:
        """Record positions of an image that could not be measured: source id → reason."""
        rows = [{"image_path": str(image_path), "source_id": s, "reason": why} for s, why in reasons.items()]
        _upsert(session, PhotometryMissing, ["image_path", "source_id"], rows)

    @staticmethod
    def store_statistics(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record variability statistics, one row per source."""
        _upsert(session, VariabilityStats, ["source_id"], rows)

    @staticmethod
    def get_lightcurve(session: Session, source_id: str, *, every_measurement: bool = False) -> list[Photometry]:
        """Return a source's light curve in time order.

        By default the measurements that feed the statistics: one per sidereal transit, not retracted.
        """
        query = select(Photometry).where(Photometry.source_id == source_id).order_by(Photometry.mjd, Photometry.id)
        if not every_measurement:
            query = query.where(Photometry.in_lightcurve == 1, Photometry.retracted_at.is_(None))
        return list(session.scalars(query))

    @staticmethod
    def list_for_image(session: Session, image_path: str) -> list[Photometry]:
        """Return the measurements on one image."""
        query = select(Photometry).where(Photometry.image_path == str(image_path)).order_by(Photometry.source_id)
        return list(session.scalars(query))

    @staticmethod
    def source_ids(session: Session) -> list[str]:
        """Return every source that has a light curve."""
        query = select(Photometry.source_id).where(Photometry.in_lightcurve == 1).distinct()
        return sorted(session.scalars(query))


class CandidateRepository:
    """ESE candidates; a source has at most one active."""

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
        """Flag a source that has statistics; False when it is flagged already (its significance is then raised)."""
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
                    )
                )
        except IntegrityError as error:
            if "UNIQUE" not in str(error.orig):
                raise
        else:
            return True
        session.execute(
            update(ESECandidate)
            .where(ESECandidate.source_id == source_id, ESECandidate.status == "active")
            .where(ESECandidate.significance < significance)
            .values(significance=significance)
        )
        return False

    @staticmethod
    def list_all(session: Session, *, status: str | None = "active") -> list[ESECandidate]:
        """Return candidates, the most significant first."""
        query = select(ESECandidate).order_by(ESECandidate.significance.desc(), ESECandidate.id)
        if status is not None:
            query = query.where(ESECandidate.status == status)
        return list(session.scalars(query))


class QARepository:
    """What quality assurance measured."""

    @staticmethod
    def store(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record checks (subject, name, value, thresholds, verdict, reason, measured_at); the newest stays."""
        _upsert(session, QACheck, ["subject", "name"], rows)

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
