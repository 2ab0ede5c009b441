"""products.sqlite3, second part: fluxes, variability, candidates and alerts.

`photometry` holds every measurement; `light_curves` those that feed the statistics: one row per source and
sidereal transit, not retracted. Fluxes are Jy or Jy/beam in `photometry`, mJy in `variability_stats`.
"""

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from dsa110_contimg.database.models.base import ONE, ZERO, add_view
from dsa110_contimg.database.models.products import ProductsBase, reference

IN_LIGHT_CURVE = "in_lightcurve = 1 AND retracted_at IS NULL"


class Photometry(ProductsBase):
    """One forced flux of one source in one image."""

    __tablename__ = "photometry"
    __table_args__ = (
        Index("idx_photometry_image", "image_path"),
        Index("idx_photometry_source", "source_id"),
        Index("idx_photometry_mjd", "mjd"),
        Index("idx_photometry_source_mjd", "source_id", "mjd"),
        # Holds all that a light curve shows: its rows lie scattered over the table, one page for each point.
        Index(
            "idx_photometry_light_curve",
            "source_id",
            "mjd",
            "id",
            "image_path",
            "peak_jyb",
            "peak_err_jyb",
            "normalized_flux_jy",
            "normalized_flux_err_jy",
            "upper_limit_jyb",
            "local_rms_jyb",
            "snr",
            "flags",
            "in_lightcurve",
            "retracted_at",
            sqlite_where=text(IN_LIGHT_CURVE),
            postgresql_where=text(IN_LIGHT_CURVE),
        ),
        UniqueConstraint("image_path", "source_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    image_path: Mapped[str] = mapped_column(reference("images.path"))
    source_id: Mapped[str]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    nvss_flux_mjy: Mapped[float | None]
    peak_jyb: Mapped[float]
    peak_err_jyb: Mapped[float | None]
    snr: Mapped[float | None]
    measured_at: Mapped[float]
    mjd: Mapped[float | None]
    sep_from_center_deg: Mapped[float | None]
    flags: Mapped[int | None] = mapped_column(server_default=ZERO)
    flux_jy: Mapped[float | None]
    flux_err_jy: Mapped[float | None]
    local_rms_jyb: Mapped[float | None]
    background_jyb: Mapped[float | None]
    upper_limit_jyb: Mapped[float | None]
    pb_response: Mapped[float | None]
    normalized_flux_jy: Mapped[float | None]
    normalized_flux_err_jy: Mapped[float | None]
    epoch_correction_id: Mapped[int | None]
    in_lightcurve: Mapped[int | None] = mapped_column(server_default=ZERO)
    retracted_at: Mapped[float | None]
    injected: Mapped[int | None] = mapped_column(server_default=ZERO)


class PhotometryMissing(ProductsBase):
    """A position that could not be measured, and why."""

    __tablename__ = "photometry_missing"

    image_path: Mapped[str] = mapped_column(reference("images.path"), primary_key=True)
    source_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]


class SubbandFlux(ProductsBase):
    """One source's flux in one part of the band of one image."""

    __tablename__ = "photometry_subbands"

    image_path: Mapped[str] = mapped_column(reference("images.path"), primary_key=True)
    source_id: Mapped[str] = mapped_column(primary_key=True)
    subband_idx: Mapped[int] = mapped_column(primary_key=True)
    freq_ghz: Mapped[float]
    flux_jy: Mapped[float | None]
    flux_err_jy: Mapped[float | None]


class EpochCorrection(ProductsBase):
    """The factor that brings one image onto the flux scale of its reference sources."""

    __tablename__ = "epoch_corrections"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    image_path: Mapped[str] = mapped_column(reference("images.path"), unique=True)
    mjd: Mapped[float | None]
    factor: Mapped[float | None]
    factor_err: Mapped[float | None]
    n_references: Mapped[int | None]
    reason: Mapped[str | None]
    computed_at: Mapped[float]


class VariabilityStats(ProductsBase):
    """How much and how surely one source varies."""

    __tablename__ = "variability_stats"
    __table_args__ = (
        Index("idx_variability_chi2", "chi2_nu"),
        Index("idx_variability_sigma", "sigma_deviation"),
        Index("idx_variability_last_mjd", "last_mjd"),
        Index("idx_variability_dec", "dec_deg"),
    )

    source_id: Mapped[str] = mapped_column(primary_key=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    nvss_flux_mjy: Mapped[float | None]
    n_obs: Mapped[int | None] = mapped_column(server_default=ZERO)
    mean_flux_mjy: Mapped[float | None]
    std_flux_mjy: Mapped[float | None]
    min_flux_mjy: Mapped[float | None]
    max_flux_mjy: Mapped[float | None]
    chi2_nu: Mapped[float | None]
    sigma_deviation: Mapped[float | None]
    last_measured_at: Mapped[float | None]
    last_mjd: Mapped[float | None]
    updated_at: Mapped[float]
    eta_metric: Mapped[float | None]
    v_metric: Mapped[float | None]


class LightCurveMoments(ProductsBase):
    """What the statistics of one source rest on: sums that one more point changes, whatever lies behind it."""

    __tablename__ = "light_curve_moments"
    # Read and written by its key alone: one tree instead of two.
    __table_args__ = ({"sqlite_with_rowid": False},)

    source_id: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[float]
    origin_jy: Mapped[float | None]
    level_jy: Mapped[float | None]
    floor_jy: Mapped[float | None]
    sum_d: Mapped[float]
    sum_dd: Mapped[float]
    sum_w: Mapped[float]
    sum_wd: Mapped[float]
    sum_wdd: Mapped[float]
    sum_v: Mapped[float]
    sum_vd: Mapped[float]
    sum_vdd: Mapped[float]
    min_jy: Mapped[float | None]
    max_jy: Mapped[float | None]
    last_mjd: Mapped[float | None]
    n_settled: Mapped[float]
    deviation: Mapped[float | None]
    extreme_mjd: Mapped[float | None]
    extreme_flux_jy: Mapped[float | None]


class ESECandidate(ProductsBase):
    """A source whose light curve awaits a person; at most one active row per source."""

    __tablename__ = "ese_candidates"
    __table_args__ = (
        Index("idx_ese_source", "source_id"),
        Index("idx_ese_status", "status"),
        Index("idx_ese_flagged", "flagged_at"),
        Index(
            "idx_ese_active_once",
            "source_id",
            unique=True,
            sqlite_where=text("status = 'active'"),
            postgresql_where=text("status = 'active'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[str] = mapped_column(ForeignKey("variability_stats.source_id"))
    flagged_at: Mapped[float]
    flagged_by: Mapped[str | None] = mapped_column(server_default=text("'auto'"))
    significance: Mapped[float]
    flag_type: Mapped[str]
    notes: Mapped[str | None]
    status: Mapped[str | None] = mapped_column(server_default=text("'active'"))
    investigated_at: Mapped[float | None]
    dismissed_at: Mapped[float | None]
    known_as: Mapped[str | None]


class TransientCandidate(ProductsBase):
    """A detection without a catalogue counterpart; `status` as in `ese_candidates`."""

    __tablename__ = "transient_candidates"
    __table_args__ = (
        Index("idx_transient_ra_dec", "ra_deg", "dec_deg"),
        Index("idx_transient_status", "status"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[str | None]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    detection_type: Mapped[str]
    significance_sigma: Mapped[float | None]
    detected_at: Mapped[float | None]
    priority: Mapped[str | None] = mapped_column(server_default=text("'normal'"))
    n_detections: Mapped[int | None] = mapped_column(server_default=ZERO)
    mean_flux_jy: Mapped[float | None]
    std_flux_jy: Mapped[float | None]
    eta: Mapped[float | None]
    v_index: Mapped[float | None]
    chi_squared: Mapped[float | None]
    is_variable: Mapped[int | None] = mapped_column(server_default=ZERO)
    ese_candidate: Mapped[int | None] = mapped_column(server_default=ZERO)
    first_detected_at: Mapped[float | None]
    last_detected_at: Mapped[float | None]
    last_updated: Mapped[float | None]
    notes: Mapped[str | None]
    known_as: Mapped[str | None]
    status: Mapped[str | None] = mapped_column(server_default=text("'active'"))
    investigated_at: Mapped[float | None]
    dismissed_at: Mapped[float | None]


class MonitoringSource(ProductsBase):
    """A source that somebody asked to watch."""

    __tablename__ = "monitoring_sources"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[str] = mapped_column(unique=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    n_detections: Mapped[int | None] = mapped_column(server_default=ZERO)
    mean_flux_jy: Mapped[float | None]
    std_flux_jy: Mapped[float | None]
    eta: Mapped[float | None]
    v_index: Mapped[float | None]
    is_variable: Mapped[int | None] = mapped_column(server_default=ZERO)
    ese_candidate: Mapped[int | None] = mapped_column(server_default=ZERO)
    first_detected_at: Mapped[float | None]
    last_detected_at: Mapped[float | None]
    name: Mapped[str | None]
    priority: Mapped[str | None]
    notes: Mapped[str | None]


class PointingHistory(ProductsBase):
    """Where the dishes looked."""

    __tablename__ = "pointing_history"
    __table_args__ = (Index("idx_pointing_mjd", "mjd"), Index("idx_pointing_dec", "dec_deg"))

    timestamp: Mapped[float] = mapped_column(primary_key=True)
    mjd: Mapped[float | None]
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    alt_deg: Mapped[float | None]
    az_deg: Mapped[float | None]
    lst_hours: Mapped[float | None]
    field_name: Mapped[str | None]


class AlertHistory(ProductsBase):
    """A message that was sent, or could not be; source_id is 'system' when it is about no source."""

    __tablename__ = "alert_history"
    __table_args__ = (
        Index("idx_alert_source", "source_id"),
        Index("idx_alert_sent", "sent_at"),
        Index("idx_alert_type", "alert_type"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[str]
    alert_type: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]
    sent_at: Mapped[float]
    channel: Mapped[str | None]
    success: Mapped[int | None] = mapped_column(server_default=ONE)
    error_msg: Mapped[str | None]
    acknowledged_at: Mapped[float | None]
    acknowledged_by: Mapped[str | None]
    resolved_at: Mapped[float | None]


add_view(
    ProductsBase.metadata,
    "light_curves",
    f"SELECT * FROM photometry WHERE {IN_LIGHT_CURVE}",
)
add_view(ProductsBase.metadata, "photometry_timeseries", "SELECT * FROM light_curves")
