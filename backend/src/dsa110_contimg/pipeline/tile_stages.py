"""The life of a tile: convert, solve, calibrate, image, measure. One function per stage; each reads like a list."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from dsa110_contimg import conversion, naming
from dsa110_contimg.calibration import apply, flagging, quality, sky_model
from dsa110_contimg.calibration import solve as solver
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.caltable_repository import CaltableRepository
from dsa110_contimg.database.models import Caltable, MSIndex
from dsa110_contimg.database.repositories import (
    ImageRepository,
    MSRepository,
    PhotometryRepository,
    QARepository,
    ms_index_upsert,
)
from dsa110_contimg.errors import BadInputError, CalibrationError, ConfigurationError, UnreadableDataError
from dsa110_contimg.formats import caltable, fits_image, measurement_set, uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.imaging.image import ImagingResult
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.pipeline.context import Context, mid_time, pointing
from dsa110_contimg.pipeline.entries import disk_trouble, still_there
from dsa110_contimg.pipeline.origins import tile_record
from dsa110_contimg.pipeline.reconcile import finish_group
from dsa110_contimg.pipeline.rows import check_rows, image_columns, photometry_rows
from dsa110_contimg.pipeline.timings import pointing_row
from dsa110_contimg.provenance import header_cards
from dsa110_contimg.qa import checks as qa_checks
from dsa110_contimg.visibilities import Gains, SkyImage, SkyModel, Visibilities

logger = logging.getLogger(__name__)
FIELD_RADIUS_DEG = 2.2
SAVED_IMAGES = ("image", "pbcor", "residual", "beam")


def convert(context: Context, group_id: str) -> None:
    """Turn a group of subband files into a Measurement Set."""
    started = time.monotonic()
    with get_session("ingest") as session:
        ingest_queue.claim_group(session, group_id)
        paths = [Path(row.file_path) for row in ingest_queue.list_subbands(session, group_id)]
    headers = _sound_headers(group_id, paths, context.options.conversion)
    path = naming.ms_path(context.stage_dir, group_id)
    if not path.exists():
        headers, vis = _read_group(group_id, headers, context.options.conversion)
        measurement_set.save(path, vis)
        measurement_set.verify(path, vis)
    frame = conversion.tile_frame(headers[0])
    transit = sky_model.transiting_calibrator(frame, context.options.calibration)
    with context.commit() as session:
        ms_index_upsert(
            session,
            str(path),
            group_id=group_id,
            start_mjd=headers[0].start_mjd,
            end_mjd=headers[0].end_mjd,
            mid_mjd=frame.mid_mjd,
            processed_at=time.time(),
            removed_at=None,
            status="ok",
            stage="converted",
            stage_updated_at=time.time(),
            field_name=frame.field_name,
            pointing_ra_deg=frame.phase_center.ra_deg,
            pointing_dec_deg=frame.phase_center.dec_deg,
            calibrator=transit.name if transit else None,
        )
        session.merge(pointing_row(frame.phase_center, headers[0].dec_app_deg, frame.mid_mjd, frame.field_name))
    finish_group(group_id, transit.name if transit else None)
    logger.info("converted %s in %.1f s, %d subbands", group_id, time.monotonic() - started, len(headers))


def _sound_headers(group_id: str, paths: Sequence[Path], options: ConversionOptions) -> list[SubbandHeader]:
    """Read a group's headers; files that have gone bad or contradict the majority are quarantined."""
    headers, refused = [], {}
    for path in still_there(group_id, paths):
        try:
            headers.append(uvh5.read_header(path))
        except BadInputError as error:
            _raise_disk_trouble(error)
            refused[path] = str(error)
    refused |= {header.path: reason for header, reason in conversion.dissenters(headers)}
    _quarantine(group_id, refused)
    sound = [header for header in headers if header.path not in refused]
    conversion.check_group(sound, options, group_id)
    return sound


def _read_group(
    group_id: str, headers: list[SubbandHeader], options: ConversionOptions
) -> tuple[list[SubbandHeader], Visibilities]:
    """Read a group's data; a file that is damaged behind its header is quarantined and left out."""
    while True:
        try:
            return headers, conversion.assemble(headers, options)
        except UnreadableDataError as error:
            _raise_disk_trouble(error)
            _quarantine(group_id, {error.path: str(error)})
            headers = [header for header in headers if header.path != error.path]
            conversion.check_group(headers, options, group_id)


def _raise_disk_trouble(error: BadInputError) -> None:
    """Let the run pause where a disk or a mount is at fault: no file is refused for that."""
    trouble = disk_trouble(error)
    if trouble is not None:
        raise ConfigurationError(f"{error}: its disk or mount is at fault; repair it, then it goes on") from trouble


def _quarantine(group_id: str, refused: Mapping[Path, str]) -> None:
    with get_session("ingest") as session:
        for path, reason in refused.items():
            ingest_queue.quarantine_file(session, str(path), reason, group_id, now=time.time())


def solve(context: Context, group_id: str) -> None:
    """Solve delay, bandpass and gains on the tile that holds a calibrator's transit."""
    tile = context.tile(group_id)
    vis = _load_flagged(context, tile)
    transit = sky_model.transiting_calibrator(vis, context.options.calibration)
    if transit is None:
        raise CalibrationError(f"no calibrator transits during {group_id}")
    sky = _field_sky(context, vis)
    _solve_set(context, tile, vis, sky, source=transit.name, anchor=transit.name)
    with context.commit():
        logger.info("solved %s on %s, %.1f Jy behind the beam", transit.name, group_id, transit.apparent_jy)


def solve_catalogue(context: Context, mosaic_group: str) -> None:
    """Without a transit, solve a mosaic group's brightest tile against the catalogue."""
    tile = _brightest_tile(context, context.members(mosaic_group))
    vis = _load_flagged(context, tile)
    _solve_set(context, tile, vis, _field_sky(context, vis), source="catalogue", anchor="catalogue")
    with context.commit():
        logger.warning("%s has no transit: solved against the catalogue on %s", mosaic_group, tile.group_id)


def calibrate(context: Context, group_id: str) -> None:
    """Apply the nearest valid tables to a tile, and its own gain phases."""
    tile = context.tile(group_id)
    vis = _load_flagged(context, tile)
    tables = _nearest_bandpass(context, tile)
    gains = [caltable.load(Path(table.path)) for table in tables]
    apply.apply(vis, gains, context.options.calibration, measure_weights=False)
    # The own gains go on top in a step of their own, so that an attempt that finds them solved makes the same bits.
    own = _own_gain(tile) or _solve_phases(context, tile, vis)
    apply.apply(vis, [caltable.load(Path(own.path))], context.options.calibration)
    measurement_set.write_calibrated(Path(tile.path), vis)
    used = [table.path for table in (*tables, own)]
    with context.commit() as session:
        MSRepository.set_stage(
            session, tile.path, "calibrated", now=time.time(), cal_applied=1, caltables=json.dumps(used)
        )


def image(context: Context, group_id: str) -> None:
    """Image a calibrated tile."""
    tile = context.tile(group_id)
    vis = measurement_set.load(Path(tile.path), "CORRECTED_DATA")
    bright = context.catalog(vis.phase_center, context.options.calibration.model_radius_deg, 0.0)
    result = make_image(vis, context.options.imaging, bright=bright)
    paths = _save_images(context, tile, result)
    checks = qa_checks.image_checks(result.image, context.options.qa)
    with context.commit() as session:
        for kind, (path, picture) in paths.items():
            columns = image_columns(picture)
            ImageRepository.add(
                session, path=str(path), ms_path=tile.path, type=kind, created_at=time.time(), **columns
            )
        QARepository.store(session, check_rows(group_id, checks))
        MSRepository.set_stage(session, tile.path, "imaged", now=time.time(), imagename=str(paths["image"][0]))


def measure(context: Context, group_id: str) -> None:
    """Measure the known sources on a tile."""
    tile = context.tile(group_id)
    path = naming.image_path(context.stage_dir, Path(tile.path))
    picture = fits_image.load(path)
    beam = fits_image.load(naming.image_path(context.stage_dir, Path(tile.path), "beam"))
    sources = context.catalog(picture.center, FIELD_RADIUS_DEG, context.options.photometry.min_flux_jy)
    measurements = forced.measure(picture, sources, context.options.photometry, beam=beam)
    rows, missing = photometry_rows(str(path), measurements, lambda _source: mid_time(tile))
    with context.commit() as session:
        PhotometryRepository.store(session, rows)
        PhotometryRepository.store_missing(session, str(path), missing)
        MSRepository.set_stage(session, tile.path, "photometry_complete", now=time.time())


def _load_flagged(context: Context, tile: MSIndex) -> Visibilities:
    vis = measurement_set.load_raw(Path(tile.path))
    report = flagging.flag(vis, context.options.flagging)
    logger.info("flagged %.1f%% of %s", 100.0 * report.total, tile.group_id)
    return vis


def _field_sky(context: Context, vis: Visibilities) -> SkyModel:
    options = context.options.calibration
    catalog = context.catalog(vis.phase_center, options.model_radius_deg + 1.0, options.model_min_flux_jy)
    return sky_model.field_model(vis, catalog, options)


def _solve_set(context: Context, tile: MSIndex, vis: Visibilities, sky: SkyModel, *, source: str, anchor: str) -> None:
    """Solve K and BP, then G on top, and register all of them: a set is registered whole or not at all."""
    options = context.options.calibration
    model = solver.Prediction.of(vis, sky)
    bandpass = solver.solve_bandpass(
        vis, model, options, source=source, flux_anchor=anchor, dec_deg=pointing(tile).dec_deg
    )
    apply.apply(vis, bandpass, options, measure_weights=False)
    gains = solver.solve_gains(
        vis,
        model,
        options,
        kind="G" if anchor != "catalogue" else "GP",
        source=source,
        flux_anchor=anchor,
        dec_deg=pointing(tile).dec_deg,
    )
    _register(context, tile, [*bandpass, gains])


def _solve_phases(context: Context, tile: MSIndex, vis: Visibilities) -> Caltable:
    """Solve a tile's own phases against the catalogue sky; amplitudes, and so the flux scale, stay."""
    gains = solver.solve_gains(
        vis,
        _field_sky(context, vis),
        context.options.calibration,
        kind="GP",
        source="catalogue",
        flux_anchor="none",
        dec_deg=pointing(tile).dec_deg,
    )
    return _register(context, tile, [gains])[-1]


def _register(context: Context, tile: MSIndex, solutions: Sequence[Gains]) -> list[Caltable]:
    """Write tables and enter them into the registry in one transaction."""
    options = context.options.calibration
    rows = []
    written = []
    for gains in solutions:
        path = naming.caltable_path(context.stage_dir, Path(tile.path), gains.kind)
        _save_table(path, gains, tile)
        written.append((path, gains, quality.assess([gains], options)))
    verdict = quality.worst([check for *_rest, checks in written for check in checks])
    with get_session("cal_registry") as session:
        for path, gains, checks in written:
            half_h = options.bp_validity_h if gains.kind in ("K", "BP") else options.g_validity_min / 60.0
            mid = float(gains.time_mjd.mean())
            rows.append(
                CaltableRepository.register(
                    session,
                    path=str(path),
                    table_type=gains.kind,
                    set_name=naming.caltable_set_name(gains.kind, gains.source, mid),
                    mid_mjd=mid,
                    half_width_days=half_h / 24.0,
                    quality={check.name: check.value for check in checks},
                    cal_field=gains.source,
                    refant=gains.reference_antenna,
                    flux_anchor=gains.flux_anchor,
                    source_ms_path=tile.path,
                    dec_deg=gains.dec_deg,
                    qa_status=verdict,
                    created_at=time.time(),
                )
            )
    return rows


def _save_table(path: Path, gains: Gains, tile: MSIndex) -> None:
    """Write a caltable; one that is registered stays, one that a killed attempt left is written anew."""
    with get_session("cal_registry", read_only=True) as session:
        registered = set(session.scalars(select(Caltable.path).where(Caltable.source_ms_path == tile.path)))
    if str(path.resolve()) not in registered:
        shutil.rmtree(path, ignore_errors=True)
        caltable.save(path, gains)


def _nearest_bandpass(context: Context, tile: MSIndex) -> list[Caltable]:
    """Return the delay and bandpass of the nearest solve that holds for a tile."""
    options = context.options.calibration
    with get_session("cal_registry") as session:
        found = CaltableRepository.find_valid_for_mjd(
            session,
            mid_time(tile),
            table_type="BP",
            dec_deg=tile.pointing_dec_deg,
            dec_tolerance_deg=options.dec_tolerance_deg,
        )
        if not found:
            raise CalibrationError(
                f"no bandpass is valid for {tile.group_id} at declination {tile.pointing_dec_deg:.2f}: no calibrator "
                f"transited within {options.bp_validity_h:.0f} h and the catalogue gave none"
            )
        delays = session.scalars(
            select(Caltable).where(Caltable.table_type == "K", Caltable.source_ms_path == found[0].source_ms_path)
        )
        return [*delays, found[0]]


def _own_gain(tile: MSIndex) -> Caltable | None:
    with get_session("cal_registry", read_only=True) as session:
        return session.scalars(
            select(Caltable)
            .where(Caltable.source_ms_path == tile.path, Caltable.order_index == naming.ORDER_INDEX["G"])
            .where(Caltable.active == 1)
            .order_by(Caltable.id.desc())
        ).first()


def _brightest_tile(context: Context, members: Sequence[MSIndex]) -> MSIndex:
    """Return the tile with the most catalogue flux near its center, the fifth (or last) among equals."""
    options = context.options.calibration

    def flux(tile: MSIndex) -> float:
        return float(context.catalog(pointing(tile), 1.0, options.model_min_flux_jy).flux_jy.sum())

    fifth = members[min(4, len(members) - 1)]
    return max(members, key=lambda tile: (flux(tile), tile.path == fifth.path))


def _save_images(context: Context, tile: MSIndex, result: ImagingResult) -> dict[str, tuple[Path, SkyImage]]:
    """Write the images of a tile, each with what it was made from in its header."""
    cards = header_cards(tile_record(context, tile))
    saved = {}
    for kind in SAVED_IMAGES:
        picture: SkyImage | None = getattr(result, kind)
        if picture is not None:
            picture.header.update(cards)
            path = naming.image_path(context.stage_dir, Path(tile.path), kind)
            saved[kind] = (fits_image.save(picture, path), picture)
    return saved
