"""The life of a mosaic: coadd, register, check, measure, publish; and what its fluxes change.

The order is the specification's: the mosaic row and its registry entry come first, then validation and QA with
their measured values, then photometry, then the final word, then publication.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_contimg import naming
from dsa110_contimg.database import get_session
from dsa110_contimg.database.data_registration import (
    finalize_data,
    recover_publishing,
    register_mosaic_in_data_registry,
    set_photometry_status,
    update_qa_status,
)
from dsa110_contimg.database.models import DataProduct, Job, JobState, MSIndex, QAArtifact
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.registry_rows import RegistryConnection, find_rows, get_data, open_registry
from dsa110_contimg.database.repositories import ImageRepository, PhotometryRepository, QARepository
from dsa110_contimg.formats import fits_image
from dsa110_contimg.kernels.sphere import separation
from dsa110_contimg.mosaic.build import MosaicResult, build
from dsa110_contimg.mosaic.consistency import judge_tiles
from dsa110_contimg.mosaic.tile_cache import TileCache
from dsa110_contimg.mosaic.tiles import TileFiles
from dsa110_contimg.photometry import forced
from dsa110_contimg.photometry.planes import to_sky
from dsa110_contimg.pipeline import mosaic_products
from dsa110_contimg.pipeline.context import Context
from dsa110_contimg.pipeline.coverage import follow_coverage
from dsa110_contimg.pipeline.jobs import Stage
from dsa110_contimg.pipeline.new_sources import find_new_sources, store_new_sources
from dsa110_contimg.pipeline.origins import made_as_told, mosaic_record
from dsa110_contimg.pipeline.planting import follow_planted, plant, store_planted
from dsa110_contimg.pipeline.reconcile import follow_publication
from dsa110_contimg.pipeline.reference_sources import footprint, known_sources, strip_catalog
from dsa110_contimg.pipeline.remake import replaced_by, request_for, version_to_make
from dsa110_contimg.pipeline.rows import check_rows, image_columns, photometry_rows
from dsa110_contimg.pipeline.subband_rows import mosaic_rows
from dsa110_contimg.pipeline.tile_figures import (
    consistency_checks,
    noise_over_thermal,
    offset_check,
    thermal_check_of,
    tile_fluxes,
)
from dsa110_contimg.pipeline.variability import update_variability
from dsa110_contimg.provenance import header_cards
from dsa110_contimg.qa import checks as qa_checks
from dsa110_contimg.qa.plots import quality_page
from dsa110_contimg.qa.tile_agreement import flux_agreement_check
from dsa110_contimg.telescope import transit_mjd
from dsa110_contimg.visibilities import SkyImage, SkyModel

logger = logging.getLogger(__name__)
FloatArray = NDArray[np.float64]
FIFTH = 4


def mosaic(context: Context, group_id: str) -> None:
    """Coadd the imaged tiles of a group."""
    members = [tile for tile in context.members(group_id) if tile.imagename]
    files = [_tile_files(context, tile) for tile in members]
    with get_session("products", read_only=True) as session:
        name = version_to_make(session, group_id)
    result = build(
        files, context.options.mosaic, name, catalog=strip_catalog(context, members), cache=_placed_tiles(context)
    )
    consistency = judge_tiles(result.measured, context.options.mosaic, context.options.qa)
    tile_checks = consistency_checks(consistency.metrics, len(files), context.options.mosaic, context.options.qa)
    offset = offset_check(result.tiles, result.image, context.options.qa)
    issues = [*consistency.issues, *([offset.reason] if offset.verdict is qa_checks.Verdict.FAILED else [])]
    cards = header_cards(mosaic_record(context.options.mosaic, members))
    for picture in (result.image, result.noise, result.weight, result.coverage):
        picture.header.update(cards)
    paths = mosaic_products.save(context, name, result, _catalog_in(context, result.image))
    columns = image_columns(result.image)
    reference = _calibration_tile(members).path
    with context.commit() as session:
        MosaicRepository.store(
            session,
            path=str(paths["mosaic"]),
            name=name,
            reference_ms=reference,
            created_at=time.time(),
            group_id=group_id,
            start_mjd=min(tile.start_mjd or np.inf for tile in members),
            end_mjd=max(tile.end_mjd or -np.inf for tile in members),
            n_images=len(members),
            thumbnail_path=str(paths["preview"]),
            noise_path=str(paths["noise"]),
            weight_path=str(paths["weight"]),
            status="set_aside" if replaced_by(name) else "completed",
            validation_issues=json.dumps(issues),
            **_declinations(result.image),
            **{key: columns[key] for key in ("integration_sec", "center_ra_deg", "center_dec_deg", "noise_jy")},
            **{key: columns[key] for key in ("beam_major_arcsec", "beam_minor_arcsec", "beam_pa_deg")},
        )
        QARepository.store(session, check_rows(name, [*tile_checks, offset]))
        _store_maps(session, result, paths, reference)
        MosaicRepository.update_group(
            session,
            group_id,
            status="completed",
            stage="mosaicked",
            bpcal_solved=1,
            cal_applied=1,
            calibration_ms_path=reference,
            mosaic_id=name,
            calibrated_at=_last_completed(session, Stage.CALIBRATE, members),
            imaged_at=_last_completed(session, Stage.IMAGE, members),
            mosaicked_at=time.time(),
            mosaic_path=str(paths["mosaic"]),
        )


def register(context: Context, mosaic_id: str) -> None:
    """Enter a mosaic into the data registry, in staging, with everything that tells how it was made."""
    row = context.mosaic(mosaic_id)
    members = context.members(row.group_id or "")
    metadata: dict[str, object] = {
        "group_id": row.group_id,
        "n_images": row.n_images,
        "time_range": {"start_mjd": row.start_mjd, "end_mjd": row.end_mjd},
        "calibrator_name": ",".join(sorted({t.calibrator for t in members if t.calibrator})) or "catalogue",
        "image_paths": [tile.imagename for tile in members if tile.imagename],
        "ms_paths": [tile.path for tile in members],
        "validation_issues": json.loads(row.validation_issues or "[]"),
        "provenance": made_as_told(mosaic_record(context.options.mosaic, members), Path(row.path)),
        "companions": mosaic_products.companions(row),
    }
    earlier = replaced_by(mosaic_id)
    with open_registry() as connection:
        if earlier is not None:
            metadata["remade"] = {"replaces": earlier, **request_for(connection, earlier)}
        register_mosaic_in_data_registry(
            connection,
            mosaic_id,
            row.path,
            metadata,
            supersedes=earlier,
            derived_from=_registered(connection, members),
        )
    with context.commit():
        logger.info("registered %s", mosaic_id)


def check(context: Context, mosaic_id: str) -> None:
    """Validate a mosaic and judge its quality; every verdict is stored with what was measured."""
    row = context.mosaic(mosaic_id)
    picture, noise = fits_image.load(Path(row.path)), fits_image.load(Path(row.noise_path or ""))
    sources = _catalog_in(context, picture)
    measurements = forced.measure(picture, sources, context.options.photometry, noise=noise)
    references = known_sources(picture, sources, measurements)
    members = context.members(row.group_id or "")
    with get_session("products", read_only=True) as session:
        fluxes, over_thermal = tile_fluxes(session, members), noise_over_thermal(session, members)
    checks = qa_checks.mosaic_checks(picture, noise, references, context.options.qa)
    checks.append(flux_agreement_check(fluxes, context.options.qa))
    checks.append(thermal_check_of(picture, over_thermal, context.options.qa))
    plot = naming.mosaic_path(context.stage_dir, mosaic_id, "qa")
    quality_page(plot, references, checks, image=picture, noise=noise, title=mosaic_id)
    issues = json.loads(row.validation_issues or "[]")
    with open_registry() as connection:
        update_qa_status(
            connection,
            mosaic_id,
            qa_status=qa_checks.verdict_of(checks).value,
            validation_status="invalid" if issues else "validated",
        )
    artifact = {"name": plot.name, "path": str(plot), "type": "plot", "category": "imaging"}
    with context.commit() as session:
        QARepository.store(session, check_rows(mosaic_id, checks))
        session.execute(
            insert(QAArtifact)
            .values(group_id=row.group_id, created_at=time.time(), **artifact)
            .on_conflict_do_update(index_elements=["group_id", "name"], set_={"removed_at": None})
        )


def photometry(context: Context, mosaic_id: str) -> None:
    """Measure the known sources on a mosaic."""
    row = context.mosaic(mosaic_id)
    with open_registry() as connection:
        if get_data(connection, mosaic_id).photometry_status != "completed":
            set_photometry_status(connection, mosaic_id, "running", context.job_id)
    picture, noise = fits_image.load(Path(row.path)), fits_image.load(Path(row.noise_path or ""))
    catalog = _catalog_in(context, picture)
    measurements = forced.measure(picture, catalog, context.options.photometry, noise=noise)
    middle = 0.5 * (row.start_mjd + row.end_mjd)
    sightings = find_new_sources(context, picture, noise)

    def transit(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
        # At its ends a mosaic shows sources that it saw before or after their transit only.
        return np.clip(transit_mjd(ra_deg, dec_deg, middle), row.start_mjd, row.end_mjd)

    times = dict(zip(catalog.names, transit(catalog.ra_deg, catalog.dec_deg).tolist(), strict=True))
    rows, missing = photometry_rows(row.path, measurements, lambda source: times[source.source_id])
    planted = plant(picture, noise, catalog, transit, context.options.photometry)
    with context.commit() as session:
        PhotometryRepository.store(session, rows)
        PhotometryRepository.store_missing(session, row.path, missing)
        store_planted(session, row.path, planted)
        store_new_sources(session, row.path, middle, sightings, picture)
        images = [tile.imagename for tile in context.members(row.group_id or "") if tile.imagename]
        PhotometryRepository.store_subbands(session, row.path, mosaic_rows(session, row.path, images))
        stored = MosaicRepository.get_by_name(session, mosaic_id)
        if stored is not None:
            stored.n_sources = sum(row["upper_limit_jyb"] is None for row in rows)


def publish(context: Context, mosaic_id: str) -> None:
    """Say the final word on a mosaic; it is published if nothing blocks it, and its rows follow the file."""
    with open_registry() as connection:
        recover_publishing(connection)
        set_photometry_status(connection, mosaic_id, "completed")
        product = get_data(connection, mosaic_id)
        finalize_data(connection, mosaic_id, product.qa_status, product.validation_status)
        product = get_data(connection, mosaic_id)
    with context.commit() as session:
        if product.status == "published" and product.published_path:
            follow_publication(session, mosaic_id, product.published_path)
    follow_coverage(context.settings)


def variability(context: Context, mosaic_id: str) -> None:
    """Let light curves, statistics and candidates follow the new measurements."""
    row = context.mosaic(mosaic_id)
    with context.commit() as session:
        flagged = update_variability(session, context.options.photometry, mosaics=[row.path])
        follow_planted(session, context.options.photometry)
        logger.info("after %s: %d sources with statistics, %d candidates", mosaic_id, *flagged)


def _registered(connection: RegistryConnection, members: Sequence[MSIndex]) -> list[str]:
    """Return the products among the tiles' images and Measurement Sets."""
    paths = [str(Path(path).resolve()) for tile in members for path in (tile.path, tile.imagename) if path]
    places = or_(DataProduct.stage_path.in_(paths), DataProduct.published_path.in_(paths))
    return [product.data_id for product in find_rows(connection, places)]


def _last_completed(session: Session, stage: Stage, members: Sequence[MSIndex]) -> float | None:
    """Return when the last of some tiles completed a stage (unix s)."""
    subjects = [tile.group_id for tile in members]
    jobs = select(func.max(Job.updated_at)).where(Job.stage == stage.value, Job.subject.in_(subjects))
    return session.scalar(jobs.where(Job.state == JobState.COMPLETED.value))


def _tile_files(context: Context, tile: MSIndex) -> TileFiles:
    kinds = {kind: naming.image_path(context.stage_dir, Path(tile.path), kind) for kind in ("image", "beam", "pbcor")}
    return TileFiles(tile.group_id or "", kinds["image"], kinds["beam"], kinds["pbcor"])


def _calibration_tile(members: Sequence[MSIndex]) -> MSIndex:
    """Return the tile with the calibrator's transit, else the fifth, else the middle one."""
    with_transit = [tile for tile in members if tile.calibrator]
    if with_transit:
        return with_transit[0]
    return members[FIFTH] if len(members) > FIFTH else members[len(members) // 2]


def _catalog_in(context: Context, picture: SkyImage) -> SkyModel:
    """Return the catalogue sources that lie on pixels with a value."""
    ny, nx = picture.data.shape
    corners = to_sky(picture, np.array([0.0, nx - 1, 0.0, nx - 1]), np.array([0.0, 0.0, ny - 1, ny - 1]))
    # NaN is a corner off the sky, which only an image of a hemisphere has.
    reach = np.nan_to_num(separation(*np.radians(corners), *np.radians(picture.middle)), nan=np.pi)
    catalog = context.catalog(picture.middle, float(np.degrees(reach.max())), context.options.photometry.min_flux_jy)
    return catalog.select(footprint(picture, catalog))


def _store_maps(session: Session, result: MosaicResult, paths: Mapping[str, Path], reference: str) -> None:
    for kind, picture in (("noise", result.noise), ("weight", result.weight), ("coverage", result.coverage)):
        ImageRepository.add(
            session,
            path=str(paths[kind]),
            ms_path=reference,
            type=kind,
            created_at=time.time(),
            **image_columns(picture),
        )


def _placed_tiles(context: Context) -> TileCache | None:
    """Return where tiles on a mosaic's grid are kept; None where nothing is."""
    gigabytes = context.options.mosaic.cache_gb
    return TileCache(naming.placed_tiles_path(context.stage_dir), gigabytes) if gigabytes > 0.0 else None


def _declinations(picture: SkyImage) -> dict[str, float]:
    """Return the lowest and highest declination with a value, from some million pixels."""
    step = max(1, int(np.sqrt(picture.data.size / 1e6)))
    y, x = (step * index.astype(np.float64) for index in np.nonzero(np.isfinite(picture.data[::step, ::step])))
    _ra, dec = to_sky(picture, x, y)
    return {"dec_min_deg": float(dec.min()), "dec_max_deg": float(dec.max())}
