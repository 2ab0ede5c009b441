"""One file of the incoming folder becomes a row of the queue and of the index, or is refused with its reason."""

import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.orm import Session

from dsa110_contimg import naming, telescope
from dsa110_contimg.database import file_index, get_session, ingest_queue, leases
from dsa110_contimg.database.ingest_queue import record_subband
from dsa110_contimg.database.models import QueueState
from dsa110_contimg.database.upserts import Value
from dsa110_contimg.errors import BadInputError, ConfigurationError, UnfinishedFileError
from dsa110_contimg.formats import uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline.incoming import FileState, list_names, look, printable
from dsa110_contimg.pipeline.jobs import Job, Stage

logger = logging.getLogger(__name__)
TRANSIENT = (errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.ENOTCONN, errno.EINTR)
"""Errors of a disk or a mount, not of a file."""


class Candidate(NamedTuple):
    """A file that no earlier scan has settled."""

    path: Path
    key: str
    """The path that the databases know it by."""
    state: FileState | None


def read_settled(one: Candidate, options: ConversionOptions) -> SubbandHeader:
    """Return the header of a file that nobody writes to.

    Raises
    ------
    UnfinishedFileError
        If it is still being written, copied or replaced, or its disk has trouble.
    BadInputError
        If it is not what its name claims.
    FileNotFoundError
        If it has gone.
    """
    if one.state is None:
        if one.path.is_symlink():
            raise BadInputError(f"{one.key} is where the link {one.path.name} points to, and nothing is there")
        raise FileNotFoundError(one.key)
    if not one.state.regular:
        raise BadInputError(f"{one.key} is a folder or a device, not a file")
    if printable(one.path.name) != one.path.name:
        raise BadInputError(f"{one.key} has a name that is not UTF-8: copy it to a name that is")
    try:
        header = uvh5.read_header(one.path)
    except UnfinishedFileError:
        raise
    except BadInputError as error:
        if _may_pass(one, error, options) or look(one.path) != one.state:
            raise UnfinishedFileError(f"{one.key} may be readable later: {error}") from error
        raise
    if look(one.path) != one.state:
        raise UnfinishedFileError(f"{one.key} was replaced while it was read")
    return header


def disk_trouble(error: BadInputError) -> OSError | None:
    """Return the error of a disk or a mount behind a file that cannot be read; None if the file is at fault."""
    cause = error.__cause__
    return cause if isinstance(cause, OSError) and cause.errno in TRANSIENT else None


def still_there(group_id: str, paths: Sequence[Path]) -> list[Path]:
    """Return the files of a group that are on disk; the others leave the group until they come back.

    Raises
    ------
    ConfigurationError
        If their whole folder is gone, or all that was in it: that says nothing about a file.
    """
    gone = [path for path in paths if look(path) is None]
    for folder in {path.parent for path in gone}:
        # An empty folder is what is left where a disk was mounted.
        missing = "is not there" if not folder.is_dir() else "" if list_names(folder) else "is empty"
        if missing:
            raise ConfigurationError(f"{folder}, with files of group {group_id}, {missing}: mount it and run again")
    if gone:
        logger.warning("group %s has lost %s: gone from the disk", group_id, ", ".join(path.name for path in gone))
        with get_session("hdf5") as index, get_session("ingest") as ingest:
            for path in gone:
                ingest_queue.forget_file(ingest, str(path))
            file_index.set_stored(index, [str(path) for path in gone], stored=False)
    return [path for path in paths if path not in gone]


def _may_pass(one: Candidate, error: BadInputError, options: ConversionOptions) -> bool:
    """Return whether a file that cannot be read may be readable later without anybody's help."""
    if disk_trouble(error) is not None:
        logger.warning("%s: its disk or mount has trouble", error)
        return True
    if one.state is None or not ("truncated" in str(error) or one.state.size == 0):
        return False
    # A date far ahead is that of a clock which was wrong, not of a copy in hand.
    return abs(time.time() - one.state.mtime_ns / 1e9) < options.settle_s


def enter(found: Sequence[tuple[Candidate, SubbandHeader | BadInputError]]) -> list[tuple[Candidate, str]]:
    """Enter files into the queue and the index; return what became of each, once that is committed."""
    statuses: list[tuple[Candidate, str]] = []
    rows: list[dict[str, Value]] = []
    # The queue commits before the index: a file that is indexed has been queued, however a scan ended.
    with get_session("hdf5") as index, get_session("ingest") as ingest:
        for one, header in found:
            if isinstance(header, BadInputError):
                name = naming.parse_subband(one.path)
                stamp = None if name is None else name.stamp
                ingest_queue.quarantine_file(ingest, one.key, str(header), stamp, now=time.time())
                statuses.append((one, "quarantined"))
                continue
            status = _enqueue(ingest, one, header)
            statuses.append((one, status))
            if status != "deferred":
                rows.append(_index_row(one, header))
        file_index.enter(index, rows)
    return statuses


def _enqueue(session: Session, one: Candidate, header: SubbandHeader) -> str:
    """Record one good file, and open its group again if that had failed."""
    ingest_queue.release_file(session, one.key)
    status = record_subband(
        session,
        group_id=header.group_id,
        subband_idx=header.index,
        path=one.key,
        file_size=one.state.size if one.state else None,
        now=time.time(),
    )
    if status == "recorded" and ingest_queue.get_state(session, header.group_id) is QueueState.FAILED:
        _reopen(session, header.group_id)
    return status


def _reopen(ingest: Session, group_id: str) -> None:
    """Let a group that failed collect files again; its job first, so that a kill in between is made good."""
    with get_session("products") as products:
        leases.reopen_job(products, Job(Stage.CONVERT, group_id).job_id, time.time())
    ingest_queue.reopen_group(ingest, group_id)
    logger.info("group %s is open again: a file joined it", group_id)


def _index_row(one: Candidate, header: SubbandHeader) -> dict[str, Value]:
    """Return a file's row in the index of everything seen."""
    ra, dec = telescope.meridian_icrs(header.dec_app_deg, 0.5 * (header.start_mjd + header.end_mjd))
    return {
        "path": one.key,
        "filename": one.path.name,
        "group_id": header.group_id,
        "subband_code": f"sb{header.index:02d}",
        "subband_num": header.index,
        "timestamp_iso": header.group_id,
        "timestamp_mjd": header.start_mjd,
        "file_size_bytes": one.state.size if one.state else None,
        "modified_time": one.state.mtime_ns / 1e9 if one.state else None,
        "indexed_at": time.time(),
        "stored": 1,
        "ra_deg": float(ra[0]),
        "dec_deg": float(dec[0]),
        "obs_date": header.group_id[:10],
        "obs_time": header.group_id[11:],
        "start_jd": header.start_mjd + telescope.JD_MINUS_MJD,
        "n_times": header.times_mjd.size,
    }
