"""products.sqlite3, fifth part: sources that runs put into images to learn what they miss.

Nothing here is on the sky. No other table holds a row of them, so that no query can mix them with what is.
"""

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dsa110_contimg.database.models.products import ProductsBase, reference


class InjectedSource(ProductsBase):
    """A source that is not there, and what the pipeline made of it."""

    __tablename__ = "injected_sources"

    source_id: Mapped[str] = mapped_column(primary_key=True)
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    kind: Mapped[str]
    flux_jy: Mapped[float]
    middle_mjd: Mapped[float]
    days: Mapped[float]
    depth: Mapped[float]
    n_obs: Mapped[int | None]
    n_event: Mapped[int | None]
    found_as: Mapped[str | None]
    significance: Mapped[float | None]
    found_mjd: Mapped[float | None]
    put_into: Mapped[str | None] = mapped_column(server_default=text("'mosaic'"))


class InjectedFlux(ProductsBase):
    """Its flux on one image, as it was put in and as it was measured."""

    __tablename__ = "injected_fluxes"
    __table_args__ = (Index("idx_injected_fluxes_source", "source_id"),)

    image_path: Mapped[str] = mapped_column(reference("images.path"), primary_key=True)
    source_id: Mapped[str] = mapped_column(primary_key=True)
    mjd: Mapped[float]
    true_flux_jy: Mapped[float]
    flux_jy: Mapped[float | None]
    flux_err_jy: Mapped[float | None]
    local_rms_jyb: Mapped[float | None]
    flags: Mapped[int | None]
