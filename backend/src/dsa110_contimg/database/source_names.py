"""The source that somebody means: names in all usual spellings, positions in all usual forms, to the master catalogue.

    NVSS J133108.2+303032, nvss_j133108+303032, J1331+3030    a name of ours, or any part of its digits
    3C286, 3c 286, VLASS1QLCIR J..., 1331+305                 a name of another survey, a calibrator's
    B1328+307, PKS 1328+307                                   digits of B1950, where those of J2000 mean nobody
    13:31:08.29 +30:30:33, 202.7845 30.5092                   a position: the nearest source within 30"

The digits of a name are its position, cut off: they mean the sources of a small box. Digits without a letter are those
of J2000 if that finds somebody.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_contimg.database.catalog_query import find_sources
from dsa110_contimg.database.models import CatalogSource, Source
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.naming import NamedBox, parse_box, parse_position
from dsa110_contimg.visibilities import SkyPosition

POSITION_RADIUS_DEG = 30.0 / 3600.0
"""A position means no source that lies farther away."""
MARGIN_DEG = 2.0 / 3600.0
"""Other lists have cut other positions off."""


class Meant(NamedTuple):
    """A source that a spelling fits."""

    source_id: str
    ra_deg: float
    dec_deg: float
    separation_deg: float
    """From the position that the spelling tells."""


def resolve(master: Session, calibrators: Session, spelling: str) -> list[Meant]:
    """Return the sources of the master catalogue that a spelling fits, the brightest first; empty for nobody.

    Parameters
    ----------
    master, calibrators
        Sessions of the databases of these names.
    """
    words = " ".join(spelling.replace("_", " ").split())
    # An old spelling of ours, or another catalogue's, has the case and the spaces of whoever wrote it.
    known = master.get(Source, words)
    if known is None:
        known = master.scalars(select(Source).where(func.lower(Source.source_id) == words.lower())).first()
    if known is not None:
        return [Meant(known.source_id, known.ra_deg, known.dec_deg, 0.0)]
    for place, reach in _places(calibrators, words):
        found = _near(master, place, reach)
        if found:
            return found
    return []


def resolve_one(master: Session, calibrators: Session, spelling: str) -> Meant:
    """Return the one source that a spelling fits.

    Raises
    ------
    PipelineError
        If it fits none, or several.
    """
    found = resolve(master, calibrators, spelling)
    if len(found) == 1:
        return found[0]
    if not found:
        raise PipelineError(
            f"{spelling!r} fits no source of the catalogue: give a name (NVSS J133108+303032, 3C286) or a position "
            "(202.7845 30.5092)"
        )
    names = ", ".join(one.source_id for one in found[:3])
    raise PipelineError(f"{spelling!r} fits {len(found)} sources ({names}…): write more digits")


def _places(calibrators: Session, words: str) -> Iterator[tuple[SkyPosition, NamedBox | None]]:
    """Yield what a spelling may tell, the surest first: a position, or a box about one."""
    compact = words.replace(" ", "").upper()
    if compact in POSITIONS:
        yield POSITIONS[compact], None
    names = {words.lower(), compact.lower()}
    query = select(CatalogSource.ra_deg, CatalogSource.dec_deg)
    for row in calibrators.execute(query.where(func.lower(CatalogSource.source_name).in_(names)).limit(5)):
        yield SkyPosition(*row), None
    box = parse_box(words)
    if box is not None:
        if box.equinox != "B":
            yield SkyPosition(box.ra_deg, box.dec_deg), box
        if box.equinox != "J":
            yield _from_1950(box), box
    position = parse_position(words)
    if position is not None:
        yield SkyPosition(*position), None


def _from_1950(box: NamedBox) -> SkyPosition:
    place = SkyCoord(box.ra_deg * units.deg, box.dec_deg * units.deg, frame="fk4", equinox="B1950").icrs
    return SkyPosition(float(place.ra.deg), float(place.dec.deg))


def _near(master: Session, place: SkyPosition, box: NamedBox | None) -> list[Meant]:
    """Return the sources of a box, or the one nearest to a position."""
    if not 0.0 <= place.ra_deg <= 360.0 or not -90.0 <= place.dec_deg <= 90.0:
        return []
    reach = POSITION_RADIUS_DEG if box is None else box.reach_deg + MARGIN_DEG
    rows = find_sources(master, place, reach)
    if box is not None:
        rows = sorted(rows, key=lambda row: -(row.s_nvss or 0.0))
    if box is not None and box.equinox == "J":
        rows = [row for row in rows if box.holds(row.ra_deg, row.dec_deg, MARGIN_DEG)]
    away = [float(np.degrees(separation(*np.radians([*place, row.ra_deg, row.dec_deg])))) for row in rows]
    found = [Meant(row.source_id, row.ra_deg, row.dec_deg, apart) for row, apart in zip(rows, away, strict=True)]
    return found if box is not None else found[:1]
