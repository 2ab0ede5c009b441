"""Measurements as arrays, for what is computed of many sources at once, and the sums of their light curves.

A row of the photometry as an object costs 50 times as much as its numbers in an array. Absent numbers are NaN here.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, and_, delete, select
from sqlalchemy.orm import Session, aliased

from dsa110_contimg.database.bulk import fetch_all, in_parts, update_columns, upsert_columns
from dsa110_contimg.database.models import Image, LightCurveMoments, Mosaic, Photometry, VariabilityStats

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEFT_OUT = ("set_aside", "retracted")
"""Values of mosaics.status whose measurements feed no light curve."""
HALF_A_TRANSIT_DAYS = 0.25
"""Rows of a source this near in time may belong to one transit."""


@dataclass(frozen=True)
class MeasuredRows:
    """Rows of the photometry, (n_row,) each."""

    id: IntArray
    image_path: NDArray[np.object_]
    source_id: NDArray[np.object_]
    mjd: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    nvss_flux_mjy: FloatArray
    flux_jy: FloatArray
    flux_err_jy: FloatArray
    local_rms_jyb: FloatArray
    flags: IntArray
    measured_at: FloatArray
    in_lightcurve: IntArray
    normalized_flux_jy: FloatArray
    normalized_flux_err_jy: FloatArray
    counts: NDArray[np.bool_]
    """False: retracted, or its mosaic is left out."""

    def __len__(self) -> int:
        return self.id.size

    def by_source(self) -> tuple[list[str], IntArray]:
        """Return the names of the sources, and of each row which of them it is of, if the rows are in their order."""
        fresh = np.ones(len(self), np.bool_)
        fresh[1:] = self.source_id[1:] != self.source_id[:-1]
        return self.source_id[fresh].tolist(), np.cumsum(fresh) - 1

    def select(self, index: NDArray[np.bool_] | IntArray) -> "MeasuredRows":
        """Return the rows that a mask or an index picks."""
        return MeasuredRows(*(getattr(self, field.name)[index] for field in fields(self)))


_READ = tuple(field.name for field in fields(MeasuredRows) if field.name != "counts")
_WHOLE = ("id", "flags", "in_lightcurve")
_TEXT = ("image_path", "source_id")


def _query() -> Select[tuple[object, ...]]:
    """Return the question for measurements on mosaics, whether or not they count."""
    columns = [getattr(Photometry, name) for name in _READ]
    query = select(*columns, Photometry.retracted_at, Mosaic.status)
    joined = query.join(Image, Image.path == Photometry.image_path)
    return joined.outerjoin(Mosaic, Mosaic.path == Photometry.image_path).where(Image.type == "mosaic")


def _rows(session: Session, queries: Iterable[Select[tuple[object, ...]]]) -> MeasuredRows:
    """Return what some questions find, each row once, by source, time and image."""
    found = [row for query in queries for row in fetch_all(session, query)]
    columns = list(zip(*found, strict=True)) if found else [()] * (len(_READ) + 2)
    arrays: dict[str, NDArray[np.object_] | FloatArray | IntArray | NDArray[np.bool_]] = {}
    for name, values in zip(_READ, columns, strict=False):
        if name in _TEXT:
            arrays[name] = np.array(values, dtype=object)
        else:
            numbers = np.array(values, dtype=np.float64)
            arrays[name] = np.nan_to_num(numbers).astype(np.int64) if name in _WHOLE else numbers
    retracted, status = columns[-2:]
    counts = [taken is None and state not in LEFT_OUT for taken, state in zip(retracted, status, strict=True)]
    rows = MeasuredRows(**arrays, counts=np.array(counts, np.bool_))  # type: ignore[arg-type]
    rows = rows.select(np.lexsort((rows.id, _ranks(rows.image_path), rows.mjd, _ranks(rows.source_id))))
    again = np.zeros(len(rows), np.bool_)
    again[1:] = rows.id[1:] == rows.id[:-1]
    return rows.select(~again) if again.any() else rows


def _ranks(names: NDArray[np.object_]) -> IntArray:
    """Return the place of each name in the order of the distinct names."""
    place = {name: rank for rank, name in enumerate(sorted(set(names)))}
    return np.array([place[name] for name in names], np.int64)


def all_rows(session: Session) -> MeasuredRows:
    """Return all measurements on mosaics, by source and time."""
    return _rows(session, [_query()])


def rows_on(session: Session, paths: Collection[str]) -> MeasuredRows:
    """Return the measurements on some mosaics, by source and time."""
    return _rows(session, (_query().where(Photometry.image_path.in_(part)) for part in in_parts(sorted(paths))))


def rows_around(session: Session, paths: Collection[str]) -> MeasuredRows:
    """Return the measurements on some mosaics, and others of the same sources that may be of the same transit."""
    one = aliased(Photometry)
    near = and_(
        Photometry.source_id == one.source_id,
        Photometry.mjd >= one.mjd - HALF_A_TRANSIT_DAYS,
        Photometry.mjd <= one.mjd + HALF_A_TRANSIT_DAYS,
        Photometry.image_path != one.image_path,
    )
    own = [_query().where(Photometry.image_path.in_(part)) for part in in_parts(sorted(paths))]
    others = [_query().join(one, near).where(one.image_path.in_(part)) for part in in_parts(sorted(paths))]
    return _rows(session, [*own, *others])


def has_many_points(session: Session, number: int) -> bool:
    """Say whether the light curves of the database hold more points than a number."""
    counting = select(Photometry.id).where(Photometry.in_lightcurve == 1, Photometry.retracted_at.is_(None))
    return session.execute(counting.limit(1).offset(number)).first() is not None


@dataclass(frozen=True)
class StoredCurves:
    """Normalized light curves, one after the other, each in order of time."""

    offsets: IntArray
    """(n_source + 1,)."""
    mjd: FloatArray
    flux_jy: FloatArray
    flux_err_jy: FloatArray

    def curve(self, source: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return times, fluxes and errors of one source."""
        span = slice(self.offsets[source], self.offsets[source + 1])
        return self.mjd[span], self.flux_jy[span], self.flux_err_jy[span]


def stored_curves(session: Session, sources: Sequence[str], unusable: int) -> StoredCurves:
    """Return the light curves of sources, (n_source,), without rows that have one of the unusable flags."""
    place = {name: index for index, name in enumerate(sources)}
    columns = (Photometry.mjd, Photometry.normalized_flux_jy, Photometry.normalized_flux_err_jy, Photometry.flags)
    told = (Photometry.in_lightcurve == 1, Photometry.retracted_at.is_(None), Photometry.mjd.is_not(None))
    blocks = [np.zeros((0, 5))]
    for part in in_parts(sources):
        query = select(Photometry.source_id, *columns).where(Photometry.source_id.in_(part), *told)
        found = fetch_all(session, query)
        if found:
            names, *numbers = zip(*found, strict=True)
            block = [np.array([place[name] for name in names], np.float64)]
            blocks.append(np.stack([*block, *(np.array(column, np.float64) for column in numbers)], axis=1))
    points = np.concatenate(blocks)
    good = np.isfinite(points[:, 2]) & (points[:, 3] > 0.0)
    good &= (np.nan_to_num(points[:, 4]).astype(np.int64) & unusable) == 0
    points = points[good]
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    owner = points[:, 0].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(sources)))]).astype(np.int64)
    mjd, flux, error = (np.ascontiguousarray(points[:, column]) for column in (1, 2, 3))
    return StoredCurves(offsets, mjd, flux, error)


def store_points(
    session: Session, rows: MeasuredRows, chosen: NDArray[np.bool_], values: tuple[FloatArray, FloatArray],
    corrections: Sequence[int | None],
) -> None:  # fmt: skip
    """Record which rows feed the light curves, and their normalized fluxes and errors (NaN: none).

    Parameters
    ----------
    rows, chosen, values, corrections
        The rows; whether each feeds its light curve; normalized flux and error; id of the epoch's correction.
    """
    flux, error = (np.where(chosen, column, np.nan).tolist() for column in values)
    columns = {
        "in_lightcurve": chosen.astype(int).tolist(),
        "normalized_flux_jy": flux,
        "normalized_flux_err_jy": error,
        "epoch_correction_id": [one if kept else None for one, kept in zip(corrections, chosen, strict=True)],
    }
    update_columns(session, Photometry, "id", rows.id.tolist(), columns)


def load_moments(session: Session, sources: Sequence[str], names: Sequence[str]) -> dict[str, Sequence[float]]:
    """Return the stored columns of moments by source; one that has none is left out."""
    columns = [getattr(LightCurveMoments, name) for name in names]
    found: dict[str, Sequence[float]] = {}
    for part in in_parts(sources):
        query = select(LightCurveMoments.source_id, *columns).where(LightCurveMoments.source_id.in_(part))
        found.update((row[0], row[1:]) for row in fetch_all(session, query))
    return found


def moments_on(session: Session, paths: Collection[str], names: Sequence[str]) -> dict[str, Sequence[float]]:
    """Return the stored columns of moments of the sources that were measured on some mosaics."""
    columns = [getattr(LightCurveMoments, name) for name in names]
    found: dict[str, Sequence[float]] = {}
    for part in in_parts(sorted(paths)):
        query = select(LightCurveMoments.source_id, *columns)
        query = query.join(Photometry, Photometry.source_id == LightCurveMoments.source_id)
        rows = fetch_all(session, query.where(Photometry.image_path.in_(part)))
        found.update((row[0], row[1:]) for row in rows)
    return found


def store_moments(session: Session, sources: Sequence[str], names: Sequence[str], moments: FloatArray) -> None:
    """Record the moments of sources, (n_source, n_column); those without a point are removed."""
    held = moments[:, list(names).index("n")] > 0.0
    columns = {name: moments[held, column].tolist() for column, name in enumerate(names)}
    kept = [source for source, here in zip(sources, held, strict=True) if here]
    upsert_columns(session, LightCurveMoments, ["source_id"], {"source_id": kept} | columns)
    for part in in_parts(source for source, here in zip(sources, held, strict=True) if not here):
        session.execute(delete(LightCurveMoments).where(LightCurveMoments.source_id.in_(part)))


def forget_moments(session: Session) -> None:
    """Remove all moments."""
    session.execute(delete(LightCurveMoments))


def empty_statistics(session: Session, sources: Iterable[str], columns: Sequence[str]) -> None:
    """Leave nothing in the statistics of sources but the sources themselves."""
    nothing = dict.fromkeys((*columns, "last_measured_at")) | {"n_obs": 0, "updated_at": time.time()}
    names = list(sources)
    update_columns(
        session, VariabilityStats, "source_id", names, {name: [value] * len(names) for name, value in nothing.items()}
    )
