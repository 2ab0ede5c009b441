"""Which version of a mosaic feeds the light curves, and the rows of products that say so.

A mosaic that is made anew is a new row, file and product; its versions show the same photons, so that one counts:

    the newest that is published; while none is, the oldest that is not retracted

`mosaics.status` holds the answer: 'completed' counts, 'set_aside' gives way to another version, 'retracted' was taken
back. It follows from the data registry, and the statistics and candidates change with it in one transaction.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database import get_session
from dsa110_contimg.database.bulk import in_parts
from dsa110_contimg.database.light_curve_rows import LEFT_OUT
from dsa110_contimg.database.models import DataProduct, Mosaic, Photometry, ProductStatus, SubbandFlux
from dsa110_contimg.naming import parse_mosaic_id
from dsa110_contimg.options import PhotometryOptions
from dsa110_contimg.pipeline.variability import update_variability

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """One mosaic of a group, and where its product stands."""

    name: str
    group_id: str
    product_status: str | None = None
    """None: it is not registered yet."""

    @property
    def number(self) -> int:
        """One, or the number that ends its name."""
        parsed = parse_mosaic_id(self.name)
        return 1 if parsed is None else parsed[1]

    @property
    def rank(self) -> tuple[bool, int]:
        """What is greatest for the version that counts."""
        published = self.product_status == ProductStatus.PUBLISHED
        return published, self.number if published else -self.number


def standings(versions: Iterable[Version]) -> dict[str, str]:
    """Return, by mosaic, whether it counts ('completed'), is 'set_aside' or 'retracted'."""
    groups: dict[str, list[Version]] = {}
    for version in versions:
        groups.setdefault(version.group_id, []).append(version)
    answer = {}
    for group in groups.values():
        standing = [version for version in group if version.product_status != ProductStatus.RETRACTED]
        counting = max(standing, key=lambda version: version.rank, default=None)
        for version in group:
            kept = "completed" if version is counting else "set_aside"
            answer[version.name] = kept if version in standing else "retracted"
    return answer


class _Product(NamedTuple):
    status: str
    retracted_at: float | None
    reason: str | None


class _Row(NamedTuple):
    name: str
    group_id: str
    status: str | None


def follow_retractions(options: PhotometryOptions) -> list[str]:
    """Let light curves follow what was retracted, and which version of each mosaic counts; return what changed.

    Only mosaics that are open, or newly retracted, are looked at, each with the other versions of its group.
    """
    retracted = _products(DataProduct.status == ProductStatus.RETRACTED.value)
    with get_session("products", read_only=True) as session:
        rows = _families(session, retracted)
    products = {}
    for part in in_parts(row.name for row in rows):
        products.update(_products(DataProduct.data_id.in_(part)))
    changes = _changes(rows, products)
    if changes:
        with get_session("products") as session:
            _follow(session, changes, products, options)
        logger.info("light curves follow: %s", ", ".join(f"{name} is {status}" for name, status in changes.items()))
    return list(changes)


def _products(which: ColumnElement[bool]) -> dict[str, _Product]:
    columns = (DataProduct.data_id, DataProduct.status, DataProduct.retracted_at, DataProduct.retract_reason)
    with get_session("data_registry", read_only=True) as session:
        rows = session.execute(select(*columns).where(DataProduct.data_type == "mosaic", which))
        return {data_id: _Product(status, moment, why) for data_id, status, moment, why in rows}


def _families(session: Session, retracted: Collection[str]) -> list[_Row]:
    """Return the mosaics whose product may have changed, and all versions of the same groups."""
    found = _rows(session, Mosaic.closed_at.is_(None))
    for part in in_parts(retracted):
        found |= _rows(session, Mosaic.name.in_(part))
    moving = [row.group_id for row in found.values() if row.status != "retracted" or row.name not in retracted]
    for part in in_parts(moving):
        found |= _rows(session, Mosaic.group_id.in_(part))
    return [found[name] for name in sorted(found)]


def _rows(session: Session, which: ColumnElement[bool]) -> dict[str, _Row]:
    columns = select(Mosaic.name, func.coalesce(Mosaic.group_id, Mosaic.name), Mosaic.status)
    return {name: _Row(name, group_id, status) for name, group_id, status in session.execute(columns.where(which))}


def _changes(rows: Sequence[_Row], products: Mapping[str, _Product]) -> dict[str, str]:
    """Return the mosaics whose status has to change, and to what."""
    wanted = standings(
        Version(row.name, row.group_id, products[row.name].status if row.name in products else None) for row in rows
    )
    return {
        row.name: wanted[row.name]
        for row in rows
        if row.status != wanted[row.name] and (row.status in LEFT_OUT or wanted[row.name] in LEFT_OUT)
    }


def _follow(
    session: Session, changes: dict[str, str], products: Mapping[str, _Product], options: PhotometryOptions
) -> None:
    """Change the statuses of mosaics, mark their photometry, and let the light curves follow."""
    withdrawn, paths = {}, []
    for mosaic in session.scalars(select(Mosaic).where(Mosaic.name.in_(changes))):
        paths.append(mosaic.path)
        mosaic.status = changes[mosaic.name]
        if mosaic.status == "retracted":
            product = products[mosaic.name]
            withdrawn[mosaic.path] = f"{mosaic.name} was retracted ({product.reason or 'no reason recorded'})"
            rows = update(Photometry).where(Photometry.image_path == mosaic.path)
            session.execute(rows.values(retracted_at=product.retracted_at))
            session.execute(delete(SubbandFlux).where(SubbandFlux.image_path == mosaic.path))
        elif mosaic.status == "set_aside":
            withdrawn[mosaic.path] = f"another version of {mosaic.name} counts"
    session.flush()
    update_variability(session, options, withdrawn, paths)
