"""products.sqlite3: Measurement Sets, images, mosaics, and the sky's history as measured.

A mosaic is also a row of `images` (type 'mosaic', with the group's calibration Measurement Set as ms_path), so
that photometry on it obeys the foreign key. Paths may change when a product is published: references follow.
"""

import time

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dsa110_contimg.database.models.base import COLUMN_TYPES, ZERO


class ProductsBase(DeclarativeBase):
    """The tables of products.sqlite3."""

    type_annotation_map = COLUMN_TYPES


def reference(column: str) -> ForeignKey:
    """Return a foreign key that follows a renamed path and is checked at commit."""
    return ForeignKey(column, onupdate="CASCADE", deferrable=True, initially="DEFERRED")


class MSIndex(ProductsBase):
    """One Measurement Set (tile) and the stage it has reached."""

    __tablename__ = "ms_index"
    __table_args__ = (
        Index("idx_ms_index_stage_path", "stage", "path"),
        Index("idx_ms_index_stage_updated", "stage", "stage_updated_at"),
        Index("idx_ms_index_stage_mjd", "stage", "mid_mjd"),
        Index("idx_ms_index_status", "status"),
        Index("idx_ms_index_mjd", "mid_mjd"),
        Index("idx_ms_index_field", "field_name"),
        Index("idx_ms_index_group", "group_id"),
        Index(
            "idx_ms_index_unplaced",
            "mid_mjd",
            sqlite_where=text("placed_in IS NULL"),
            postgresql_where=text("placed_in IS NULL"),
        ),
    )

    path: Mapped[str] = mapped_column(primary_key=True)
    start_mjd: Mapped[float | None]
    end_mjd: Mapped[float | None]
    mid_mjd: Mapped[float | None]
    processed_at: Mapped[float | None]
    status: Mapped[str | None]
    stage: Mapped[str | None]
    stage_updated_at: Mapped[float | None]
    cal_applied: Mapped[int | None] = mapped_column(server_default=ZERO)
    imagename: Mapped[str | None]
    field_name: Mapped[str | None]
    pointing_ra_deg: Mapped[float | None]
    pointing_dec_deg: Mapped[float | None]
    group_id: Mapped[str | None]
    calibrator: Mapped[str | None]
    caltables: Mapped[str | None]
    removed_at: Mapped[float | None]
    placed_in: Mapped[str | None]
    """The mosaic group in which the tile is new."""


class Image(ProductsBase):
    """One image file."""

    __tablename__ = "images"
    __table_args__ = (
        Index("idx_images_ms_path", "ms_path"),
        Index("idx_images_type", "type"),
        Index("idx_images_created", "created_at"),
        Index("idx_images_field", "field_name"),
        Index("idx_images_type_created", "type", "created_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    ms_path: Mapped[str] = mapped_column(reference("ms_index.path"))
    created_at: Mapped[float] = mapped_column(default=time.time)
    type: Mapped[str]
    format: Mapped[str | None] = mapped_column(server_default=text("'fits'"))
    beam_major_arcsec: Mapped[float | None]
    beam_minor_arcsec: Mapped[float | None]
    beam_pa_deg: Mapped[float | None]
    noise_jy: Mapped[float | None]
    dynamic_range: Mapped[float | None]
    pbcor: Mapped[int | None] = mapped_column(server_default=ZERO)
    field_name: Mapped[str | None]
    center_ra_deg: Mapped[float | None]
    center_dec_deg: Mapped[float | None]
    imsize_x: Mapped[int | None]
    imsize_y: Mapped[int | None]
    cellsize_arcsec: Mapped[float | None]
    freq_ghz: Mapped[float | None]
    bandwidth_mhz: Mapped[float | None]
    integration_sec: Mapped[float | None]
    removed_at: Mapped[float | None]


class Mosaic(ProductsBase):
    """One mosaic; `name` is its id in the data registry."""

    __tablename__ = "mosaics"
    __table_args__ = (
        Index("idx_mosaics_created", "created_at"),
        Index("idx_mosaics_mjd", "start_mjd", "end_mjd"),
        Index("idx_mosaics_name", "name"),
        Index("idx_mosaics_group", "group_id"),
        Index(
            "idx_mosaics_open",
            "name",
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    start_mjd: Mapped[float]
    end_mjd: Mapped[float]
    integration_sec: Mapped[float | None]
    n_images: Mapped[int | None]
    center_ra_deg: Mapped[float | None]
    center_dec_deg: Mapped[float | None]
    dec_min_deg: Mapped[float | None]
    dec_max_deg: Mapped[float | None]
    noise_jy: Mapped[float | None]
    beam_major_arcsec: Mapped[float | None]
    beam_minor_arcsec: Mapped[float | None]
    beam_pa_deg: Mapped[float | None]
    n_sources: Mapped[int | None]
    thumbnail_path: Mapped[str | None]
    status: Mapped[str | None]
    group_id: Mapped[str | None]
    validation_issues: Mapped[str | None]
    weight_path: Mapped[str | None]
    noise_path: Mapped[str | None]
    closed_at: Mapped[float | None]
    """When its light curves had followed and it was published or retracted: nothing is left to do."""


class MosaicGroup(ProductsBase):
    """Tiles in a row that make one mosaic; `ms_paths` is a JSON list in time order."""

    __tablename__ = "mosaic_groups"
    __table_args__ = (Index("idx_mosaic_groups_status", "status"),)

    group_id: Mapped[str] = mapped_column(primary_key=True)
    ms_paths: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    created_at: Mapped[float]
    bpcal_solved: Mapped[int | None] = mapped_column(server_default=ZERO)
    calibration_ms_path: Mapped[str | None]
    stage: Mapped[str | None]
    cal_applied: Mapped[int | None] = mapped_column(server_default=ZERO)
    calibrated_at: Mapped[float | None]
    imaged_at: Mapped[float | None]
    mosaic_id: Mapped[str | None]
    mosaicked_at: Mapped[float | None]
    mosaic_path: Mapped[str | None]
    error: Mapped[str | None]


class MosaicGroupMember(ProductsBase):
    """One tile of a group: new in it, or carried over from the group before."""

    __tablename__ = "mosaic_group_members"
    __table_args__ = (
        UniqueConstraint("group_id", "ms_path"),
        Index(
            "idx_members_new_once",
            "ms_path",
            unique=True,
            sqlite_where=text("is_new = 1"),
            postgresql_where=text("is_new = 1"),
        ),
        Index("idx_members_group", "group_id", "position"),
        Index("idx_members_path", "ms_path"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("mosaic_groups.group_id"))
    ms_path: Mapped[str] = mapped_column(reference("ms_index.path"))
    position: Mapped[int]
    is_new: Mapped[int] = mapped_column(server_default=text("1"))


class QAArtifact(ProductsBase):
    """A plot, table or report about one group."""

    __tablename__ = "qa_artifacts"
    __table_args__ = (
        UniqueConstraint("group_id", "name"),
        Index("idx_qa_group", "group_id"),
        Index("idx_qa_created", "created_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[str]
    name: Mapped[str]
    path: Mapped[str]
    type: Mapped[str | None]
    category: Mapped[str | None]
    created_at: Mapped[float]
    removed_at: Mapped[float | None]
