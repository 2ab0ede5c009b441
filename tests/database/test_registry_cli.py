from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dsa110_contimg.database import cli
from dsa110_contimg.database.data_registry import get_data

if TYPE_CHECKING:
    from tests.database.conftest import Registry


def run(registry_file: Registry, command: str, *more: str) -> int:
    return cli.main([command, "--db", str(registry_file.root / "state" / "data_registry.sqlite3"), *more])


def test_status_publish_and_list(registry_file: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    registry_file.add()
    assert run(registry_file, "status", "--data-id", "m1") == 0
    assert "QA is 'pending', not 'passed'" in capsys.readouterr().out
    base = ("--products-base", str(registry_file.root / "archive"))
    assert run(registry_file, "publish", "--data-id", "m1", *base, "--json") == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["published_path"] == str(registry_file.root / "archive" / "mosaics" / "m1.fits")
    assert Path(report["published_path"]).exists()
    assert run(registry_file, "list", "--status", "published", "--json") == 0
    assert [row["data_id"] for row in json.loads(capsys.readouterr().out)] == ["m1"]
    assert run(registry_file, "list", "--status", "failed") == 0
    assert capsys.readouterr().out == "nothing\n"
    assert run(registry_file, "recover") == 0


def test_retry_after_a_failure(registry_file: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    source = registry_file.add()
    assert run(registry_file, "retry", "--data-id", "m1") == 1
    assert "there is nothing to retry" in capsys.readouterr().err
    content = source.read_bytes()
    source.unlink()
    assert run(registry_file, "publish", "--data-id", "m1") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "does not exist" in error
    assert error.count("\n") == 1
    source.write_bytes(content)
    assert run(registry_file, "retry", "--data-id", "m1", "--mode", "copy") == 0
    assert get_data(registry_file.conn, "m1").publish_attempts == 1


def test_wrong_usage(registry_file: Registry, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(registry_file, "status", "--data-id", "nothing") == 1
    assert "no product 'nothing'" in capsys.readouterr().err
    for arguments in ([], ["status"], ["explode"], ["list", "--colour", "red"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
    assert cli.main(["list", "--db", str(tmp_path / "none.sqlite3")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_as_a_module(registry_file: Registry) -> None:
    registry_file.add()
    command = [sys.executable, "-m", "dsa110_contimg.database.cli", "status", "--db"]
    database = str(registry_file.root / "state" / "data_registry.sqlite3")
    done = subprocess.run([*command, database, "--data-id", "m1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("m1: ")
