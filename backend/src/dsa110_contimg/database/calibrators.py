"""Bandpass calibrators: which source calibrates which strip of declination.

The functions open `calibrators` themselves, or work in a session that they are given.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import BandpassCalibrator
from dsa110_contimg.database.session import create_all, get_session
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.flux_scale import POSITIONS, calibrator_model

REFERENCE_FREQ_HZ = 1.4e9
STRIP_HALF_WIDTH_DEG = 1.5
Value = str | float | None


@contextmanager
def _session_or(session: Session | None) -> Iterator[Session]:
    if session is not None:
        yield session
        return
    create_all("calibrators")
    with get_session("calibrators") as own:
        yield own


def register_bandpass_calibrator(
    calibrator_name: str, ra_deg: float, dec_deg: float, *, session: Session | None = None, **columns: Value
) -> None:
    """Register a calibrator, or update what is told of a known one; the rest keeps its values.

    Parameters
    ----------
    columns
        dec_range_min, dec_range_max (deg), flux_jy, flux_freq_ghz, spectral_index, source_catalog, status, notes,
        registered_by, registered_at.

    Raises
    ------
    ConfigurationError
        If the position or the range of declination is none.
    """
    low, high = columns.get("dec_range_min"), columns.get("dec_range_max")
    if not (0.0 <= ra_deg < 360.0 and -90.0 <= dec_deg <= 90.0):
        raise ConfigurationError(f"calibrator {calibrator_name}: ({ra_deg}, {dec_deg}) is no position in degrees")
    if isinstance(low, float) and isinstance(high, float) and low > high:
        raise ConfigurationError(f"calibrator {calibrator_name}: the declination range {low} to {high} is empty")
    told = {"ra_deg": ra_deg, "dec_deg": dec_deg, **columns}
    row = {"registered_at": time.time(), **told, "calibrator_name": calibrator_name}
    statement = insert(BandpassCalibrator).values(**row)
    with _session_or(session) as active:
        active.execute(statement.on_conflict_do_update(index_elements=["calibrator_name"], set_=told))
        active.expire_all()


def get_bandpass_calibrators(
    dec_deg: float | None = None, status: str | None = "active", *, session: Session | None = None
) -> list[BandpassCalibrator]:
    """Return the calibrators of a declination strip: the brightest first, then the nearest to the strip's center."""
    low, high = BandpassCalibrator.dec_range_min, BandpassCalibrator.dec_range_max
    query = select(BandpassCalibrator).order_by(BandpassCalibrator.flux_jy.desc().nulls_last())
    if dec_deg is not None:
        query = query.where(or_(low.is_(None), low <= dec_deg), or_(high.is_(None), high >= dec_deg))
        query = query.order_by(func.abs(0.5 * (low + high) - dec_deg).nulls_last())
    if status is not None:
        query = query.where(BandpassCalibrator.status == status)
    with _session_or(session) as active:
        return list(active.scalars(query.order_by(BandpassCalibrator.calibrator_name)))


def register_standard_calibrators(session: Session | None = None) -> list[str]:
    """Register the primary flux calibrators, each for the strip within 1.5 deg of it, and return their names.

    The flux (Jy at 1.4 GHz) and the spectral index there come from their polynomials.
    """
    freq = [REFERENCE_FREQ_HZ, REFERENCE_FREQ_HZ * 1.01]
    with _session_or(session) as active:
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
