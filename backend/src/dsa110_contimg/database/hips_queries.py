"""Which HiPS there are: that of each mosaic, beside it, and the versions of the whole sky, which are products."""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.database.models import DataProduct, ProductStatus

_SKY = and_(DataProduct.data_type == "image", DataProduct.data_id.startswith("sky_", autoescape=True))


class HipsRow(NamedTuple):
    """One product that has a HiPS, or may have one."""

    data_id: str
    data_type: str
    status: str
    published_at: float | None
    superseded_by: str | None
    place: str
    """Of the product: published, or else staged."""

    @property
    def folder(self) -> Path:
        """Where the HiPS is to be."""
        path = Path(self.place)
        return naming.beside_mosaic(path, "hips") if self.data_type == "mosaic" else path

    @property
    def is_sky(self) -> bool:
        """Whether it shows all mosaics, not one."""
        return self.data_type != "mosaic"


def _products() -> Select[DataProduct]:
    return select(DataProduct).where(or_(DataProduct.data_type == "mosaic", _SKY))


def _row(product: DataProduct) -> HipsRow:
    place = product.published_path or product.stage_path
    return HipsRow(
        product.data_id, product.data_type, product.status, product.published_at, product.superseded_by, place
    )


def find_hips(registry: Session, data_id: str) -> HipsRow | None:
    """Return a product that may have a HiPS, whatever its status but retracted."""
    wanted = _products().where(DataProduct.data_id == data_id, DataProduct.status != ProductStatus.RETRACTED.value)
    product = registry.scalar(wanted)
    return None if product is None else _row(product)


def list_hips(registry: Session, *, after: int | None = None, limit: int) -> list[tuple[int, HipsRow]]:
    """Return published products that may have a HiPS with their row numbers, the newest first."""
    wanted = _products().where(DataProduct.status == ProductStatus.PUBLISHED.value).order_by(DataProduct.id.desc())
    if after is not None:
        wanted = wanted.where(DataProduct.id < after)
    return [(product.id, _row(product)) for product in registry.scalars(wanted.limit(limit))]


def newest_sky(registry: Session) -> HipsRow | None:
    """Return the newest published version of the sky."""
    wanted = select(DataProduct).where(_SKY, DataProduct.status == ProductStatus.PUBLISHED.value)
    product = registry.scalar(wanted.order_by(DataProduct.id.desc()).limit(1))
    return None if product is None else _row(product)
