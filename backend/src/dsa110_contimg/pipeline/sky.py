"""The sky of all published mosaics as one HiPS: a product of its own, made anew when there is something new.

    sky_2025-12-24[_2]    named by the last data in it; type `image`, in images/ of the staging and products areas
      ...-hips/           the HiPS; ...-weight-hips/ its weights, from which the next one goes on
      ...-moc.fits        where it has values

A version takes over what did not change of the one before and supersedes it. Mosaics that were retracted, or gave way
to another version, leave it: the tiles that they touched are made anew, and the older version is retracted, for it
shows them. At most `nightly_mosaics` are added at once, the oldest first. Every mosaic in it passed its own QA, or a
person signed for it; of the sky itself it is checked that it shows the area that they cover.

Each version is a whole copy. The newest `nightly_kept` of those that gave way stay; older ones are retracted and their
files removed, for they hold nothing that the newest does not.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.time import Time
from mocpy import MOC
from sqlalchemy import select

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.data_registration import finalize_data, register_data_instance
from dsa110_contimg.database.models import DataProduct, Mosaic
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, find_rows, get_data, open_registry
from dsa110_contimg.database.repositories import QARepository
from dsa110_contimg.database.retraction import discard_tombstone, retract
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.formats import hips, hips_merge, hips_tiles, moc
from dsa110_contimg.formats.hips_merge import Pair, Part, Tell
from dsa110_contimg.formats.scratch import scratch_path
from dsa110_contimg.options import ProductOptions
from dsa110_contimg.pipeline.coverage import map_of, standing_mosaics
from dsa110_contimg.pipeline.rows import check_rows
from dsa110_contimg.provenance import Input, record
from dsa110_contimg.qa.checks import Check, at_least, at_most, verdict_of

logger = logging.getLogger(__name__)
LOCK = "sky.lock"
BY = "contimg"
"""Who retracts versions. What a person retracted stays where it was set aside."""
DAY_S = 86400.0
MIN_SHOWN = 0.5
"""Of the covered area. Its edge lies up to a cell outside, and tiles are blank four pixels along theirs."""
OURS = DataProduct.data_id.startswith("sky_", autoescape=True)


@dataclass(frozen=True)
class _Work:
    """What the next version holds, and how it comes about."""

    mosaics: dict[str, Path]
    added: tuple[str, ...]
    withdrawn: tuple[str, ...]
    order: int
    base: ProductRow | None
    """The version whose tiles are taken over."""


def make_sky(settings: Settings, options: ProductOptions, tell: Tell = lambda _done, _total: None) -> str | None:
    """Make and publish the next version, and return its id; None if the last one holds all that there is.

    Raises
    ------
    PipelineError
        If another process is at it.
    """
    with _alone(settings), open_registry() as connection:
        for row in find_rows(connection, OURS, DataProduct.status == "staging"):
            _publish(connection, row.data_id)
        name = _make_next(connection, settings, options, tell)
        _remove_old(connection, options.nightly_kept)
    return name


def _make_next(connection: RegistryConnection, settings: Settings, options: ProductOptions, tell: Tell) -> str | None:
    last = _last(connection)
    work = plan(last, _with_hips(standing_mosaics()), options.nightly_mosaics)
    if work is None or not work.mosaics:
        _take_back(connection, last, work, None)
        return None
    name = _next_name(connection, work)
    _build(settings, name, work, tell)
    _register(connection, settings.stage, name, work, last, options)
    _publish(connection, name)
    _take_back(connection, last, work, name)
    logger.info("made %s: %d mosaics, %d of them new", name, len(work.mosaics), len(work.added))
    return name


def make_sky_when_due(settings: Settings, options: ProductOptions, *, now: float) -> str | None:
    """Make the next version if the last one was made a day ago or more."""
    with open_registry() as connection:
        last = _last(connection)
    if last is not None and now - last.staged_at < DAY_S:
        return None
    return make_sky(settings, options)


def plan(last: ProductRow | None, standing: Mapping[str, Path], most: int) -> _Work | None:
    """Return what the next version holds; None if nothing is to be done."""
    held = _mosaics_of(last)
    fresh = tuple(name for name in sorted(standing) if name not in held)[:most]
    withdrawn = tuple(name for name in held if name not in standing)
    if not fresh and not withdrawn:
        return None
    mosaics = {name: standing[name] for name in sorted({*fresh, *held} - {*withdrawn})}
    order = min((hips_merge.deepest_order(naming.beside_mosaic(path, "hips")) for path in mosaics.values()), default=0)
    goes_on = last is not None and last.published_path and _order_of(last) == order
    return _Work(mosaics, fresh, withdrawn, order, last if goes_on else None)


def _with_hips(standing: Mapping[str, Path]) -> dict[str, Path]:
    return {name: path for name, path in standing.items() if naming.beside_mosaic(path, "hips").is_dir()}


def _last(connection: RegistryConnection) -> ProductRow | None:
    rows = find_rows(connection, OURS, DataProduct.status.in_(("published", "validated", "failed")))
    return rows[-1] if rows else None


def _mosaics_of(row: ProductRow | None) -> list[str]:
    named = [] if row is None else row.details.get("mosaics", [])
    return [str(name) for name in named] if isinstance(named, list) else []


def _order_of(row: ProductRow) -> int | None:
    folder = Path(row.published_path or "")
    return hips_merge.deepest_order(folder) if (folder / "properties").exists() else None


def _next_name(connection: RegistryConnection, work: _Work) -> str:
    date = Time(_span(work)[1], format="mjd", scale="utc").isot[:10]
    taken = {row.data_id for row in find_rows(connection, OURS)}
    names = (naming.sky_id(date, version) for version in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _span(work: _Work) -> tuple[float, float]:
    """Return when the data of the mosaics begin and end (MJD)."""
    with get_session("products", read_only=True) as session:
        rows = list(session.execute(select(Mosaic.name, Mosaic.start_mjd, Mosaic.end_mjd)))
    spans = [(begins, ends) for name, begins, ends in rows if name in work.mosaics]
    return min(begins for begins, _ in spans), max(ends for _, ends in spans)


def _build(settings: Settings, name: str, work: _Work, tell: Tell) -> None:
    """Write the folders and the coverage of a version into the staging area."""
    targets = [naming.sky_path(settings.stage, name, kind) for kind in ("hips", "weight")]
    scratch = Pair(*map(scratch_path, targets))
    covered = moc.union(map_of(path) for path in work.mosaics.values())
    drop = _touched(work)
    base = None if work.base is None else _folders(Path(work.base.published_path or ""))
    try:
        for folder in scratch:
            folder.mkdir(parents=True)
        hips_merge.merge(_parts(work, drop), scratch, work.order, base=base, drop=drop, tell=tell)
        for folder, kind in zip(scratch, ("hips", "weight"), strict=True):
            moc.save(covered, folder / "Moc.fits")
            hips_tiles.save_properties(folder, _properties(name, kind, work) | _extent(covered))
        moc.save(covered, naming.sky_path(settings.stage, name, "moc"))
        for folder, target in zip(scratch, targets, strict=True):
            hips.install(folder, target)
    finally:
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(published: Path) -> Pair:
    name = published.name.removesuffix(naming.SKY_SUFFIXES["hips"])
    return Pair(published, published.with_name(f"{name}{naming.SKY_SUFFIXES['weight']}"))


def _parts(work: _Work, drop: set[int]) -> list[Part]:
    """Return what is added: all of new mosaics, and of the others what withdrawn ones have spoiled."""
    parts = []
    for name, path in work.mosaics.items():
        whole = work.base is None or name in work.added
        if whole or drop:
            folder, weight = naming.beside_mosaic(path, "hips"), naming.beside_mosaic(path, "weight")
            parts.append(Part(folder, weight, None if whole else frozenset(drop)))
    return parts


def _touched(work: _Work) -> set[int]:
    """Return the deepest tiles that withdrawn mosaics have touched; where that is not known, all."""
    if work.base is None or not work.withdrawn:
        return set()
    with get_session("products", read_only=True) as session:
        paths = session.scalars(select(Mosaic.path).where(Mosaic.name.in_(work.withdrawn)))
        folders = [naming.beside_mosaic(Path(path), "hips") for path in paths]
    if len(folders) < len(work.withdrawn) or not all(folder.is_dir() for folder in folders):
        folders = [Path(work.base.published_path or "")]
    return {tile for folder in folders for tile in hips_tiles.tiles_of(folder, work.order)}


def _properties(name: str, kind: str, work: _Work) -> dict[str, str | float | int]:
    first = naming.beside_mosaic(next(iter(work.mosaics.values())), "hips")
    begins, ends = _span(work)
    told: dict[str, str | float | int] = dict(hips_tiles.load_properties(first))
    told |= {"hips_order": work.order, "s_pixel_scale": f"{hips_tiles.pixel_deg(work.order):.6g}"}
    told |= {"t_min": f"{begins:.6f}", "t_max": f"{ends:.6f}"}
    told["hips_release_date"] = f"{Time.now().isot[:16]}Z"
    identifier = name if kind == "hips" else f"{name}-weight"
    told |= {"creator_did": f"ivo://dsa110.contimg/P/{identifier}", "obs_title": f"DSA-110 continuum {identifier}"}
    if work.base is not None:
        told["hips_pixel_cut"] = hips_tiles.load_properties(Path(work.base.published_path or ""))["hips_pixel_cut"]
    if kind == "weight":
        told["hips_tile_format"] = "fits"
        del told["hips_pixel_cut"]
    return told


def _extent(covered: MOC) -> dict[str, str | float | int]:
    return {"moc_sky_fraction": f"{covered.sky_fraction:.6g}"}


def _register(
    connection: RegistryConnection,
    stage: Path,
    name: str,
    work: _Work,
    last: ProductRow | None,
    options: ProductOptions,
) -> None:
    begins, ends = _span(work)
    inputs: list[Input] = [{"id": mosaic, "role": "mosaic"} for mosaic in work.mosaics]
    metadata: dict[str, object] = {
        "mosaics": list(work.mosaics),
        "time_range": {"start_mjd": begins, "end_mjd": ends},
        "companions": [str(naming.sky_path(stage, name, kind)) for kind in ("weight", "moc")],
        "provenance": record(activity="sky", inputs=inputs, options=options),
    }
    register_data_instance(
        connection,
        "image",
        name,
        naming.sky_path(stage, name),
        metadata=metadata,
        supersedes=None if last is None else last.data_id,
        derived_from=work.added,
    )


def _publish(connection: RegistryConnection, name: str) -> None:
    """Check a version that is in staging, store the figures, and publish it if it passed."""
    checks = _checks(get_data(connection, name))
    with get_session("products") as session:
        QARepository.store(session, check_rows(name, checks))
    finalize_data(connection, name, verdict_of(checks).value, "validated")


def _checks(row: ProductRow) -> list[Check]:
    folder = Path(row.stage_path)
    order, standing = hips_merge.deepest_order(folder), standing_mosaics()
    tiles = (hips_tiles.tile_path(folder, order, tile) for tile in hips_tiles.tiles_of(folder, order))
    pixels = sum(int(np.isfinite(hips_tiles.load_tile(path)[0]).sum()) for path in tiles)
    shown = pixels * hips_tiles.pixel_deg(order) ** 2 / moc.area_deg2(moc.load(folder / "Moc.fits"))
    gone = sum(name not in standing for name in _mosaics_of(row))
    return [
        at_least("shown_fraction", shown, None, MIN_SHOWN, f"pixels have values in {shown:.3f} of the area covered"),
        at_most("mosaics_not_standing", float(gone), None, 0.0, f"{gone} of its mosaics are not published any more"),
    ]


def _take_back(
    connection: RegistryConnection, last: ProductRow | None, work: _Work | None, successor: str | None
) -> None:
    """Retract a version that shows mosaics which no longer stand."""
    if last is not None and work is not None and work.withdrawn and last.status == "published":
        why = f"it shows {', '.join(work.withdrawn)}, which no longer stand"
        retract(connection, last.data_id, reason=why, by=BY, successor=successor)


def _remove_old(connection: RegistryConnection, kept: int) -> None:
    """Retract the versions that gave way, but the newest ones, and remove what the pipeline has retracted."""
    published = find_rows(connection, OURS, DataProduct.status == "published")
    gave_way = [row for row in published[:-1] if row.superseded_by is not None]
    for row in gave_way[: max(len(gave_way) - kept, 0)]:
        newest = published[-1].data_id
        why = f"{newest} takes its place, and {kept} versions that gave way are kept"
        retract(connection, row.data_id, reason=why, by=BY, successor=newest)
    for row in find_rows(connection, OURS, DataProduct.status == "retracted", DataProduct.owner.is_(None)):
        noted = row.details.get("retract")
        if isinstance(noted, dict) and noted.get("by") == BY and Path(row.published_path or "").exists():
            discard_tombstone(connection, row.data_id)
            logger.info("removed %s: %s", row.data_id, row.retract_reason)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Let one process at a time make the sky."""
    handle = os.open(settings.state / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PipelineError("another process makes the HiPS of the sky: wait until it is done") from None
        yield
    finally:
        os.close(handle)
