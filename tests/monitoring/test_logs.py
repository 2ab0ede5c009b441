"""Log lines: which attempt they belong to, one line each, whole among many processes and through rotations."""

import io
import json
import logging
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from dsa110_contimg.config import Settings
from dsa110_contimg.monitoring.logs import configure_logs, job_names, log_path, rotate_logs

logger = logging.getLogger("dsa110_contimg.test_logs")
LINES = 400
OWNER = "host:1:2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "contimg.jsonl"


def lines_of(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_lines_of_a_job_carry_its_names_and_no_others_do(file: Path) -> None:
    configure_logs(file)
    logger.info("before")
    with job_names(stage="image", subject="2025-12-24T03:18:05", attempt=2, owner=OWNER):
        logger.info("cleaned %d components of %s", 17, "ä")
        with job_names(stage="publish", subject="mosaic_x", attempt=1, owner=OWNER):
            logger.warning("inner")
        seen: list[dict[str, object]] = []
        other = threading.Thread(target=lambda: logger.info("another thread"))
        other.start()
        other.join()
    logger.info("after")
    seen = lines_of(file)
    names = {"stage": "image", "subject": "2025-12-24T03:18:05", "group_id": "2025-12-24T03:18:05", "attempt": 2}
    told = {**names, "job_id": "image:2025-12-24T03:18:05", "owner": OWNER, "event": "cleaned 17 components of ä"}
    assert told.items() <= seen[1].items()
    assert {"level": "info", "logger": logger.name, "process": os.getpid()}.items() <= seen[1].items()
    assert seen[2]["mosaic_id"] == "mosaic_x"
    assert [entry.get("attempt") for entry in seen] == [None, 2, 1, None, None]


def test_an_exception_is_one_line_with_its_traceback(file: Path) -> None:
    configure_logs(file, stream=io.StringIO())
    with job_names(stage="solve", subject="g", attempt=3, owner=OWNER):
        try:
            int("no\nweight")
        except ValueError:
            logger.exception("solve of %s", "g")
    (entry,) = lines_of(file)
    assert (entry["event"], entry["level"], entry["attempt"]) == ("solve of g", "error", 3)
    assert "ValueError: invalid literal" in str(entry["exception"])
    assert "test_logs.py" in str(entry["exception"])


def test_a_terminal_gets_readable_lines_and_only_errors_unless_asked(file: Path) -> None:
    terminal = io.StringIO()
    configure_logs(file, stream=terminal)
    logger.info("quiet")
    with job_names(stage="image", subject="g", attempt=2, owner=OWNER):
        logger.error("image of %s failed", "g")
    (line,) = terminal.getvalue().splitlines()
    assert "image of g failed" in line
    assert "attempt=2" in line
    assert "job_id=image:g" in line
    assert "\x1b" not in line, "no colors in a file"
    assert OWNER not in line
    assert [entry["event"] for entry in lines_of(file)] == ["quiet", "image of g failed"]
    configure_logs(None, verbose=True, stream=terminal)
    logger.info("loud")
    assert terminal.getvalue().count("loud") == 1, "configured again: the earlier handlers are gone"
    assert len(lines_of(file)) == 2


def test_what_cannot_be_written_stops_nobody_and_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    configure_logs(tmp_path / "logs" / "contimg.jsonl", stream=io.StringIO())
    logger.info("one")
    logger.info("two")
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_libraries_do_not_tell_addresses(file: Path) -> None:
    configure_logs(file, verbose=True, stream=io.StringIO())
    logging.getLogger("urllib3.connectionpool").info("POST /services/T1/B2/secret")
    logging.getLogger("apprise").info("slack://T1/B2/secret")
    logging.getLogger("apprise").error("Unsupported URL: slack//T1/B2/secret")
    logger.info("x")
    assert [entry["event"] for entry in lines_of(file)] == ["x"]


def write_lines(file: Path, number: int, start: object) -> None:
    """Log from a process of its own: short lines and ones larger than any buffer."""
    configure_logs(file, stream=io.StringIO())
    start.wait()  # type: ignore[attr-defined]
    for index in range(LINES):
        with job_names(stage="image", subject=f"{number}", attempt=index, owner=OWNER):
            logger.info("x" * (20_000 if index % 40 == 0 else 50))


def test_many_processes_lose_no_line_and_mix_none_while_the_file_is_rotated(file: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dsa110_contimg.monitoring.logs"])
    start = context.Barrier(4)
    writers = [context.Process(target=write_lines, args=(file, number, start)) for number in range(3)]
    for writer in writers:
        writer.start()
    start.wait()
    rotations = 0
    while any(writer.is_alive() for writer in writers):
        rotations += rotate_logs(file, max_bytes=60_000, keep=100)
        writers[rotations % 3].join(0.005)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    print(f"{rotations} rotations")
    files = sorted(file.parent.glob("contimg.jsonl*"))
    found = sorted((str(entry["subject"]), int(str(entry["attempt"]))) for path in files for entry in lines_of(path))
    assert found == sorted((str(number), index) for number in range(3) for index in range(LINES))
    assert rotations >= 2
    assert len(files) >= rotations


def test_a_small_log_stays_and_old_ones_go(file: Path) -> None:
    assert rotate_logs(file) is False, "there is no file yet"
    configure_logs(file, stream=io.StringIO())
    for number in range(5):
        logger.info("line %d", number)
        assert rotate_logs(file, max_bytes=1_000_000) is False
        assert rotate_logs(file, max_bytes=10, keep=2)
    assert sorted(path.name for path in file.parent.glob("contimg*")) == ["contimg.jsonl.1", "contimg.jsonl.2"]
    assert [entry["event"] for entry in lines_of(file.with_name("contimg.jsonl.1"))] == ["line 4"]


def test_with_a_server_each_machine_has_its_own_file(tmp_path: Path) -> None:
    own = log_path(Settings(root=tmp_path))
    shared = log_path(Settings(root=tmp_path, database_url="postgresql://x/y"))
    assert own == tmp_path / "state" / "logs" / "contimg.jsonl"
    assert shared.parent == own.parent
    assert shared.name.startswith("contimg-")
