"""Small mosaics with all their files, published by the registry, for the tests of what is made of many."""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.formats.sky_images import sky_image

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.data_registration import finalize_data, register_data_instance
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.registry_rows import get_data, open_registry
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.formats import fits_image, hips, moc
from dsa110_contimg.pipeline import mosaic_products
from dsa110_contimg.pipeline.reconcile import follow_publications
from dsa110_contimg.visibilities import SkyPosition

ORDER = 3


def mosaic_name(day: int, version: int = 1) -> str:
    """Return the id of the mosaic of a day."""
    return naming.mosaic_id(f"2025-10-{day:02d}T08:49:00", version)


@functools.cache
def _hips_of(center: SkyPosition) -> dict[str, bytes]:
    """Return the files of the HiPS of a mosaic, which is made once."""
    with tempfile.TemporaryDirectory() as name:
        folder = hips.save(sky_image(center), Path(name) / "hips", identifier="mosaic", order=ORDER)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish_mosaic(
    settings: Settings, day: int, center: SkyPosition, *, version: int = 1, with_hips: bool = True
) -> Path:
    """Write a mosaic into the staging area, register it and publish it; return where it lies then."""
    name, mjd = mosaic_name(day, version), 60948.0 + day
    image = replace(sky_image(center), field_name=name, start_mjd=mjd, end_mjd=mjd + 0.01)
    weight = replace(image, data=image.data * 0.0 + np.float32(1e6), kind="weight", unit="(Jy/beam)^-2")
    paths = {kind: naming.mosaic_path(settings.stage, name, kind) for kind in naming.MOSAIC_SUFFIXES}
    fits_image.save(image, paths["mosaic"])
    fits_image.save(weight, paths["weight"])
    moc.save(moc.coverage(image), paths["moc"])
    if with_hips:
        for part, content in _hips_of(center).items():
            (paths["hips"] / part).parent.mkdir(parents=True, exist_ok=True)
            (paths["hips"] / part).write_bytes(content)
    with get_session("products") as session:
        ms_index_upsert(session, f"/ms/{name}.ms", stage="photometry_complete", mid_mjd=mjd)
        row = MosaicRepository.store(
            session,
            path=str(paths["mosaic"]),
            name=name,
            reference_ms=f"/ms/{name}.ms",
            created_at=0.0,
            start_mjd=mjd,
            end_mjd=mjd + 0.01,
            group_id=f"mg_{day}",
            weight_path=str(paths["weight"]),
            status="completed",
        )
        companions = mosaic_products.companions(row)
    with open_registry() as connection:
        register_data_instance(connection, "mosaic", name, paths["mosaic"], metadata={"companions": companions})
        assert finalize_data(connection, name, "passed", "validated")
        published = get_data(connection, name).published_path
    follow_publications()
    return Path(str(published))
