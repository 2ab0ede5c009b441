"""What happens to which thing: readable lines on a terminal, and the same as JSON lines in a file.

Modules log as always, `logging.getLogger(__name__)` and %-style arguments. Whoever runs a job binds its names once,
with `job_names`, and every line until the end of the block carries them, in this process only.

Many processes write one file. Each line is one write to a file opened for appending, so that lines never mix; the
file is followed when it is renamed (`WatchedFileHandler`), so that any process may rotate it.
"""

import fcntl
import io
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dsa110_contimg.config import Settings

MAX_BYTES = 50_000_000
KEEP = 20
"""A gigabyte of lines: about a month."""
MOSAIC_STAGES = frozenset({"register", "check", "photometry", "publish", "variability"})
_OURS = "contimg"
_ON_FILE_ONLY = ("process", "owner", "stage", "subject", "group_id", "mosaic_id")
_NOISY = ("apprise", "urllib3", "requests", "matplotlib", "numba", "asyncio", "watchfiles")
"""Libraries that tell addresses or trifles below WARNING."""
_TELLS_ADDRESSES = "apprise"
"""It complains with whole addresses; `monitoring.channels` says the same without the secrets."""


def log_path(settings: Settings) -> Path:
    """Return the file of log lines; with a database server each machine has its own."""
    name = "contimg.jsonl" if settings.database_url is None else f"contimg-{socket.gethostname()}.jsonl"
    return settings.logs / name


def configure_logs(file: Path | None, *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send the log of this process to a terminal and, as JSON lines, to a file; a later call replaces an earlier one.

    Parameters
    ----------
    file
        Where JSON lines go, from INFO up; it and its folder are made by the first line. None for no file.
    verbose
        Show INFO on the terminal; otherwise only errors.
    stream
        The terminal; standard error by default.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.name == _OURS]:
        root.removeHandler(handler)
        handler.close()
    terminal = logging.StreamHandler(sys.stderr if stream is None else stream)
    terminal.setLevel(logging.INFO if verbose else logging.ERROR)
    terminal.setFormatter(_formatter([_for_people], _console(terminal.stream)))
    handlers: list[logging.Handler] = [terminal]
    if file is not None:
        handlers.append(_file_handler(file))
    for handler in handlers:
        handler.name = _OURS
        root.addHandler(handler)
    root.setLevel(min(handler.level for handler in handlers))
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(_TELLS_ADDRESSES).propagate = False


@contextmanager
def job_names(*, stage: str, subject: str, attempt: int, owner: str) -> Iterator[None]:
    """Let every line in the block say which attempt at which job it belongs to.

    The subject is also told by the specification's name: `mosaic_id` for what follows a mosaic, else `group_id`.
    """
    known = {"mosaic_id" if stage in MOSAIC_STAGES else "group_id": subject}
    with structlog.contextvars.bound_contextvars(
        job_id=f"{stage}:{subject}", stage=stage, subject=subject, attempt=attempt, owner=owner, **known
    ):
        yield


def rotate_logs(file: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> bool:
    """Rename a log that has grown too large, `keep` old ones remain; False if it has not, or another process does it.

    The other processes notice at their next line.
    """
    if not file.exists():
        return False
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not file.exists() or file.stat().st_size < max_bytes:
            return False
        old = RotatingFileHandler(file, backupCount=keep, delay=True)
        old.doRollover()
        old.close()
    return True


class _LineWriter(WatchedFileHandler):
    """Writes each line by one system call: those of other processes may come before or after it, never within."""

    _lost = False

    def _open(self) -> io.TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(exist_ok=True)
        raw = io.FileIO(self.baseFilename, "a")
        return io.TextIOWrapper(raw, encoding="utf-8", write_through=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; what the file system refuses never reaches the one who logs."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging names it
        """Say once that lines are lost: a full disk must not stop the work that is logged."""
        if not self._lost:
            self._lost = True
            sys.stderr.write(f"contimg: {self.baseFilename} cannot be written: {sys.exc_info()[1]} ({record.name})\n")


def _file_handler(file: Path) -> logging.Handler:
    handler = _LineWriter(os.fspath(file), encoding="utf-8", delay=True)
    handler.setLevel(logging.INFO)
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    handler.setFormatter(_formatter([structlog.processors.format_exc_info], as_json))
    return handler


def _formatter(before: list[Processor], renderer: Processor) -> structlog.stdlib.ProcessorFormatter:
    """Return what turns a record of any logger into a line."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_moment,
    ]
    removed = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[removed, *before, renderer])


def _add_moment(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add when and in which process the line was said, which is the same in every handler."""
    record: logging.LogRecord = event["_record"]
    event["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    event["process"] = record.process
    return event


def _for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out what a person reads in the job's id."""
    return {name: value for name, value in event.items() if name not in _ON_FILE_ONLY}


def _console(stream: TextIO) -> structlog.dev.ConsoleRenderer:
    """Return the renderer for people, in color only on a terminal."""
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
