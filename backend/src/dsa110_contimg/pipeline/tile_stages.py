"""The life of a tile: convert, solve, calibrate, image, measure. One function per stage; each reads like a list."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dsa110_contimg import conversion, naming
from dsa110_contimg.calibration import apply, flagging, selfcal, sky_model
from dsa110_contimg.calibration import solve as solver
from dsa110_contimg.calibration.flagging import FlagReport
from dsa110_contimg.calibration.problem import Prediction
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.models import Caltable, MSIndex
from dsa110_contimg.database.repositories import (
    ImageRepository,
    MSRepository,
    PhotometryRepository,
    QARepository,
    ms_index_upsert,
)
from dsa110_contimg.errors import BadInputError, CalibrationError, ConfigurationError, UnreadableDataError
from dsa110_contimg.formats import caltable, fits_image, flag_history, measurement_set, uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.imaging.image import ImagingResult
from dsa110_contimg.imaging.image import image as make_image
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.photometry import forced
from dsa110_contimg.pipeline.calibration_tables import SolvedSet, register, registered, store_pages, store_quality
from dsa110_contimg.pipeline.context import Context, mid_time, pointing
from dsa110_contimg.pipeline.entries import disk_trouble, still_there
from dsa110_contimg.pipeline.origins import tile_record
from dsa110_contimg.pipeline.planting import store_planted
from dsa110_contimg.pipeline.planting_tiles import Rows, is_chosen, plant_in_tile
from dsa110_contimg.pipeline.reconcile import finish_group
from dsa110_contimg.pipeline.reference_sources import known_sources
from dsa110_contimg.pipeline.rows import check_rows, image_columns, photometry_rows
from dsa110_contimg.pipeline.subband_rows import tile_rows
from dsa110_contimg.pipeline.table_choice import bandpass_for, own_gain, usable_gain
from dsa110_contimg.pipeline.timings import pointing_row
from dsa110_contimg.provenance import header_cards
from dsa110_contimg.qa import checks as qa_checks
from dsa110_contimg.qa.flag_plots import flag_page
from dsa110_contimg.visibilities import SkyImage, SkyModel, SkyPosition, Visibilities

logger = logging.getLogger(__name__)
FIELD_RADIUS_DEG = 2.2
MUCH_FLAGGED = 0.25
"""Of a tile that is only calibrated a page on its flags is drawn if this fraction went: a page costs a second."""
SAVED_IMAGES = ("image", "pbcor", "residual", "beam", "rms", "background")


def convert(context: Context, group_id: str) -> None:
    """Turn a group of subband files into a Measurement Set."""
    started = time.monotonic()
    with get_session("ingest") as session:
        ingest_queue.claim_group(session, group_id)
        paths = [Path(row.file_path) for row in ingest_queue.list_subbands(session, group_id)]
    headers = _sound_headers(group_id, paths, context.options.conversion)
    path = naming.ms_path(context.stage_dir, group_id)
    if not path.exists():
        headers = _save_group(path, group_id, headers, context.options.conversion)
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


def _save_group(
    path: Path, group_id: str, headers: list[SubbandHeader], options: ConversionOptions
) -> list[SubbandHeader]:
    """Write a group's set; a file that is damaged behind its header is quarantined and left out."""
    while True:
        try:
            measurement_set.save_blocks(path, *conversion.begin(headers, options))
            return headers
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
    vis, report = _load_flagged(context, tile)
    transit = sky_model.transiting_calibrator(vis, context.options.calibration)
    if transit is None:
        raise CalibrationError(f"no calibrator transits during {group_id}")
    sky = _field_sky(context, vis)
    solved = _solve_set(context, tile, vis, sky, source=transit.name, anchor=transit.name)
    pages = _flag_pages(context, tile, vis, report, 0.0)
    with context.commit() as session:
        store_quality(session, tile, solved)
        store_pages(session, group_id, pages, "flagging")
        logger.info("solved %s on %s, %.1f Jy behind the beam", transit.name, group_id, transit.apparent_jy)


def solve_catalogue(context: Context, mosaic_group: str) -> None:
    """Without a transit, solve a mosaic group's brightest tile against the catalogue."""
    tile = _brightest_tile(context, context.members(mosaic_group))
    vis, report = _load_flagged(context, tile)
    solved = _solve_set(context, tile, vis, _field_sky(context, vis), source="catalogue", anchor="catalogue")
    pages = _flag_pages(context, tile, vis, report, 0.0)
    with context.commit() as session:
        store_quality(session, tile, solved)
        store_pages(session, tile.group_id or mosaic_group, pages, "flagging")
        logger.warning("%s has no transit: solved against the catalogue on %s", mosaic_group, tile.group_id)


def calibrate(context: Context, group_id: str) -> None:
    """Apply the nearest valid tables to a tile, and its own gain phases."""
    tile = context.tile(group_id)
    vis, report = _load_flagged(context, tile)
    tables = bandpass_for(context, tile, vis)
    gains = [caltable.load(Path(table.path)) for table in tables]
    options = context.options.calibration
    apply.apply(vis, gains, options, measure_weights=False)
    # The own gains go on top in a step of their own, so that an attempt that finds them solved makes the same bits.
    known = own_gain(tile, tables)
    solved = _solve_phases(context, tile, vis, tables) if known is None else registered(known, options)
    own = usable_gain(context, tile, solved.rows[-1], tables)
    apply.apply(vis, [caltable.load(Path(own.path))], options)
    measurement_set.write_calibrated(Path(tile.path), vis)
    flagging.book(vis.flags, report.reasons, "calibration")
    flag_history.save(Path(tile.path), report.reasons, flagging.REASONS)
    pages = _flag_pages(context, tile, vis, report, MUCH_FLAGGED)
    used = [table.path for table in (*tables, own)]
    with context.commit() as session:
        store_quality(session, tile, solved)
        store_pages(session, group_id, pages, "flagging")
        MSRepository.set_stage(
            session, tile.path, "calibrated", now=time.time(), cal_applied=1, caltables=json.dumps(used)
        )


def image(context: Context, group_id: str) -> None:
    """Image a calibrated tile."""
    tile = context.tile(group_id)
    vis = _load_calibrated(tile)
    bright = context.catalog(vis.phase_center, context.options.calibration.model_radius_deg, 0.0)
    tables = selfcal.self_calibrate(
        vis,
        lambda now: _model_of(now, make_image(now, replace(context.options.imaging, subbands=0), bright=bright)),
        context.options.calibration,
    )
    result = make_image(vis, context.options.imaging, bright=bright)
    if tables:
        for picture in filter(None, (result.image, result.pbcor, result.residual)):
            picture.header["SELFCAL"] = len(tables)
    paths = _save_images(context, tile, result)
    thermal, local = qa_checks.thermal_noise_of(vis), result.local_noise()
    checks = qa_checks.image_checks(result.image, context.options.qa, thermal, local)
    planted = _planted(context, tile, vis.phase_center, result.image)
    with context.commit() as session:
        for kind, (path, picture) in paths.items():
            columns = image_columns(picture)
            ImageRepository.add(
                session, path=str(path), ms_path=tile.path, type=kind, created_at=time.time(), **columns
            )
        subbands = tile_rows(str(paths["image"][0]), result.subbands)
        PhotometryRepository.store_subbands(session, str(paths["image"][0]), subbands)
        store_planted(session, str(paths["image"][0]), planted)
        QARepository.store(session, check_rows(group_id, checks))
        MSRepository.set_stage(session, tile.path, "imaged", now=time.time(), imagename=str(paths["image"][0]))


def _planted(context: Context, tile: MSIndex, center: SkyPosition, shown: SkyImage) -> Rows:
    """Image a tile once more with sources in its visibilities, if it lies in one of the places chosen for that."""
    options = context.options.photometry
    if not is_chosen(center, options.injected_tiles):
        return [], []
    known = context.catalog(center, context.options.calibration.model_radius_deg, 0.0)
    return plant_in_tile(_load_calibrated(tile), known, shown, context.options.imaging, options)


def _load_calibrated(tile: MSIndex) -> Visibilities:
    """Read a tile's calibrated visibilities; uncalibrated ones are never taken for them."""
    path = Path(tile.path)
    if "CORRECTED_DATA" not in measurement_set.columns(path):
        raise BadInputError(
            f"{path} has no CORRECTED_DATA though {tile.group_id} is {tile.stage}: "
            f"put the calibrated set back, then `contimg retry image:{tile.group_id}`"
        )
    return measurement_set.load(path, "CORRECTED_DATA")


def _model_of(vis: Visibilities, result: ImagingResult) -> SkyModel:
    """Return what CLEAN found and what was subtracted before it, as a sky model."""
    return selfcal.components_sky(vis, result.model, *result.summary.subtracted)


def measure(context: Context, group_id: str) -> None:
    """Measure the known sources on a tile."""
    tile = context.tile(group_id)
    path = naming.image_path(context.stage_dir, Path(tile.path))
    picture = fits_image.load(path)
    beam = fits_image.load(naming.image_path(context.stage_dir, Path(tile.path), "beam"))
    sources = context.catalog(picture.center, FIELD_RADIUS_DEG, context.options.photometry.min_flux_jy)
    measurements = forced.measure(picture, sources, context.options.photometry, beam=beam)
    checks = qa_checks.source_checks(known_sources(picture, sources, measurements), picture.beam, context.options.qa)
    rows, missing = photometry_rows(str(path), measurements, lambda _source: mid_time(tile))
    with context.commit() as session:
        PhotometryRepository.store(session, rows)
        PhotometryRepository.store_missing(session, str(path), missing)
        QARepository.store(session, check_rows(group_id, checks))
        MSRepository.set_stage(session, tile.path, "photometry_complete", now=time.time())


def _load_flagged(context: Context, tile: MSIndex) -> tuple[Visibilities, FlagReport]:
    vis = measurement_set.load_raw(Path(tile.path))
    return vis, flagging.flag(vis, context.options.flagging)


def _flag_pages(
    context: Context, tile: MSIndex, vis: Visibilities, report: FlagReport, drawn_from: float
) -> list[Path]:
    """Draw what flagging took where at least such a fraction went; of any other tile `contimg flags report` does."""
    if report.total < drawn_from:
        return []
    path = naming.flag_page_path(context.stage_dir, Path(tile.path))
    title = tile.group_id or Path(tile.path).name
    return [
        flag_page(path, report.waterfall, report.antenna_reasons, report.channel_reasons, vis.freq_hz, title),
    ]


def _field_sky(context: Context, vis: Visibilities) -> SkyModel:
    options = context.options.calibration
    catalog = context.catalog(vis.phase_center, options.model_radius_deg + 1.0, options.model_min_flux_jy)
    return sky_model.field_model(vis, catalog, options)


def _solve_set(
    context: Context, tile: MSIndex, vis: Visibilities, sky: SkyModel, *, source: str, anchor: str
) -> SolvedSet:
    """Solve K and BP, then G on top, and register all of them: a set is registered whole or not at all."""
    options = context.options.calibration
    model = Prediction.of(vis, sky)
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
    return register(context, tile, [*bandpass, gains])


def _solve_phases(context: Context, tile: MSIndex, vis: Visibilities, below: Sequence[Caltable]) -> SolvedSet:
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
    return register(context, tile, [gains], [row.path for row in below])


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
            saved[kind] = (fits_image.save(picture, path, quantization=context.options.products.quantization), picture)
    return saved
