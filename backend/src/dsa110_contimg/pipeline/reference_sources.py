"""Measurements at catalogue positions, as QA wants to see them."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.database import get_session
from dsa110_contimg.database.catalog_query import extended_sources
from dsa110_contimg.database.models import MSIndex
from dsa110_contimg.kernels.sphere import mean_direction, separation
from dsa110_contimg.photometry.crossmatch import isolated
from dsa110_contimg.photometry.forced import Measurement, Missing, PhotometryFlag
from dsa110_contimg.photometry.planes import to_pixel
from dsa110_contimg.pipeline.context import Context, pointing
from dsa110_contimg.qa.checks import ReferenceSources
from dsa110_contimg.visibilities import SkyImage, SkyModel, SkyPosition

ISOLATION_BEAMS = 3.0
FIELD_RADIUS_DEG = 3.0
UNFIT = PhotometryFlag.EDGE | PhotometryFlag.LOW_BEAM | PhotometryFlag.CONFUSED | PhotometryFlag.NEAR_BRIGHT


def footprint(picture: SkyImage, sources: SkyModel) -> NDArray[np.bool_]:
    """Return which sources lie on a pixel with a value."""
    x, y = to_pixel(picture, sources.ra_deg, sources.dec_deg)
    column, row = np.rint(np.nan_to_num(x, nan=-1.0)).astype(int), np.rint(np.nan_to_num(y, nan=-1.0)).astype(int)
    ny, nx = picture.data.shape
    inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
    inside[inside] = np.isfinite(picture.data[row[inside], column[inside]])
    return np.asarray(inside)


def strip_catalog(context: Context, tiles: Sequence[MSIndex]) -> SkyModel:
    """Return the compact catalogue sources of the fields of some tiles."""
    ra, dec = np.radians([pointing(tile) for tile in tiles]).T
    middle = mean_direction(ra, dec)
    reach = float(np.degrees(separation(ra, dec, *middle).max())) + FIELD_RADIUS_DEG
    center = SkyPosition(*np.degrees(middle).tolist())
    sources = context.catalog(center, reach, context.options.photometry.min_flux_jy)
    with get_session("master_sources", read_only=True) as session:
        extended = extended_sources(session, sources.names)
    return sources.select(np.array([name not in extended for name in sources.names], bool))


def known_sources(
    picture: SkyImage, sources: SkyModel, measurements: Sequence[Measurement | Missing]
) -> ReferenceSources:
    """Pair catalogue fluxes with measured ones; the catalogue of known sources says which are extended."""
    with get_session("master_sources", read_only=True) as session:
        return reference_sources(picture, sources, measurements, extended_sources(session, sources.names))


def reference_sources(
    picture: SkyImage,
    sources: SkyModel,
    measurements: Sequence[Measurement | Missing],
    extended: Collection[str] = (),
) -> ReferenceSources:
    """Pair catalogue fluxes with measured ones.

    A source counts as isolated if nothing lies within three beams, and it is none of those that the catalogue calls
    extended.
    """
    beam_deg = (picture.beam.major_arcsec if picture.beam else 60.0) / 3600.0
    alone = isolated(sources, ISOLATION_BEAMS * beam_deg)
    reference = sources.flux_at(np.array([picture.freq_hz]))[:, 0]
    measured = [
        (item, flux, bool(lonely and not item.flags & UNFIT and item.source_id not in extended))
        for item, flux, lonely in zip(measurements, reference, alone, strict=True)
        if isinstance(item, Measurement)
    ]

    def column(values: list[float | None]) -> NDArray[np.float64]:
        return np.array([np.nan if value is None else value for value in values], float)

    return ReferenceSources(
        name=[item.source_id for item, _flux, _fit in measured],
        flux_jy=column([item.flux_jy for item, _flux, _fit in measured]),
        flux_err_jy=column([item.flux_err_jy for item, _flux, _fit in measured]),
        reference_jy=column([flux for _item, flux, _fit in measured]),
        local_noise_jy=column([item.local_rms_jyb for item, _flux, _fit in measured]),
        offset_east_arcsec=column([item.offset_ra_arcsec for item, _flux, _fit in measured]),
        offset_north_arcsec=column([item.offset_dec_arcsec for item, _flux, _fit in measured]),
        isolated=np.array([fit for _item, _flux, fit in measured], bool),
    )
