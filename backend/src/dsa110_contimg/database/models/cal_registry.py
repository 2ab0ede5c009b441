"""cal_registry.sqlite3: calibration tables and the time for which they hold."""

from sqlalchemy import Index, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, synonym

from dsa110_contimg.database.models.base import COLUMN_TYPES, ONE, one_of

TABLE_TYPES = ("K", "BA", "BP", "G", "GA", "GP", "2G", "FLUX")
"""Delay; bandpass (BA: amplitude only); gain (GA, GP: amplitude, phase only; 2G: short intervals); flux scale."""


class CalRegistryBase(DeclarativeBase):
    """The tables of cal_registry.sqlite3."""

    type_annotation_map = COLUMN_TYPES


class Caltable(CalRegistryBase):
    """One calibration table on disk, with its window of validity and its provenance."""

    __tablename__ = "caltables"
    __table_args__ = (
        one_of("table_type", TABLE_TYPES, "ck_table_type"),
        Index("idx_caltables_set", "set_name"),
        Index("idx_caltables_valid", "valid_start_mjd", "valid_end_mjd"),
        Index("idx_caltables_active", "active"),
        Index("idx_caltables_active_end", "active", "valid_end_mjd"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    set_name: Mapped[str]
    path: Mapped[str] = mapped_column(unique=True)
    table_type: Mapped[str]
    order_index: Mapped[int]
    valid_start_mjd: Mapped[float]
    valid_end_mjd: Mapped[float]
    created_at: Mapped[float]
    active: Mapped[int | None] = mapped_column(server_default=ONE)
    status: Mapped[str | None] = mapped_column(server_default=text("'active'"))
    mid_mjd: Mapped[float | None]
    dec_deg: Mapped[float | None]
    cal_field: Mapped[str | None]
    refant: Mapped[str | None]
    flux_anchor: Mapped[str | None]
    source_ms_path: Mapped[str | None]
    qa_status: Mapped[str | None]
    quality_metrics: Mapped[str | None]
    solver_command: Mapped[str | None]
    solver_version: Mapped[str | None]
    solver_params: Mapped[str | None]
    superseded_by: Mapped[str | None]
    notes: Mapped[str | None]

    valid_from_mjd: Mapped[float] = synonym("valid_start_mjd")
    valid_until_mjd: Mapped[float] = synonym("valid_end_mjd")
