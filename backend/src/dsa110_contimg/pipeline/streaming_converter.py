"""Files in, by the specification's names: its stages 1 and 2 as thin calls into the one code path.

bootstrap_directory, parse_subband_info, record_subband    pipeline.ingest, database.ingest_queue
_polling_loop                                              pipeline.arrivals: what comes into the folder
_worker_loop                                               pipeline.runner.run
convert_subband_groups_to_ms                               pipeline.attempt.execute of `convert` jobs
ms_index_upsert                                            database.repositories
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.ingest_queue import record_subband
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.errors import ConfigurationError, PipelineError
from dsa110_contimg.options import PipelineOptions
from dsa110_contimg.pipeline import runner
from dsa110_contimg.pipeline.arrivals import Arrivals
from dsa110_contimg.pipeline.attempt import execute
from dsa110_contimg.pipeline.ingest import ScanReport, bootstrap_directory, offer_groups
from dsa110_contimg.pipeline.jobs import Job, Stage

STOP_LOOK_S = 0.5
"""Between looks at the event that ends the polling loop."""
__all__ = [
    "ScanReport",
    "_polling_loop",
    "_worker_loop",
    "bootstrap_directory",
    "convert_subband_groups_to_ms",
    "ms_index_upsert",
    "offer_groups",
    "parse_subband_info",
    "record_subband",
]


def parse_subband_info(path: Path) -> tuple[str, int] | None:
    """Return (stamp as a provisional group id, subband index) of a finished subband's name, else None."""
    name = naming.parse_subband(path)
    return None if name is None or name.unfinished else (name.stamp, name.index)


def _polling_loop(settings: Settings, options: PipelineOptions, stop: Event, interval_s: float = 5.0) -> None:
    """Record what arrives in the incoming folder until told to stop.

    It is told of new files where the file system does so; elsewhere the folder is listed every `interval_s`.
    """
    conversion, come = replace(options.conversion, poll_s=interval_s), Event()
    with Arrivals(settings.incoming, conversion, come.set) as arrivals:
        while not stop.is_set():
            arrivals.collect()
            if come.wait(min(arrivals.next_look_s, STOP_LOOK_S)):
                come.clear()


def _worker_loop(settings: Settings, options: PipelineOptions, *, once: bool = False) -> runner.RunSummary:
    """Do what is due; with `once`, until nothing is left."""
    return runner.run(settings, options, once=once)


def convert_subband_groups_to_ms(
    start: str,
    end: str,
    path_mapper: Callable[[Path, str], Path] = naming.ms_path,
    *,
    settings: Settings | None = None,
    options: PipelineOptions | None = None,
) -> list[Path]:
    """Convert the offered groups between two group ids (inclusive) and return their Measurement Sets.

    Parameters
    ----------
    start, end
        Group ids, YYYY-MM-DDTHH:MM:SS.
    path_mapper
        From stage folder and group id to a path; it must agree with `naming.ms_path`, where all else looks.

    Raises
    ------
    PipelineError
        If a group cannot be converted, or a path is not where sets are looked for.
    """
    settings, options = settings or Settings(), options or PipelineOptions()
    with get_session("ingest", read_only=True) as session:
        groups = [group.group_id for group in ingest_queue.list_groups(session, "pending")]
    return [_convert(name, path_mapper, settings, options) for name in groups if start <= name <= end]


def _convert(
    group_id: str, path_mapper: Callable[[Path, str], Path], settings: Settings, options: PipelineOptions
) -> Path:
    path = naming.ms_path(settings.stage, group_id)
    if path_mapper(settings.stage, group_id) != path:
        raise ConfigurationError(f"the Measurement Set of {group_id} belongs at {path}, not where path_mapper puts it")
    outcome = execute(Job(Stage.CONVERT, group_id), this_process(), settings, options)
    if outcome.result != "completed":
        raise PipelineError(outcome.error or f"group {group_id} is in the hands of another process")
    return path
