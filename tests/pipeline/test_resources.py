"""A job starts when it fits beside the others, and the pipeline pauses below the floor of free space."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dask_cluster import until

from dsa110_contimg import processes
from dsa110_contimg.config import Settings
from dsa110_contimg.monitoring.disks import GB
from dsa110_contimg.options import ImagingOptions, PipelineOptions, ResourceOptions
from dsa110_contimg.pipeline import resources
from dsa110_contimg.pipeline.executors import PoolCrew
from dsa110_contimg.pipeline.jobs import Job, Stage
from dsa110_contimg.pipeline.resources import MEMORY_GB, TIME_LIMIT_S, Machine, admit, fit_to_data, jobs_that_fit, room

OPTIONS = PipelineOptions()
LARGE = Machine(64, int(256 * GB), int(256 * GB))
IMAGE = Job(Stage.IMAGE, "2025-10-01T00:00:00")
OTHERS = [Job(stage, "2025-10-01T00:05:09") for stage in Stage]


def with_resources(**values: object) -> PipelineOptions:
    return dataclasses.replace(OPTIONS, resources=ResourceOptions(**values))  # type: ignore[arg-type]


def test_every_stage_has_its_memory_and_its_limit() -> None:
    assert set(MEMORY_GB) == set(TIME_LIMIT_S) == set(Stage)
    assert max(MEMORY_GB.values()) == MEMORY_GB[Stage.IMAGE]


def test_a_job_waits_for_memory_and_says_how_much() -> None:
    machine = Machine(64, int(16 * GB), int(15 * GB))
    assert admit(IMAGE, [], machine, OPTIONS) is None
    assert admit(IMAGE, [IMAGE], machine, OPTIONS) is None
    assert admit(IMAGE, [IMAGE, IMAGE], machine, OPTIONS) == (
        "image:2025-10-01T00:00:00 waits for memory: it needs 6.0 GB, 0.8 GB are free for jobs"
    )
    assert admit(IMAGE, [IMAGE, IMAGE], LARGE, OPTIONS) is None
    assert admit(IMAGE, [IMAGE], machine, with_resources(memory_gb=11.0)) is not None
    assert admit(IMAGE, [IMAGE], machine, with_resources(memory_gb=12.0)) is None


def test_other_programs_are_made_room_for() -> None:
    crowded = Machine(64, int(256 * GB), int(5 * GB))
    assert "5.0 GB are free" in str(admit(IMAGE, [], crowded, OPTIONS))
    assert admit(IMAGE, [], crowded, with_resources(memory_scale=0.1)) is None


def test_a_small_machine_does_one_job_after_the_other() -> None:
    small = Machine(2, int(4 * GB), int(3 * GB))
    assert admit(IMAGE, [], small, OPTIONS) is None
    assert admit(IMAGE, [Job(Stage.REGISTER, "m")], small, OPTIONS) is not None
    assert jobs_that_fit(small, OPTIONS) == 1


def test_a_job_waits_for_cores() -> None:
    two = dataclasses.replace(OPTIONS, imaging=ImagingOptions(threads=2))
    four = Machine(4, LARGE.memory_bytes, LARGE.free_bytes)
    assert admit(IMAGE, [IMAGE], four, two) is None
    assert admit(IMAGE, [IMAGE, IMAGE], four, two) == (
        "image:2025-10-01T00:00:00 waits for cores: it and 2 running jobs take 6 of 4"
    )
    assert jobs_that_fit(four, two) == 2
    assert admit(IMAGE, [], Machine(1, LARGE.memory_bytes, LARGE.free_bytes), two) is None


@given(
    memory=st.floats(2.0, 512.0),
    free=st.floats(0.0, 1.0),
    cores=st.integers(1, 128),
    running=st.lists(st.sampled_from(OTHERS), max_size=20),
    job=st.sampled_from(OTHERS),
)
def test_what_is_admitted_fits(memory: float, free: float, cores: int, running: list[Job], job: Job) -> None:
    machine = Machine(cores, int(memory * GB), int(memory * free * GB))
    if running and admit(job, running, machine, OPTIONS) is None:
        needed = sum(resources.memory_bytes(each.stage, OPTIONS.resources) for each in [*running, job])
        assert needed <= min(0.8 * machine.memory_bytes, machine.free_bytes)
        assert len(running) < cores


def test_a_cluster_holds_what_its_workers_hold() -> None:
    assert admit(IMAGE, [IMAGE] * 500, Machine.cluster(), OPTIONS) is None


def test_the_machine_is_what_the_kernel_says() -> None:
    machine = Machine.read()
    assert 1 <= machine.cores <= len(os.sched_getaffinity(0))
    assert 0 < machine.free_bytes <= machine.memory_bytes <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "8000000000", "memory.current": "3000000000", "memory.stat": "anon 1\ninactive_file 1000000000"},
        {
            "memory.limit_in_bytes": "8000000000",
            "memory.usage_in_bytes": "3000000000",
            "memory.stat": "inactive_file 7\ntotal_inactive_file 1000000000",
        },
    ],
    ids=["second version", "first version"],
)
def test_the_limits_of_a_container_hold(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "job_17"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    monkeypatch.setattr(resources, "control_groups", lambda: [folder, tmp_path])
    monkeypatch.setattr(resources, "_resident_bytes", lambda _process: 0)
    assert Machine.read() == Machine(1, 8_000_000_000, 6_000_000_000)


def test_control_groups_are_folders_of_this_process() -> None:
    groups = processes.control_groups()
    assert all(folder.is_dir() for folder in groups)
    assert len(groups) == len(set(groups))


def test_small_data_need_little_memory(tmp_path: Path) -> None:
    assert fit_to_data(OPTIONS, tmp_path) == OPTIONS
    assert fit_to_data(OPTIONS, tmp_path / "nowhere") == OPTIONS
    (tmp_path / "notes.txt").write_bytes(bytes(1000))
    assert fit_to_data(OPTIONS, tmp_path) == OPTIONS
    (tmp_path / "2025-10-01T00:00:00_sb00.hdf5").write_bytes(bytes(resources.FULL_SUBBAND_BYTES // 100))
    small = fit_to_data(OPTIONS, tmp_path).resources
    assert small.memory_scale == pytest.approx(0.01, rel=1e-3)
    assert resources.memory_bytes(Stage.IMAGE, small) == pytest.approx(0.555 * GB, rel=1e-2)
    assert resources.time_limit_s(Stage.IMAGE, ResourceOptions(time_limit_factor=2.0)) == 28800.0


def test_too_little_room_is_told_with_the_folder(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, min_free_gb=0.0)
    for area in ("stage", "products", "state"):
        assert f"the {area} folder" in str(room(settings, OPTIONS))
        (tmp_path / area).mkdir()
    assert room(settings, OPTIONS) is None
    assert "less than the floor of 1000000.0 GB" in str(room(settings.model_copy(update={"min_free_gb": 1e6}), OPTIONS))
    assert str(tmp_path / "stage") in str(room(settings, with_resources(free_space_floor_gb=1e6)))
    assert room(settings.model_copy(update={"min_free_gb": 1e6}), with_resources(free_space_floor_gb=0.0)) is None


def hold_and_free() -> tuple[int, int]:
    """Return what a process holds before it works, and after it has freed everything."""
    me = psutil.Process()
    before = me.memory_info().rss
    arrays = [np.ones(1_000_000) for _ in range(40)]
    del arrays
    return before, me.memory_info().rss


def test_a_worker_keeps_what_it_frees_until_its_job_ends() -> None:
    with PoolCrew(1) as crew:
        worker = psutil.Process(crew.submit(os.getpid).result())
        before, kept = crew.submit(hold_and_free).result()
        assert kept - before > 250_000_000
        until(lambda: worker.memory_info().rss - before < 100_000_000, patience_s=10.0)
