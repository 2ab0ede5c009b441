"""What a machine has, and what a job may take of it: memory, cores, room on disk, time.

A job starts when what it needs and what the running ones need fits into the budget

    budget = min(fraction of all memory, free memory + what our own processes hold)

so that the machine never swaps, whatever else runs on it. Needs are those at the telescope's full size (96 antennas,
768 channels, 24 integrations), scaled for smaller data.
"""

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import psutil

from dsa110_contimg.config import Settings
from dsa110_contimg.monitoring.disks import GB, floor_bytes, measure_disks
from dsa110_contimg.naming import parse_subband
from dsa110_contimg.options import PipelineOptions, ResourceOptions
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.processes import control_groups

PROCESS_GB = 0.5
"""A process that has imported everything and compiled its kernels."""
MEMORY_GB = {
    Stage.CONVERT: 3.0,
    Stage.SOLVE: 5.0,
    Stage.SOLVE_CATALOGUE: 5.0,
    Stage.CALIBRATE: 5.0,
    Stage.IMAGE: 6.0,
    Stage.MEASURE: 2.0,
    Stage.MOSAIC: 6.0,
    Stage.REGISTER: 1.0,
    Stage.CHECK: 3.0,
    Stage.PHOTOMETRY: 3.0,
    Stage.PUBLISH: 1.0,
    Stage.VARIABILITY: 3.0,
}
"""At full size: convert, solve and image as measured, the others not above them."""
TIME_LIMIT_S = {
    Stage.CONVERT: 3600.0,
    Stage.SOLVE: 7200.0,
    Stage.SOLVE_CATALOGUE: 7200.0,
    Stage.CALIBRATE: 7200.0,
    Stage.IMAGE: 14400.0,
    Stage.MEASURE: 3600.0,
    Stage.MOSAIC: 14400.0,
    Stage.REGISTER: 3600.0,
    Stage.CHECK: 7200.0,
    Stage.PHOTOMETRY: 3600.0,
    Stage.PUBLISH: 14400.0,
    Stage.VARIABILITY: 14400.0,
}
"""Many times what a slow machine takes: only what hangs is stopped."""
FULL_SUBBAND_BYTES = 8 * 2 * 48 * 24 * (96 * 97 // 2)
"""The visibilities of a subband file: two polarizations, 48 channels, 24 integrations, 4,656 baselines."""
LOOKED_AT = 32
FULL_BYTES = 10_000_000
"""With less room a library that writes may fail in any way, or end its process."""
KEPT_AREAS = ("stage", "products", "state")


@dataclass(frozen=True)
class Machine:
    """What jobs may share."""

    cores: int
    memory_bytes: int
    """All of it, or the limit of our container or batch job."""
    free_bytes: int
    """What is free, and what our own processes already hold."""

    @classmethod
    def read(cls) -> Self:
        """Ask the kernel."""
        memory = psutil.virtual_memory()
        held = sum(_resident_bytes(process) for process in _own_processes())
        total, free = int(memory.total), int(memory.available) + held
        for limit, used in _memory_limits():
            total, free = min(total, limit), min(free, limit - used + held)
        return cls(_usable_cores(), total, max(0, min(free, total)))

    @classmethod
    def cluster(cls) -> Self:
        """Return the machines of a cluster, whose workers each know how many jobs they hold."""
        return cls(1 << 30, 1 << 60, 1 << 60)


def admit(job: Job, running: Collection[Job], machine: Machine, options: PipelineOptions) -> str | None:
    """Return why a job waits for memory or cores, or None when it may start.

    A machine that is too small for a job runs it alone.
    """
    cores = options.resources.cores or machine.cores
    wanted = cores_of(options) * (1 + len(running))
    if running and wanted > cores:
        return f"{job.job_id} waits for cores: it and {len(running)} running jobs take {wanted} of {cores}"
    most = options.resources.memory_gb * GB or options.resources.max_memory_fraction * machine.memory_bytes
    need = memory_bytes(job.stage, options.resources)
    held = sum(memory_bytes(other.stage, options.resources) for other in running)
    if held + need <= min(most, machine.free_bytes) or (not running and need > most):
        return None
    free = max(0.0, min(most, machine.free_bytes) - held)
    return f"{job.job_id} waits for memory: it needs {need / GB:.1f} GB, {free / GB:.1f} GB are free for jobs"


def memory_bytes(stage: Stage, options: ResourceOptions) -> float:
    """Return the memory that a stage needs."""
    return (PROCESS_GB + (MEMORY_GB[stage] - PROCESS_GB) * options.memory_scale) * GB


def time_limit_s(stage: Stage, options: ResourceOptions) -> float:
    """Return how long a job of a stage may take before it is stopped."""
    return TIME_LIMIT_S[stage] * options.time_limit_factor


def cores_of(options: PipelineOptions) -> int:
    """Return the cores that one job computes on; a job that may use them all leaves room for another."""
    return max(1, options.imaging.threads)


def jobs_that_fit(machine: Machine, options: PipelineOptions) -> int:
    """Return how many jobs of the largest kind the machine holds at once; at least one."""
    most = options.resources.memory_gb * GB or options.resources.max_memory_fraction * machine.memory_bytes
    largest = max(memory_bytes(stage, options.resources) for stage in Stage)
    cores = options.resources.cores or machine.cores
    return max(1, min(int(min(most, machine.free_bytes) / largest), cores // cores_of(options)))


def fit_to_data(options: PipelineOptions, incoming: Path) -> PipelineOptions:
    """Return options whose jobs need memory as the subband files in a folder do; full size while it is empty."""
    try:
        with os.scandir(incoming) as entries:
            subbands = (entry for entry in entries if parse_subband(Path(entry.name)) is not None)
            sizes = [entry.stat().st_size for entry in islice(subbands, LOOKED_AT)]
    except OSError:
        return options
    if not sizes:
        return options
    scale = min(1.0, max(sizes) / FULL_SUBBAND_BYTES) * options.resources.memory_scale
    return dataclasses.replace(options, resources=dataclasses.replace(options.resources, memory_scale=scale))


def room(settings: Settings, options: PipelineOptions) -> str | None:
    """Return why nothing new may be begun for want of room on disk or of the right to write, or None."""
    own = options.resources.free_space_floor_gb
    floor = floor_bytes(settings) if own is None else own * GB
    for disk in measure_disks(settings):
        if disk.area not in KEPT_AREAS:
            continue
        path = getattr(settings, disk.area)
        if disk.free_bytes is None:
            return f"the {disk.area} folder {path} does not answer: bring it back, the run goes on by itself"
        if not _is_writable(path):
            return (
                f"the {disk.area} folder {path} cannot be written: mend its mount or rights, the run goes on by itself"
            )
        if disk.free_bytes < floor:
            free = f"{disk.free_bytes / GB:.1f} GB are free below {path}, less than the floor of {floor / GB:.1f} GB"
            return f"{free}: make room (`contimg clean --dry-run` says what may go), the run goes on by itself"
    return None


def disk_fault(settings: Settings) -> str | None:
    """Return which folder is full or cannot be written, so that no job is to blame for how it ended; else None."""
    for disk in measure_disks(settings):
        path = getattr(settings, disk.area)
        if disk.area not in KEPT_AREAS or disk.free_bytes is None:
            continue
        if disk.free_bytes < FULL_BYTES:
            return f"only {disk.free_bytes / 1e6:.0f} MB are free below {path}: make room"
        if not _is_writable(path):
            return f"the {disk.area} folder {path} cannot be written: mend its mount or rights"
    return None


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _own_processes() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _usable_cores() -> int:
    cores = len(os.sched_getaffinity(0))
    for folder in control_groups():
        quota = _numbers(folder / "cpu.max") or _numbers(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] > 0:
            cores = min(cores, max(1, quota[0] // quota[1]))
    return cores


def _memory_limits() -> list[tuple[int, int]]:
    """Return limit and use of each control group that limits memory; files that may leave the cache are not in use."""
    found = []
    for folder in control_groups():
        for names in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            numbers = _numbers(*(folder / name for name in names))
            if len(numbers) == 2:
                found.append((numbers[0], max(0, numbers[1] - _idle_cache_bytes(folder))))
    return found


def _idle_cache_bytes(folder: Path) -> int:
    words = _words(folder / "memory.stat")
    figures = dict(zip(words[::2], words[1::2], strict=False))
    return int(figures.get("total_inactive_file", figures.get("inactive_file", "0")))


def _numbers(*files: Path) -> list[int]:
    """Return the numbers in some files of a control group; a word such as `max` is left out."""
    return [int(word) for word in _words(*files) if word.lstrip("-").isdigit()]


def _words(*files: Path) -> list[str]:
    try:
        return " ".join(file.read_text(encoding="ascii") for file in files).split()
    except OSError:
        return []
