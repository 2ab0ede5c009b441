"""Tiles to a published mosaic, by the specification's names: its stages 3 to 9 as thin calls into the one code path.

    check_for_new_group                    pipeline.state.form_mosaic_groups
    solve_calibration_for_group            the `solve` and `solve_catalogue` jobs of a group
    apply_calibration_to_group             its `calibrate` jobs
    image_group, image_ms                  its `image` jobs; one of them
    create_mosaic                          its `mosaic` job
    run_crossmatch_for_mosaic              photometry.crossmatch, where `config.crossmatch.enabled`
    run_qa_checks                          qa.checks
    submit_photometry_job                  a `photometry` job, for the next run
    register, finalize, trigger, validate  re-exported

What is due is decided by `jobs.next_jobs` and done by `runner.execute`, as in `contimg run`: what is done already
is left alone, so that each call may be repeated.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.catalog_query import load_sky_model
from dsa110_contimg.database.data_registration import (
    finalize_mosaic,
    register_mosaic_in_data_registry,
    set_photometry_status,
    trigger_auto_publish,
)
from dsa110_contimg.database.models import Job as JobRow
from dsa110_contimg.database.models import JobState, MSIndex
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.registry_rows import get_data, open_registry
from dsa110_contimg.errors import MosaicError, PipelineError
from dsa110_contimg.formats import fits_image
from dsa110_contimg.mosaic.consistency import validate_tiles_consistency
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.photometry.crossmatch import CrossmatchResult, crossmatch
from dsa110_contimg.pipeline import runner
from dsa110_contimg.pipeline.jobs import Job, Stage, next_jobs
from dsa110_contimg.pipeline.state import form_mosaic_groups, load_state
from dsa110_contimg.qa.checks import Check, Verdict, image_checks, verdict_of

__all__ = [
    "CrossMatchStage",
    "PipelineConfig",
    "PipelineContext",
    "QAResult",
    "apply_calibration_to_group",
    "check_for_new_group",
    "create_mosaic",
    "finalize_mosaic",
    "image_group",
    "image_ms",
    "register_mosaic_in_data_registry",
    "run_crossmatch_for_mosaic",
    "run_qa_checks",
    "solve_calibration_for_group",
    "submit_photometry_job",
    "trigger_auto_publish",
    "validate_tiles_consistency",
]
CATALOG_RADIUS_DEG = 5.0


@dataclass(frozen=True)
class CrossMatchConfig:
    """Whether mosaics are crossmatched."""

    enabled: bool = True


@dataclass(frozen=True)
class PipelineConfig:
    """What a context is configured with."""

    crossmatch: CrossMatchConfig = field(default_factory=CrossMatchConfig)
    options: PipelineOptions = field(default_factory=PipelineOptions)


@dataclass(frozen=True)
class PipelineContext:
    """Where and how the functions of this module work, and the mosaic that a stage looks at."""

    config: PipelineConfig = field(default_factory=PipelineConfig)
    settings: Settings = field(default_factory=Settings)
    mosaic_path: Path | None = None


@dataclass(frozen=True)
class CrossMatchStage:
    """Compares a mosaic with the catalogue of known sources."""

    context: PipelineContext

    def execute(self) -> CrossmatchResult:
        """Return how the context's mosaic compares with the catalogue.

        Raises
        ------
        MosaicError
            If the context names no mosaic.
        """
        if self.context.mosaic_path is None:
            raise MosaicError("the context names no mosaic: set mosaic_path")
        picture = fits_image.load(self.context.mosaic_path)
        options = self.context.config.options.photometry
        with get_session("master_sources", read_only=True) as session:
            sources = load_sky_model(session, picture.middle, CATALOG_RADIUS_DEG, min_flux_jy=options.min_flux_jy)
        return crossmatch(picture, sources, options)


@dataclass(frozen=True)
class QAResult:
    """The checks of one image and what they add up to."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return verdict_of(self.checks) is Verdict.PASSED

    @property
    def valid(self) -> bool:
        """Whether the image is usable: no check failed."""
        return verdict_of(self.checks) is not Verdict.FAILED


def check_for_new_group(context: PipelineContext | None = None) -> str | None:
    """Form the groups that the tiles allow; return the oldest group that still lacks its mosaic, or None."""
    options = (context or PipelineContext()).config.options
    form_mosaic_groups(options.mosaic, end_of_data=False)
    with get_session("products", read_only=True) as session:
        return next((group.group_id for group in MosaicRepository.list_groups(session, status="pending")), None)


def solve_calibration_for_group(group_id: str, context: PipelineContext | None = None) -> list[str]:
    """Solve what the registry lacks for a group; return the ids of the jobs that were done."""
    return _do(group_id, (Stage.SOLVE, Stage.SOLVE_CATALOGUE), context)


def apply_calibration_to_group(group_id: str, context: PipelineContext | None = None) -> list[str]:
    """Calibrate the tiles of a group that are not yet; return the ids of the jobs that were done."""
    return _do(group_id, (Stage.CALIBRATE,), context)


def image_group(group_id: str, context: PipelineContext | None = None) -> list[str]:
    """Image the calibrated tiles of a group that are not yet; return the ids of the jobs that were done."""
    return _do(group_id, (Stage.IMAGE,), context)


def image_ms(ms_path: Path, context: PipelineContext | None = None) -> Path:
    """Image one calibrated tile, if it is not yet, and return its image."""
    with get_session("products", read_only=True) as session:
        tile = session.scalar(select(MSIndex).where(MSIndex.path == str(ms_path)))
    if tile is None:
        raise PipelineError(f"{ms_path} is not in ms_index: convert its group first")
    _execute_due({str(tile.group_id)}, (Stage.IMAGE,), context or PipelineContext())
    with get_session("products", read_only=True) as session:
        name = session.scalar(select(MSIndex.imagename).where(MSIndex.path == str(ms_path)))
    if name is None:
        raise PipelineError(f"{ms_path} is at stage {tile.stage}: calibrate it first")
    return Path(name)


def create_mosaic(group_id: str, context: PipelineContext | None = None) -> str:
    """Coadd a group, if it is not yet, and return the mosaic's id."""
    _do(group_id, (Stage.MOSAIC,), context)
    with get_session("products", read_only=True) as session:
        group = next(g for g in MosaicRepository.list_groups(session) if g.group_id == group_id)
    if group.mosaic_id is None:
        raise MosaicError(f"group {group_id} cannot be coadded yet: too few of its tiles are imaged")
    return group.mosaic_id


def run_crossmatch_for_mosaic(mosaic_path: Path, context: PipelineContext | None = None) -> CrossmatchResult | None:
    """Compare a mosaic with the catalogue; None where the configuration turns it off."""
    context = context or PipelineContext()
    if not context.config.crossmatch.enabled:
        return None
    return CrossMatchStage(PipelineContext(context.config, context.settings, mosaic_path)).execute()


def run_qa_checks(path: Path | str, options: PipelineOptions | None = None) -> QAResult:
    """Check the image of a product, with the noise map that lies beside it if there is one."""
    noise_path = Path(path).with_name(f"{Path(path).stem}-noise.fits")
    noise = fits_image.load(noise_path) if noise_path.exists() else None
    checks = image_checks(fits_image.load(Path(path)), (options or PipelineOptions()).qa, noise=noise)
    return QAResult(tuple(checks))


def submit_photometry_job(data_id: str) -> str:
    """Record that a mosaic is to be measured, which blocks its publication until it is; return the job's id."""
    with open_registry() as connection:
        get_data(connection, data_id)
        with get_session("products") as session:
            job_id = leases.ensure_job(session, Stage.PHOTOMETRY, data_id, now=time.time())
            measured = session.get_one(JobRow, job_id).state == JobState.COMPLETED
        set_photometry_status(connection, data_id, "completed" if measured else "pending", job_id)
    return job_id


def _do(group_id: str, stages: Collection[Stage], context: PipelineContext | None) -> list[str]:
    """Do the due jobs of some stages whose subject is a mosaic group or one of its tiles."""
    with get_session("products", read_only=True) as session:
        tiles = MosaicRepository.members(session, group_id)
    if not tiles:
        raise MosaicError(f"there is no mosaic group {group_id}")
    return _execute_due({group_id, *(str(tile.group_id) for tile in tiles)}, stages, context or PipelineContext())


def _execute_due(subjects: Collection[str], stages: Collection[Stage], context: PipelineContext) -> list[str]:
    options, done = context.config.options, list[str]()
    while True:
        due = next_jobs(load_state(end_of_data=False), options.calibration, options.mosaic)
        job = next((job for job in due if job.stage in stages and job.subject in subjects), None)
        if job is None:
            return done
        done.append(_finish(job, context))


def _finish(job: Job, context: PipelineContext) -> str:
    outcome = runner.execute(job, this_process(), context.settings, context.config.options)
    if outcome.result != "completed":
        raise PipelineError(outcome.error or f"{job.job_id} is in the hands of another process")
    return job.job_id
