import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dsa110_contimg.database.recovery import PathState, RecoveryAction, recovery_action
from dsa110_contimg.database.registry_rows import ProductRow

HARNESS = Path(__file__).with_name("crash_harness.py")
MEMORY = Path("/dev/shm")


def kill_everywhere(tmp_path: Path, second: bool, mode: str, kind: str, stride: int) -> int:
    if second and (not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev):
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=MEMORY if second else tmp_path) as area:
        command = [sys.executable, str(HARNESS), str(tmp_path / "root"), f"{area}/products", mode, kind, str(stride)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trials, _already_there = done.stdout.split()
    return int(trials)


@pytest.mark.parametrize(("second", "mode", "kind"), [(True, "move", "folder"), (False, "move", "file")])
def test_killed_at_some_points(tmp_path: Path, second: bool, mode: str, kind: str) -> None:
    assert kill_everywhere(tmp_path, second, mode, kind, 7) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("mode", ["move", "copy"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_at_every_point(tmp_path: Path, second: bool, mode: str, kind: str) -> None:
    assert kill_everywhere(tmp_path, second, mode, kind, 1) >= 30


def row(status: str, owner: str | None) -> ProductRow:
    return ProductRow(
        data_type="mosaic",
        data_id="m1",
        status=status,
        stage_path="/stage/mosaics/m1.fits",
        published_path=None,
        staged_at=1.0,
        published_at=None,
        publish_mode="move",
        metadata_json=None,
        qa_status=None,
        validation_status=None,
        finalization_status=None,
        auto_publish_enabled=1,
        publish_attempts=0,
        publish_error=None,
        photometry_status=None,
        photometry_job_id=None,
        owner=owner,
        attempt=1,
        lease_expires_at=None,
        sha256=None,
        size_bytes=None,
    )


STATES = list(itertools.product(PathState, repeat=3))


@pytest.mark.parametrize("status", ["staging", "validated", "failed", "retracted", "published"])
def test_a_row_at_rest_needs_nothing(status: str) -> None:
    assert {recovery_action(row(status, None), *states) for states in STATES} == {RecoveryAction.NOTHING}


@pytest.mark.parametrize(("source", "scratch", "target"), STATES)
def test_every_combination(source: PathState, scratch: PathState, target: PathState) -> None:
    action = recovery_action(row("publishing", "gone"), source, scratch, target)
    if action is RecoveryAction.FINISH:
        assert target is PathState.INTACT, "only the noted content may be called published"
        assert source is not PathState.OTHER, "a newer staged content is never given up for an older one"
    elif action is RecoveryAction.REDO:
        assert source is not PathState.ABSENT
        assert target in {PathState.ABSENT, PathState.UNKNOWN}
    else:
        assert action is RecoveryAction.GIVE_UP
        assert source is PathState.ABSENT or target in {PathState.OTHER, PathState.INTACT}
    after_commit = recovery_action(row("published", "gone"), source, scratch, target)
    assert (after_commit is RecoveryAction.CLEAN) == (target is PathState.INTACT), "never remove the last copy"
