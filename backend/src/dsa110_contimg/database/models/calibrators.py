"""calibrators.sqlite3: who may calibrate which strip of declination, and catalogue sources for sky models."""

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dsa110_contimg.database.models.base import COLUMN_TYPES, ZERO, dec_zone


class CalibratorsBase(DeclarativeBase):
    """The tables of calibrators.sqlite3."""

    type_annotation_map = COLUMN_TYPES


class BandpassCalibrator(CalibratorsBase):
    """A source bright enough for the bandpass when its declination strip is observed."""

    __tablename__ = "bandpass_calibrators"
    __table_args__ = (
        Index("idx_bandpass_dec_range", "dec_range_min", "dec_range_max"),
        Index("idx_bandpass_status", "status"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    calibrator_name: Mapped[str] = mapped_column(unique=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    dec_range_min: Mapped[float | None]
    dec_range_max: Mapped[float | None]
    source_catalog: Mapped[str | None]
    flux_jy: Mapped[float | None]
    registered_at: Mapped[float]
    registered_by: Mapped[str | None]
    status: Mapped[str | None] = mapped_column(server_default=text("'active'"))
    notes: Mapped[str | None]
    flux_freq_ghz: Mapped[float | None]
    spectral_index: Mapped[float | None]


class GainCalibrator(CalibratorsBase):
    """A source used for gains in one field."""

    __tablename__ = "gain_calibrators"
    __table_args__ = (UniqueConstraint("field_id", "source_name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    field_id: Mapped[str]
    source_name: Mapped[str]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    flux_jy: Mapped[float | None]
    catalog_source: Mapped[str | None]
    catalog_id: Mapped[str | None]
    created_at: Mapped[float]
    skymodel_path: Mapped[str | None]
    notes: Mapped[str | None]


class CatalogSource(CalibratorsBase):
    """A source of any imported catalogue."""

    __tablename__ = "catalog_sources"
    __table_args__ = (
        UniqueConstraint("catalog", "catalog_id"),
        Index("idx_catalog_sources_ra_dec", "ra_deg", "dec_deg"),
        Index("idx_catalog_sources_zone", "catalog", "dec_zone", "ra_deg"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_name: Mapped[str]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    flux_jy: Mapped[float | None]
    flux_freq_ghz: Mapped[float | None]
    spectral_index: Mapped[float | None]
    catalog: Mapped[str]
    catalog_id: Mapped[str | None]
    position_uncertainty_arcsec: Mapped[float | None]
    flux_uncertainty: Mapped[float | None]
    is_extended: Mapped[int | None] = mapped_column(server_default=ZERO)
    major_axis_arcsec: Mapped[float | None]
    minor_axis_arcsec: Mapped[float | None]
    position_angle_deg: Mapped[float | None]
    matched_to: Mapped[str | None]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    snr: Mapped[float | None]
    is_confused: Mapped[int | None] = mapped_column(server_default=ZERO)
    dec_zone: Mapped[int | None] = mapped_column(dec_zone())


class VLACalibrator(CalibratorsBase):
    """A source of the VLA calibrator list."""

    __tablename__ = "vla_calibrators"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    flux_jy: Mapped[float | None]
    flux_freq_ghz: Mapped[float | None]
    code_20_cm: Mapped[str | None]
    registered_at: Mapped[float]
    notes: Mapped[str | None]


class VLAFluxInfo(CalibratorsBase):
    """A VLA calibrator's flux at one frequency."""

    __tablename__ = "vla_flux_info"
    __table_args__ = (UniqueConstraint("vla_calibrator_id", "frequency_ghz"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    vla_calibrator_id: Mapped[int] = mapped_column(ForeignKey("vla_calibrators.id"))
    frequency_ghz: Mapped[float]
    flux_jy: Mapped[float]
    flux_uncertainty: Mapped[float | None]
    measurement_date: Mapped[str | None]
    band: Mapped[str | None]
    quality_codes: Mapped[str | None]
    uv_min_klambda: Mapped[float | None]
    uv_max_klambda: Mapped[float | None]


class SkymodelMetadata(CalibratorsBase):
    """A sky model file of a field."""

    __tablename__ = "skymodel_metadata"
    __table_args__ = (UniqueConstraint("field_id", "skymodel_path"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    field_id: Mapped[str]
    skymodel_path: Mapped[str]
    n_sources: Mapped[int]
    total_flux_jy: Mapped[float | None]
    created_at: Mapped[float]
    created_by: Mapped[str | None]
    notes: Mapped[str | None]
