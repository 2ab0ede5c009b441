"""`contimg init` and `run`."""

import dataclasses
import json
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dsa110_contimg.config import Settings
from dsa110_contimg.database import init_databases
from dsa110_contimg.database.calibrators import register_standard_calibrators
from dsa110_contimg.database.product_paths import Roots, check_areas
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring.logs import configure_logs, log_path
from dsa110_contimg.options import MosaicOptions, PipelineOptions
from dsa110_contimg.pipeline.executors import Crew
from dsa110_contimg.pipeline.jobs import Job
from dsa110_contimg.pipeline.runner import Outcome, RunSummary
from dsa110_contimg.pipeline.runner import run as run_pipeline

LISTED = 5
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Quantization = Annotated[
    float, typer.Option(help="Compress images, rounded to the noise over this: 16 is usual; 0 does not.", min=0.0)
]
ApplyAstrometry = Annotated[
    bool, typer.Option("--apply-astrometry", help="Take each tile's offset from the catalogue out of the mosaic.")
]
CacheGb = Annotated[
    float, typer.Option(help="Disk for resampled tiles, for mosaics made again with one more; 0 keeps none.", min=0.0)
]
NightlyHips = Annotated[
    bool, typer.Option("--nightly-hips", help="Once a day, make a HiPS of the sky of all published mosaics.")
]


def init() -> None:
    """Make the folders and the databases; older databases are backed up and brought to this version.

    Example: PIPELINE_ROOT=/data/dsa contimg init
    """
    for path in initialize(Settings()):
        typer.echo(path)


def initialize(settings: Settings) -> list[str]:
    """Make folders and databases, or bring them to this version, and register the standard calibrators; repeatable.

    What is done to databases with rows in them is printed on standard error.

    Raises
    ------
    ConfigurationError
        If staging and products areas are not apart, a folder cannot be written, or a database cannot be brought to
        this version.
    """
    if settings.incoming_dir is not None and not settings.incoming.is_dir():
        raise ConfigurationError(f"incoming folder {settings.incoming} does not exist: check PIPELINE_INCOMING_DIR")
    check_areas(Roots(settings.stage.resolve(), settings.products.resolve()))
    folders = [settings.incoming, settings.stage, settings.products, settings.state]
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".contimg-can-write"
            if folder != settings.incoming:
                probe.touch()
                probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"folder {folder} cannot be written ({error.strerror}): choose another with PIPELINE_ROOT"
            ) from error
    databases = init_databases(lambda sentence: typer.echo(sentence, err=True))
    register_standard_calibrators()
    return [*map(str, folders), *databases]


def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to do.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that work at once.", min=1)] = 1,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do the jobs: tcp://HOST:8786.")
    ] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="The newest tile comes first, not the oldest.")
    ] = False,
    memory_gb: Annotated[
        float, typer.Option(help="Memory that jobs may hold together; 0 follows the machine.", min=0.0)
    ] = 0.0,
    floor_gb: Annotated[
        float | None, typer.Option(help="Pause while a disk has less free space; else PIPELINE_MIN_FREE_GB.", min=0.0)
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove by rule what nothing needs any more, as `contimg clean`.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads per process; 0 uses every core, 1 repeats bits.")] = 0,
    min_subbands: Annotated[int, typer.Option(help="Fewest subbands of a group.", min=1, max=16)] = 12,
    tiles: Annotated[int, typer.Option(help="Tiles in a mosaic group.", min=2)] = 10,
    overlap: Annotated[int, typer.Option(help="Tiles shared with the group before.", min=0)] = 2,
    apply_astrometry: ApplyAstrometry = False,
    cache_gb: CacheGb = 4.0,
    size: Annotated[int, typer.Option(help="Pixels on a side of a tile; 0 covers the field.")] = 0,
    cell_arcsec: Annotated[float, typer.Option(help="Pixel size; 0 follows the synthesized beam.")] = 0.0,
    engine: Annotated[str, typer.Option(help="What images: 'own', or 'wsclean' where it is installed.")] = "own",
    quantization: Quantization = 0.0,
    hips: Annotated[bool, typer.Option("--hips/--no-hips", help="Make a HiPS of each mosaic.")] = True,
    nightly_hips: NightlyHips = False,
    as_json: Json = False,
) -> None:
    """Process the incoming folder: groups to tiles, tiles to mosaics, mosaics to light curves.

    It goes on until it is told to stop (Ctrl-C or SIGTERM, a second time to stop at once). With --once the command ends
    when nothing is left, with exit code 1 if a file was refused, the run had to pause, or a job stands as failed.

    Example: PIPELINE_ROOT=/data/dsa contimg run --once --workers 2
    """
    _check_engine(engine)
    chosen = PipelineOptions()
    options = dataclasses.replace(
        chosen,
        conversion=dataclasses.replace(chosen.conversion, min_subbands=min_subbands),
        imaging=dataclasses.replace(chosen.imaging, size=size, cell_arcsec=cell_arcsec, threads=threads, engine=engine),
        mosaic=_mosaic_options(tiles, overlap, apply_astrometry=apply_astrometry, cache_gb=cache_gb),
        products=dataclasses.replace(chosen.products, quantization=quantization, hips=hips, nightly_hips=nightly_hips),
        resources=dataclasses.replace(chosen.resources, memory_gb=memory_gb, free_space_floor_gb=floor_gb),
        schedule=dataclasses.replace(chosen.schedule, newest_first=newest_first, clean=clean),
    )
    settings = Settings()
    initialize(settings)
    # The folder of the log may be new.
    configure_logs(log_path(settings), verbose=context.find_root().params["verbose"])
    crew = None if dask is None else _dask_crew(dask, settings)
    _end(run_with_progress(settings, options, once=once, workers=workers, crew=crew), as_json=as_json)


def _mosaic_options(tiles: int, overlap: int, *, apply_astrometry: bool, cache_gb: float) -> MosaicOptions:
    """Return the options of mosaics, of which a short group is no longer than a whole one."""
    if overlap >= tiles:
        raise typer.BadParameter(f"--overlap {overlap} must be smaller than --tiles {tiles}")
    shortest = min(MosaicOptions().min_tiles, tiles)
    return MosaicOptions(
        tiles=tiles, overlap=overlap, min_tiles=shortest, apply_astrometry=apply_astrometry, cache_gb=cache_gb
    )


def _end(summary: RunSummary, *, as_json: bool) -> NoReturn:
    """Tell what a run did, and end with its exit code."""
    if as_json:
        typer.echo(json.dumps(summary_dict(summary), indent=2))
    else:
        print_summary(summary)
    raise typer.Exit(summary.exit_code)


def _check_engine(name: str) -> None:
    # Imaging takes a second to import, and `contimg init` needs none of it.
    from dsa110_contimg.imaging.image import check_engine

    check_engine(name)


def _dask_crew(address: str, settings: Settings) -> Crew:
    # Dask takes a second to import, and not every installation has it.
    from dsa110_contimg.pipeline.dask_crew import DaskCrew

    return DaskCrew(address, settings)


def run_with_progress(
    settings: Settings, options: PipelineOptions, *, once: bool, workers: int, crew: Crew | None = None
) -> RunSummary:
    """Run the pipeline under a progress bar that names the job that ended last."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    # A thread draws the bar: where nobody sees it, it would be most of what an idle run costs.
    shown = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        refresh_per_second=2,
        disable=not console.is_terminal,
    )
    with shown as progress:
        task = progress.add_task("starting", total=None)
        done = 0

        def report(outcome: Outcome | None, due: list[Job]) -> None:
            nonlocal done
            if outcome is not None:
                done += 1
                name = f"{outcome.job.stage} {outcome.job.subject} {outcome.seconds:.1f} s"
                progress.update(task, description=name, completed=done)
                if outcome.error:
                    console.print(f"{outcome.job.job_id}: {outcome.error}", style="red", highlight=False)
            progress.update(task, total=done + len(due))

        return run_pipeline(settings, options, once=once, workers=workers, crew=crew, report=report)


def summary_dict(summary: RunSummary) -> dict[str, object]:
    """Return a run's summary as plain values."""
    kinds = ("completed", "failed", "paused")
    return {
        "exit_code": summary.exit_code,
        "files": {kind: summary.n_files(kind) for kind in vars(summary.scan)},
        "jobs": {kind: summary.counts[kind] for kind in kinds},
        "seconds": _seconds(summary),
        "errors": {outcome.job.job_id: outcome.error for outcome in summary.outcomes if outcome.error},
        "quarantined": [str(path) for path in summary.scan.quarantined],
        "paused": summary.paused,
        "failed_before": summary.standing,
    }


def _seconds(summary: RunSummary) -> dict[str, float]:
    """Return the seconds spent in each stage, over all workers."""
    spent: dict[str, float] = {}
    for outcome in summary.outcomes:
        spent[outcome.job.stage.value] = round(spent.get(outcome.job.stage.value, 0.0) + outcome.seconds, 2)
    return spent


def print_summary(summary: RunSummary) -> None:
    """Print what a run did, in a few lines."""
    done = summary.counts
    typer.echo(f"{done['completed']} jobs completed, {done['failed']} failed; {summary.n_files('recorded')} new files")
    for path in summary.scan.quarantined:
        typer.echo(f"quarantined: {path.name} (why: contimg status)")
    for outcome in summary.ended("failed"):
        typer.echo(f"failed: {outcome.job.job_id}: {outcome.error}", err=True)
    if summary.paused is not None:
        typer.echo(f"ended early: {summary.paused}; run again when that is done", err=True)
    if summary.standing:
        names = ", ".join(summary.standing[:LISTED]) + (" ..." if len(summary.standing) > LISTED else "")
        typer.echo(f"failed in earlier runs, and not opened again (contimg retry): {names}", err=True)
