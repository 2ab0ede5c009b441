"""Forced fluxes, light curves, and the spellings of a source's name.

A light curve is read from an index that holds all it shows (`idx_photometry_light_curve`): its cost is that of its
points, however many rows the table has.

The canonical name of a source is the IAU's, truncated: 'NVSS J123456.7+420312'.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import EpochCorrection, Photometry, PhotometryMissing, SubbandFlux, VariabilityStats
from dsa110_contimg.database.upserts import Value, list_page, page, upsert
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.naming import parse_source


class LightCurvePoint(NamedTuple):
    """One measurement as light curves show it; what is None was not measured."""

    id: int
    image_path: str
    source_id: str
    mjd: float
    """Middle of the observation (UTC)."""
    peak_jyb: float
    peak_err_jyb: float | None
    normalized_flux_jy: float | None
    """On the flux scale of the epoch's reference sources."""
    normalized_flux_err_jy: float | None
    upper_limit_jyb: float | None
    """Set when the source is not detected."""
    local_rms_jyb: float | None
    snr: float | None
    flags: int | None


_POINT = tuple(getattr(Photometry, name) for name in LightCurvePoint._fields)


class PhotometryRepository:
    """Forced fluxes and what they say about each source; every method takes a session of `products` first."""

    @staticmethod
    def store(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record measurements; one of the same image and source replaces the earlier one."""
        # In the order of the source's index, each of its pages is written once and not once per row.
        if all("source_id" in row for row in rows):
            rows = sorted(rows, key=itemgetter("source_id"))
        upsert(session, Photometry, ["image_path", "source_id"], rows)

    @staticmethod
    def store_missing(session: Session, image_path: str, reasons: Mapping[str, str]) -> None:
        """Record positions of an image that could not be measured: source id → reason."""
        rows = [{"image_path": str(image_path), "source_id": s, "reason": why} for s, why in reasons.items()]
        upsert(session, PhotometryMissing, ["image_path", "source_id"], rows)

    @staticmethod
    def store_subbands(session: Session, image_path: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Replace the fluxes in parts of the band that one image has."""
        session.execute(delete(SubbandFlux).where(SubbandFlux.image_path == str(image_path)))
        upsert(session, SubbandFlux, ["image_path", "source_id", "subband_idx"], rows)

    @staticmethod
    def list_subbands(session: Session, source_id: str) -> list[SubbandFlux]:
        """Return a source's fluxes in parts of the band, by image and part."""
        query = select(SubbandFlux).where(SubbandFlux.source_id == source_id)
        return list(session.scalars(query.order_by(SubbandFlux.image_path, SubbandFlux.subband_idx)))

    @staticmethod
    def store_statistics(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record variability statistics, one row per source."""
        upsert(session, VariabilityStats, ["source_id"], rows)

    @staticmethod
    def store_corrections(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
        """Record the flux scales of images, and which of them each point of the light curves stands on."""
        upsert(session, EpochCorrection, ["image_path"], rows)
        own = select(EpochCorrection.id).where(EpochCorrection.image_path == Photometry.image_path).scalar_subquery()
        session.execute(update(Photometry).values(epoch_correction_id=None))
        session.execute(update(Photometry).where(Photometry.in_lightcurve == 1).values(epoch_correction_id=own))

    @staticmethod
    def get_lightcurve(
        session: Session,
        source_id: str,
        *,
        every_measurement: bool = False,
        after: tuple[float, int] | None = None,
        limit: int | None = None,
    ) -> list[LightCurvePoint]:
        """Return a source's light curve in time order; empty when nothing was measured.

        By default the measurements that feed the statistics: one per sidereal transit, not retracted. A
        measurement without a time belongs to no light curve.

        Parameters
        ----------
        source_id
            The name, or another spelling of it (see `find_sources`).
        after
            (mjd, id) of the last point of the page before.

        Raises
        ------
        PipelineError
            If the spelling fits several sources.
        """
        query = select(*_POINT).where(Photometry.source_id == source_id, Photometry.mjd.is_not(None))
        if not every_measurement:
            query = query.where(Photometry.in_lightcurve == 1, Photometry.retracted_at.is_(None))
        paged = page(query, (Photometry.mjd, Photometry.id), after=after, limit=limit)
        points = [LightCurvePoint(*row) for row in session.execute(paged)]
        if points or after is not None:
            return points
        found = [name for name in PhotometryRepository.find_sources(session, source_id) if name != source_id]
        if len(found) > 1:
            raise PipelineError(f"{source_id!r} fits {len(found)} sources ({', '.join(found[:3])}…): write more digits")
        return (
            PhotometryRepository.get_lightcurve(session, found[0], every_measurement=every_measurement, limit=limit)
            if found
            else []
        )

    @staticmethod
    def find_sources(session: Session, spelling: str, *, limit: int = 20) -> list[str]:
        """Return the sources with statistics that a spelling of a name fits: itself, else those with its digits.

        'NVSS_J123456+420312', 'J1234+4203' and '123456.7+420312' fit 'NVSS J123456.7+420312'. Fewer digits may fit
        several sources.
        """
        known = VariabilityStats.source_id
        if session.scalar(select(known).where(known == spelling)) is not None:
            return [spelling]
        digits = parse_source(spelling)
        if digits is None:
            return []
        # The digits hold no wildcard, and whatever the spelling leaves out matches.
        pattern = f"{digits.prefix or '%'} J{digits.ra}%{digits.dec}%"
        return list(session.scalars(select(known).where(known.like(pattern)).order_by(known).limit(limit)))

    @staticmethod
    def list_for_image(
        session: Session, image_path: str, *, after: str | None = None, limit: int | None = None
    ) -> list[Photometry]:
        """Return the measurements on one image by source, those after the source of the page before."""
        query = select(Photometry).where(Photometry.image_path == str(image_path))
        last = None if after is None else (after,)
        return list_page(session, query, (Photometry.source_id,), after=last, limit=limit)
