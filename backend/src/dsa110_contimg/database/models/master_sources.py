"""master_sources.sqlite3: the crossmatched catalogue, and who among it may serve as a reference.

Fluxes are in Jy. `good_references` and `final_references` accept a source of unknown spectral index: the flux
scale must not depend on a second survey having covered the field.
"""

from sqlalchemy import Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dsa110_contimg.database.models.base import COLUMN_TYPES, ZERO, add_view, dec_zone


class MasterSourcesBase(DeclarativeBase):
    """The tables of master_sources.sqlite3."""

    type_annotation_map = COLUMN_TYPES


class Source(MasterSourcesBase):
    """One source of the sky."""

    __tablename__ = "sources"
    __table_args__ = (
        Index("idx_sources_ra_dec", "ra_deg", "dec_deg"),
        Index("idx_sources_flux", "s_nvss"),
        Index("idx_sources_alpha", "alpha"),
        Index("idx_sources_zone", "dec_zone", "ra_deg"),
    )

    source_id: Mapped[str] = mapped_column(primary_key=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    s_nvss: Mapped[float | None]
    snr_nvss: Mapped[float | None]
    s_vlass: Mapped[float | None]
    alpha: Mapped[float | None]
    resolved_flag: Mapped[int | None] = mapped_column(server_default=ZERO)
    confusion_flag: Mapped[int | None] = mapped_column(server_default=ZERO)
    first_size_maj_arcsec: Mapped[float | None]
    first_size_min_arcsec: Mapped[float | None]
    first_size_pa_deg: Mapped[float | None]
    s_first: Mapped[float | None]
    s_rax: Mapped[float | None]
    alpha_err: Mapped[float | None]
    dec_zone: Mapped[int | None] = mapped_column(dec_zone())


add_view(
    MasterSourcesBase.metadata,
    "good_references",
    "SELECT * FROM sources WHERE s_nvss IS NOT NULL AND snr_nvss >= 7.0"
    " AND (alpha BETWEEN -1.5 AND 0.5 OR alpha IS NULL) AND resolved_flag = 0 AND confusion_flag = 0",
)
add_view(MasterSourcesBase.metadata, "final_references", "SELECT * FROM good_references WHERE snr_nvss >= 10.0")
add_view(MasterSourcesBase.metadata, "strict_references", "SELECT * FROM good_references WHERE snr_nvss >= 50.0")
