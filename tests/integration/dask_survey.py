"""A small survey, processed through a Dask cluster or without one; what it left is printed as JSON.

python -m tests.integration.dask_survey prepare | quiet | dask ADDRESS
"""

import hashlib
import json
import sys
from pathlib import Path

from astropy.io import fits
from sqlalchemy import func, select
from tests.integration.kill_server import LENIENT

from dsa110_contimg.cli.process import initialize
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import (
    DataProduct,
    Image,
    Job,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    Photometry,
)
from dsa110_contimg.options import ImagingOptions, MosaicOptions, PipelineOptions, ScheduleOptions
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.dask_crew import DaskCrew
from dsa110_contimg.pipeline.runner import run
from dsa110_contimg.simulation import SimulationOptions, simulate

TILES, IN_MOSAIC, OVERLAP = 5, 3, 1
OBSERVATION = SimulationOptions(
    antennas=20,
    channels=1,
    integrations=6,
    tiles=TILES,
    epochs=1,
    transit="3C48",
    sefd_jy=1500.0,
    min_flux_jy=0.08,
    catalog_limit_jy=0.08,
    perfect_catalog=True,
    seed=1,
)
OPTIONS = PipelineOptions(
    qa=LENIENT,
    imaging=ImagingOptions(size=512, cell_arcsec=14.0, threads=1),
    mosaic=MosaicOptions(tiles=IN_MOSAIC, overlap=OVERLAP, min_tiles=IN_MOSAIC),
    schedule=ScheduleOptions(retry_s=0.5),
)


def pixels(settings: Settings) -> dict[str, str]:
    """Return a digest of the pixels of each image and mosaic, by name."""
    found = {}
    for area in (settings.stage, settings.products):
        for path in sorted(area.rglob("*.fits")):
            with fits.open(path) as file:
                values = b"".join(hdu.data.tobytes() for hdu in file if hdu.data is not None)
            found[path.name] = hashlib.sha256(values).hexdigest()
    return found


def scratch(settings: Settings) -> list[str]:
    """Return what a process has left unfinished."""
    return [str(path) for area in (settings.stage, settings.products) for path in area.rglob("*.partial")]


def rows() -> dict[str, object]:
    """Return what the databases say."""
    with get_session("products", read_only=True) as session:
        members = session.execute(
            select(MosaicGroup.group_id, MosaicGroupMember.ms_path)
            .join(MosaicGroupMember, MosaicGroupMember.group_id == MosaicGroup.group_id)
            .order_by(MosaicGroup.group_id, MosaicGroupMember.ms_path)
        ).all()
        measured = session.execute(
            select(Photometry.source_id, Photometry.image_path, func.count())
            .group_by(Photometry.source_id, Photometry.image_path)
            .order_by(Photometry.source_id, Photometry.image_path)
        ).all()
        found: dict[str, object] = {
            "tiles": sorted(list(row) for row in session.execute(select(MSIndex.group_id, MSIndex.stage))),
            "members": [[group, Path(path).name] for group, path in members],
            "measured": [[source, Path(path).name, count] for source, path, count in measured],
            "images": sorted(Path(path).name for path in session.scalars(select(Image.path))),
            "mosaics": sorted(session.scalars(select(Mosaic.name))),
            "jobs": sorted(list(row) for row in session.execute(select(Job.job_id, Job.state))),
            "attempts": int(session.scalar(select(func.max(Job.attempt))) or 0),
        }
    with get_session("data_registry", read_only=True) as session:
        found["products"] = sorted(
            list(row) for row in session.execute(select(DataProduct.data_id, DataProduct.status))
        )
    return found


def main(words: list[str]) -> None:
    """Do what is asked for."""
    settings = Settings()
    if words[0] == "prepare":
        settings.incoming.mkdir(parents=True, exist_ok=True)
        simulate(settings.incoming, OBSERVATION, progress=None, overwrite=False)
        return
    initialize(settings)
    import_catalog(settings.incoming / "catalog.csv")
    crew = DaskCrew(words[1], settings) if words[0] == "dask" else None
    summary = run(settings, OPTIONS, once=True, crew=crew)
    errors = [outcome.error for outcome in summary.outcomes if outcome.error]
    told = {"exit_code": summary.exit_code, "errors": errors, "pixels": pixels(settings), "scratch": scratch(settings)}
    sys.stdout.write(json.dumps({**rows(), **told}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
