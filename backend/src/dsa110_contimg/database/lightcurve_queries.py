"""Light curves as readers see them: each point with its image, its limit, its flags and the scale of its epoch.

The points come from an index that holds them (`idx_photometry_light_curve`); the image and the epoch's factor are
one look-up each. Fluxes are Jy, brightness Jy/beam, times MJD (UTC) at the source's transit.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Dialect, bindparam, literal_column, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_contimg.database.models import EpochCorrection, Image, Photometry
from dsa110_contimg.database.ordering import Query

SPARK_POINTS = 20


class Epoch(NamedTuple):
    """One point of a light curve; None is what was not measured."""

    id: int
    mjd: float
    normalized_flux_jy: float | None
    """On the flux scale of the epoch's reference sources."""
    normalized_flux_err_jy: float | None
    upper_limit_jyb: float | None
    """Set when the source is not detected."""
    peak_jyb: float
    peak_err_jyb: float | None
    local_rms_jyb: float | None
    snr: float | None
    flags: int | None
    in_lightcurve: bool
    """Whether it feeds the statistics: one measurement for each sidereal transit does."""
    retracted_at: float | None
    epoch_factor: float | None
    """What the epoch's measured fluxes are divided by."""
    epoch_factor_err: float | None
    image_id: int | None
    image: str
    image_noise_jy: float | None


_POINT: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    Photometry.id,
    Photometry.mjd,
    Photometry.normalized_flux_jy,
    Photometry.normalized_flux_err_jy,
    Photometry.upper_limit_jyb,
    Photometry.peak_jyb,
    Photometry.peak_err_jyb,
    Photometry.local_rms_jyb,
    Photometry.snr,
    Photometry.flags,
    Photometry.in_lightcurve,
    Photometry.retracted_at,
    EpochCorrection.factor,
    EpochCorrection.factor_err,
    Image.id,
    Photometry.image_path,
    Image.noise_jy,
)


def _with_image(query: Query) -> Query:
    return query.join(EpochCorrection, EpochCorrection.image_path == Photometry.image_path, isouter=True).join(
        Image, Image.path == Photometry.image_path, isouter=True
    )


_EVERY = _with_image(select(*_POINT)).where(Photometry.mjd.is_not(None)).order_by(Photometry.mjd, Photometry.id)
_FEEDING = _EVERY.where(Photometry.in_lightcurve == literal_column("1"), Photometry.retracted_at.is_(None))


def list_epochs(session: Session, source_id: str, *, every: bool = False) -> list[Epoch]:
    """Return the light curve of a source, by its name in full, in time order.

    Parameters
    ----------
    session
        Of `products`.
    source_id
        Name in full.
    every
        Also overlaps of one transit, and what was retracted.
    """
    connection = session.connection()
    # The question that is asked most goes to the driver as it is: to make it anew takes longer than its answer.
    text, positional = _compiled(every, connection.dialect)
    rows = connection.exec_driver_sql(text, (source_id,) if positional else {"source": source_id}).all()
    return [Epoch(*row)._replace(in_lightcurve=bool(row[10]), image=row[15].rpartition("/")[2]) for row in rows]


@functools.cache
def _compiled(every: bool, dialect: Dialect) -> tuple[str, bool]:
    """Return the question as a driver takes it, and whether the driver takes its parameter by position."""
    query = (_EVERY if every else _FEEDING).where(Photometry.source_id == bindparam("source"))
    compiled = query.compile(dialect=dialect)
    return str(compiled), bool(dialect.positional)


def recent_fluxes(session: Session, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Return the last points of some light curves, (mjd, normalized flux in Jy) in time order, by source."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    query = (
        select(Photometry.mjd, Photometry.normalized_flux_jy)
        .where(
            Photometry.mjd.is_not(None),
            Photometry.normalized_flux_jy.is_not(None),
            Photometry.in_lightcurve == 1,
            Photometry.retracted_at.is_(None),
        )
        .order_by(Photometry.mjd.desc(), Photometry.id.desc())
        .limit(SPARK_POINTS)
    )
    for name in found:
        rows = session.execute(query.where(Photometry.source_id == name)).all()
        found[name] = [(mjd, flux) for mjd, flux in reversed(rows) if mjd is not None and flux is not None]
    return found


def image_paths(session: Session, numbers: Sequence[int]) -> dict[int, str]:
    """Return where the files of some images are, by the images' numbers."""
    rows = session.execute(select(Image.id, Image.path).where(Image.id.in_(numbers)))
    return {number: path for number, path in rows}  # noqa: C416 - rows are no pairs to mypy
