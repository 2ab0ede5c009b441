"""New sources on a mosaic: found blind, entered as transient candidates."""

import time
from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from dsa110_contimg.database import get_session
from dsa110_contimg.database.transient_repository import Sighting, store_sightings
from dsa110_contimg.photometry.new_sources import search_new
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.known_objects import known_as
from dsa110_contimg.visibilities import SkyImage

SAME_BEAMS = 0.5


def find_new_sources(context: Context, picture: SkyImage, noise: SkyImage) -> list[Sighting]:
    """Return what no catalogue source explains, however faint; nothing where the search is off."""
    options = context.options.photometry
    if options.new_sigma <= 0.0:
        return []
    ny, nx = picture.data.shape
    radius = 0.75 * picture.cell_deg * float(max(nx, ny))
    known = context.catalog(picture.middle, radius, 0.0)
    if not len(known):
        # Without a catalogue every source would be new.
        return []
    found = search_new(picture, noise, known, options)
    return [Sighting(source.ra_deg, source.dec_deg, source.flux_jy, source.snr) for source in found]


def store_new_sources(
    session: Session, path: str, mjd: float, sightings: Sequence[Sighting], picture: SkyImage
) -> None:
    """Enter the new sources of a mosaic."""
    radius = SAME_BEAMS * picture.beam.major_arcsec / 3600.0 if picture.beam is not None else 0.0
    found = store_sightings(session, path, mjd, sightings, radius, time.time())
    if found:
        ra, dec = np.array([(row.ra_deg, row.dec_deg) for row in found], float).T
        with get_session("calibrators", read_only=True) as calibrators:
            for row, known in zip(found, known_as(calibrators, ra, dec), strict=True):
                row.known_as = known
