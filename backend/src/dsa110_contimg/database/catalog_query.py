"""Cone searches on the master catalogue: a box on the (ra_deg, dec_deg) index, then the exact separation.

A circle of radius r about declination δ spans, with |δ| + r < 90°,

    |Δα| ≤ asin(sin r / cos δ)

in right ascension, and all of it when the circle holds a pole.
"""

import logging
import math

import numpy as np
from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from dsa110_contimg.database.models import Source
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.visibilities import SkyModel, SkyPosition

logger = logging.getLogger(__name__)

DEFAULT_SPECTRAL_INDEX = -0.7
CATALOG_FREQ_HZ = 1.4e9
_MARGIN_DEG = 1e-9


def ra_intervals(center: SkyPosition, radius_deg: float) -> list[tuple[float, float]]:
    """Return the intervals of right ascension in [0, 360] (deg) that hold a circle: one, or two across RA 0."""
    if abs(center.dec_deg) + radius_deg >= 90.0 - _MARGIN_DEG:
        return [(0.0, 360.0)]
    ratio = math.sin(math.radians(radius_deg)) / math.cos(math.radians(center.dec_deg))
    half = math.degrees(math.asin(min(1.0, ratio))) + _MARGIN_DEG
    low, high = center.ra_deg % 360.0 - half, center.ra_deg % 360.0 + half
    if high - low >= 360.0:
        return [(0.0, 360.0)]
    if low < 0.0:
        return [(low + 360.0, 360.0), (0.0, high)]
    return [(low, 360.0), (0.0, high - 360.0)] if high > 360.0 else [(low, high)]


def _in_box(center: SkyPosition, radius_deg: float) -> ColumnElement[bool]:
    span = radius_deg + _MARGIN_DEG
    ra = or_(*(Source.ra_deg.between(low, high) for low, high in ra_intervals(center, radius_deg)))
    return and_(ra, Source.dec_deg.between(center.dec_deg - span, center.dec_deg + span))


def _bright(query: Select[Source], min_flux_jy: float) -> Select[Source]:
    return query.where(Source.s_nvss >= min_flux_jy) if min_flux_jy > 0.0 else query


def find_sources(session: Session, center: SkyPosition, radius_deg: float, min_flux_jy: float = 0.0) -> list[Source]:
    """Return the sources within a radius (deg, inclusive) of a position, the nearest first.

    With a positive `min_flux_jy` sources without an NVSS flux are left out.
    """
    rows = list(session.scalars(_bright(select(Source).where(_in_box(center, radius_deg)), min_flux_jy)))
    if not rows:
        return []
    ra, dec = np.radians([row.ra_deg for row in rows]), np.radians([row.dec_deg for row in rows])
    distance = np.degrees(separation(math.radians(center.ra_deg), math.radians(center.dec_deg), ra, dec))
    order = np.lexsort((np.array([row.source_id for row in rows]), distance))
    return [rows[i] for i in order if distance[i] <= radius_deg]


def load_sky_model(session: Session, center: SkyPosition, radius_deg: float, min_flux_jy: float) -> SkyModel:
    """Return the catalogue around a position as point sources, named by their source ids.

    A source of unknown spectral index gets DEFAULT_SPECTRAL_INDEX; how many do is logged, and
    `assumed_spectra` names them.
    """
    rows = [row for row in find_sources(session, center, radius_deg, min_flux_jy) if row.s_nvss is not None]
    assumed = assumed_spectra(rows)
    if assumed:
        logger.info("%d of %d sources get the spectral index %.1f", len(assumed), len(rows), DEFAULT_SPECTRAL_INDEX)
    alpha = [DEFAULT_SPECTRAL_INDEX if row.alpha is None else row.alpha for row in rows]
    return SkyModel(
        names=[row.source_id for row in rows],
        ra_deg=np.array([row.ra_deg for row in rows], dtype=float),
        dec_deg=np.array([row.dec_deg for row in rows], dtype=float),
        flux_jy=np.array([row.s_nvss for row in rows], dtype=float),
        spectrum=np.array(alpha, dtype=float).reshape(-1, 1),
        ref_freq_hz=CATALOG_FREQ_HZ,
    )


def assumed_spectra(rows: list[Source]) -> list[str]:
    """Return the ids of sources whose spectral index is not known."""
    return [row.source_id for row in rows if row.alpha is None]
