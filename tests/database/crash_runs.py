"""Start the crash harness from a test, and say where it cannot run."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests import syscalls

MEMORY = Path("/dev/shm")
MODES, KINDS = ("move", "copy"), ("file", "folder")
Case = dict[str, object]


def needs_tracing() -> pytest.MarkDecorator:
    """Skip where system calls cannot be traced."""
    reason = syscalls.unavailable()
    return pytest.mark.skipif(reason is not None, reason=str(reason))


def run_tasks(tmp_path: Path, *cases: Case) -> list[dict[str, Any]]:
    """Run tasks in one process; with `second` the products are on the memory file system."""
    if any(case.get("second") for case in cases) and (
        not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev
    ):
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else tmp_path) as memory:
        tasks = [
            {name: value for name, value in case.items() if name != "second"}
            | {
                "root": str(tmp_path / "house"),
                "products": f"{memory if case.get('second') else tmp_path}/products",
            }
            for case in cases
        ]
        command = [sys.executable, "-m", "tests.database.crash_harness", json.dumps(tasks)]
        home = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home, timeout=1800)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
