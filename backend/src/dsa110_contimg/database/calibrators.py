"""Calibrators: which source calibrates which strip of declination, and which one which field.

A bandpass calibrator serves a range of declinations, so that a drift scan that its strip passes over can use its
transit; a gain calibrator serves one field. Whoever registers a source again tells only what is new: the rest of
its row keeps its values. The functions open `calibrators` themselves, or work in a session that they are given.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import BandpassCalibrator, GainCalibrator
from dsa110_contimg.database.row_checks import (
    CalibratorStatus,
    Value,
    check_bandpass_calibrator,
    check_gain_calibrator,
)
from dsa110_contimg.database.session import create_all, get_session
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model

REFERENCE_FREQ_HZ = 1.4e9
STRIP_HALF_WIDTH_DEG = 1.5


@contextmanager
def writing(session: Session | None) -> Iterator[Session]:
    """Yield a session of `calibrators`: the one given, or one that commits at the end."""
    if session is not None:
        yield session
        return
    create_all("calibrators")
    with get_session("calibrators") as own:
        yield own


@contextmanager
def reading(session: Session | None) -> Iterator[Session]:
    """Yield a session of `calibrators`: the one given, or one that refuses to write."""
    if session is not None:
        yield session
        return
    with get_session("calibrators", read_only=True) as own:
        yield own


def register_bandpass_calibrator(
    calibrator_name: str, ra_deg: float, dec_deg: float, *, session: Session | None = None, **columns: Value
) -> None:
    """Register a calibrator, or update what is told of a known one; the rest keeps its values.

    Parameters
    ----------
    calibrator_name
        Its unique name.
    ra_deg, dec_deg
        ICRS position.
    session
        A writing session of `calibrators`; without one the row is committed before the function returns.
    columns
        dec_range_min, dec_range_max (deg), flux_jy, flux_freq_ghz, spectral_index, source_catalog,
        status (`CalibratorStatus`), notes, registered_by, registered_at (unix).

    Raises
    ------
    ConfigurationError
        If a column is unknown or impossible; the database is unchanged then.
    """
    given = {**columns, "calibrator_name": calibrator_name, "ra_deg": ra_deg, "dec_deg": dec_deg}
    told = check_bandpass_calibrator(given)
    with writing(session) as active:
        known = active.scalar(select(BandpassCalibrator).where(BandpassCalibrator.calibrator_name == calibrator_name))
        if known is not None:
            limits = {"dec_range_min": known.dec_range_min, "dec_range_max": known.dec_range_max}
            check_bandpass_calibrator({**limits, **told})
        row = {"registered_at": time.time(), **told}
        statement = insert(BandpassCalibrator).values(**row)
        active.execute(statement.on_conflict_do_update(index_elements=["calibrator_name"], set_=told))
        active.expire_all()


def get_bandpass_calibrators(
    dec_deg: float | None = None, status: str | None = "active", *, session: Session | None = None
) -> list[BandpassCalibrator]:
    """Return the calibrators of a declination strip: the brightest first, then the nearest to the strip's center.

    A calibrator without a limit of declination has none on that side. `dec_deg` None returns those of every strip,
    `status` None those of every status.

    Raises
    ------
    ConfigurationError
        If the declination or the status is none.
    """
    if dec_deg is not None and not -90.0 <= dec_deg <= 90.0:
        raise ConfigurationError(f"dec_deg is {dec_deg}: a declination lies between -90 and 90")
    if status is not None and status not in list(CalibratorStatus):
        raise ConfigurationError(f"status is {status!r}: a calibrator is {', '.join(CalibratorStatus)}")
    low, high = BandpassCalibrator.dec_range_min, BandpassCalibrator.dec_range_max
    query = select(BandpassCalibrator).order_by(BandpassCalibrator.flux_jy.desc().nulls_last())
    if dec_deg is not None:
        query = query.where(or_(low.is_(None), low <= dec_deg), or_(high.is_(None), high >= dec_deg))
        query = query.order_by(func.abs(0.5 * (low + high) - dec_deg).nulls_last())
    if status is not None:
        query = query.where(BandpassCalibrator.status == status)
    with reading(session) as active:
        return list(active.scalars(query.order_by(BandpassCalibrator.calibrator_name)))


def register_gain_calibrator(
    field_id: str, source_name: str, ra_deg: float, dec_deg: float, *, session: Session | None = None, **columns: Value
) -> None:
    """Register a source that calibrates the gains of a field, or update what is told of a known one.

    Parameters
    ----------
    field_id, source_name
        Together unique.
    ra_deg, dec_deg
        ICRS position.
    session
        A writing session of `calibrators`; without one the row is committed before the function returns.
    columns
        flux_jy, catalog_source, catalog_id, skymodel_path, notes, created_at (unix).

    Raises
    ------
    ConfigurationError
        If a column is unknown or impossible; the database is unchanged then.
    """
    given = {**columns, "field_id": field_id, "source_name": source_name, "ra_deg": ra_deg, "dec_deg": dec_deg}
    told = check_gain_calibrator(given)
    statement = insert(GainCalibrator).values(**{"created_at": time.time(), **told})
    with writing(session) as active:
        active.execute(statement.on_conflict_do_update(index_elements=["field_id", "source_name"], set_=told))
        active.expire_all()


def get_gain_calibrators(field_id: str, *, session: Session | None = None) -> list[GainCalibrator]:
    """Return the gain calibrators of a field, the brightest first."""
    query = select(GainCalibrator).where(GainCalibrator.field_id == field_id)
    query = query.order_by(GainCalibrator.flux_jy.desc().nulls_last(), GainCalibrator.source_name)
    with reading(session) as active:
        return list(active.scalars(query))


def register_standard_calibrators(session: Session | None = None) -> list[str]:
    """Register the primary flux calibrators, each for the strip within 1.5 deg of it, and return their names.

    The flux (Jy at 1.4 GHz) and the spectral index there come from their polynomials.
    """
    freq = [REFERENCE_FREQ_HZ, REFERENCE_FREQ_HZ * 1.01]
    with writing(session) as active:
        for name, position in POSITIONS.items():
            flux = calibrator_model(name).flux_at(np.array(freq))[0]
            register_bandpass_calibrator(
                name,
                position.ra_deg,
                position.dec_deg,
                session=active,
                dec_range_min=position.dec_deg - STRIP_HALF_WIDTH_DEG,
                dec_range_max=position.dec_deg + STRIP_HALF_WIDTH_DEG,
                flux_jy=float(flux[0]),
                flux_freq_ghz=REFERENCE_FREQ_HZ / 1e9,
                spectral_index=float(np.log(flux[1] / flux[0]) / np.log(1.01)),
                source_catalog="Perley & Butler 2017",
            )
    return list(POSITIONS)
