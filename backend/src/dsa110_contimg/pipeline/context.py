"""What a running job knows, and how its outcome enters the database.

A stage does its work, then commits: rows of its output and the end of its job in one transaction, which is
refused when a newer attempt has taken the job over.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.catalog_query import load_sky_model
from dsa110_contimg.database.models import Mosaic, MSIndex
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.visibilities import SkyModel, SkyPosition


@dataclass(frozen=True)
class Context:
    """One attempt at one job."""

    settings: Settings
    options: PipelineOptions
    job_id: str
    attempt: int

    @contextmanager
    def commit(self) -> Iterator[Session]:
        """Open the products transaction that ends this job; a fenced attempt raises and changes nothing."""
        with get_session("products") as session:
            leases.check_token(session, self.job_id, self.attempt)
            yield session
            leases.complete_job(session, self.job_id, self.attempt, now=time.time())

    def tile(self, group_id: str) -> MSIndex:
        """Return the row of a group's tile."""
        with get_session("products", read_only=True) as session:
            row = session.scalars(select(MSIndex).where(MSIndex.group_id == group_id)).one_or_none()
        if row is None:
            raise PipelineError(f"group {group_id} has no Measurement Set yet: convert it first")
        return row

    def members(self, mosaic_group: str) -> list[MSIndex]:
        """Return the tiles of a mosaic group in order of time."""
        with get_session("products", read_only=True) as session:
            return MosaicRepository.members(session, mosaic_group)

    def mosaic(self, mosaic_id: str) -> Mosaic:
        """Return the row of a mosaic."""
        with get_session("products", read_only=True) as session:
            row = MosaicRepository.get_by_name(session, mosaic_id)
        if row is None:
            raise PipelineError(f"there is no mosaic {mosaic_id}")
        return row

    def catalog(self, center: SkyPosition, radius_deg: float, min_flux_jy: float) -> SkyModel:
        """Return the catalogue sources around a position."""
        with get_session("master_sources", read_only=True) as session:
            return load_sky_model(session, center, radius_deg, min_flux_jy=min_flux_jy)

    @property
    def stage_dir(self) -> Path:
        """The folder of everything that is not published."""
        return self.settings.stage


def pointing(tile: MSIndex) -> SkyPosition:
    """Return where a tile points; a row that does not say is an error, never a default."""
    if tile.pointing_ra_deg is None or tile.pointing_dec_deg is None:
        raise PipelineError(f"{tile.path} has no pointing in ms_index: remove the Measurement Set and convert it again")
    return SkyPosition(tile.pointing_ra_deg, tile.pointing_dec_deg)


def mid_time(tile: MSIndex) -> float:
    """Return the middle of a tile's observation (MJD); a row that does not say is an error, never a default."""
    if tile.mid_mjd is None:
        raise PipelineError(f"{tile.path} has no time in ms_index: remove the Measurement Set and convert it again")
    return tile.mid_mjd
