"""Files in: from the incoming folder to groups in the ingest queue (S2, stages 1 and 2).

The telescope's files are read, never touched. A group is known by the start time of its data; the stamp in a
name is a node's wall clock and only a hint. Each file is told apart:

    recorded     a subband of its group
    known        recorded by an earlier scan
    repeated     its group already has this subband, from another file: the first one is kept
    unfinished   still being written or copied: left for the next scan
    quarantined  truncated, foreign, inconsistent or absurd: refused, with the reason

A quarantined file that changes (its inode does: a copy with its old dates counts, too) is looked at again. A good
one that joins a group which had failed opens that group again; one that comes after conversion changes nothing.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from dsa110_contimg import telescope
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.ingest_queue import record_subband
from dsa110_contimg.database.models import HDF5FileIndex, IngestQueue, Quarantine, QueueState, SubbandFile
from dsa110_contimg.errors import BadInputError, ConfigurationError, UnfinishedFileError
from dsa110_contimg.formats import uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline.jobs import Job, Stage

logger = logging.getLogger(__name__)
FILES_PER_TRANSACTION = 64


@dataclass
class ScanReport:
    """What one scan of the incoming folder found, as paths."""

    recorded: list[Path] = field(default_factory=list)
    known: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    quarantined: list[Path] = field(default_factory=list)


def bootstrap_directory(folder: Path, options: ConversionOptions | None = None) -> ScanReport:
    """Record every subband file of a folder that is not recorded yet.

    Raises
    ------
    ConfigurationError
        If the folder is not there.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"incoming folder {folder} does not exist: set PIPELINE_INCOMING_DIR or PIPELINE_ROOT")
    report = ScanReport()
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".hdf5", ".uvh5")]
    fresh = _not_known(paths, report)
    for start in range(0, len(fresh), FILES_PER_TRANSACTION):
        chunk = fresh[start : start + FILES_PER_TRANSACTION]
        _record(_read_headers(chunk, options or ConversionOptions(), report), report)
    logger.info(
        "scanned %s: %d recorded, %d known, %d repeated, %d unfinished, %d quarantined",
        *(folder, len(report.recorded), len(report.known), len(report.repeated)),
        *(len(report.unfinished), len(report.quarantined)),
    )
    return report


def close_groups() -> None:
    """Let every collecting group go on with what it has: no further files are expected."""
    with get_session("ingest") as session:
        for group in ingest_queue.list_groups(session, state="collecting"):
            ingest_queue.mark_pending(session, group.group_id, now=time.time())


def offer_groups(options: ConversionOptions, now: float) -> list[str]:
    """Offer the groups that are complete, and those that have waited long enough for the rest; return their ids."""
    with get_session("ingest") as session:
        present = ingest_queue.count_subbands(session)
        due = [
            group.group_id
            for group in ingest_queue.list_groups(session, state="collecting")
            if is_closed(group, present.get(group.group_id, 0), options, now)
        ]
        return [group_id for group_id in due if ingest_queue.mark_pending(session, group_id, now=now)]


def is_closed(group: IngestQueue, present: int, options: ConversionOptions, now: float) -> bool:
    """Return whether a collecting group waits for no further files."""
    return present >= telescope.N_SUBBANDS or now - group.last_update >= options.wait_s


def _not_known(paths: Iterable[Path], report: ScanReport) -> list[Path]:
    """Return the paths that no earlier scan has settled."""
    with get_session("ingest", read_only=True) as session:
        recorded = {row.file_path for row in session.query(SubbandFile)}
        refused = {row.path: row.quarantined_at for row in session.query(Quarantine)}
    with get_session("hdf5", read_only=True) as session:
        indexed = {row.path for row in session.query(HDF5FileIndex)}
    fresh = []
    for path in paths:
        key = str(path.resolve())
        settled = key in indexed and (key in recorded or key not in refused)
        if settled or (key in refused and path.stat().st_ctime <= refused[key]):
            report.known.append(path)
        else:
            fresh.append(path)
    return fresh


def _read_headers(
    paths: Iterable[Path], options: ConversionOptions, report: ScanReport
) -> list[tuple[Path, SubbandHeader | BadInputError]]:
    """Read headers; a file that cannot be read and has changed lately is unfinished, not bad."""
    found: list[tuple[Path, SubbandHeader | BadInputError]] = []
    for path in paths:
        try:
            found.append((path, uvh5.read_header(path)))
        except UnfinishedFileError:
            report.unfinished.append(path)
        except BadInputError as error:
            cut_off = "truncated" in str(error) or path.stat().st_size == 0
            if cut_off and time.time() - path.stat().st_mtime < options.settle_s:
                report.unfinished.append(path)
            else:
                found.append((path, error))
    return found


def _record(found: Iterable[tuple[Path, SubbandHeader | BadInputError]], report: ScanReport) -> None:
    # The queue commits before the index: a file that is indexed has been queued, however a scan ended.
    with get_session("hdf5") as index, get_session("ingest") as ingest:
        for path, header in found:
            key = str(path.resolve())
            if isinstance(header, BadInputError):
                ingest_queue.quarantine_file(ingest, key, str(header), now=time.time())
                report.quarantined.append(path)
                continue
            ingest_queue.release_file(ingest, key)
            status = record_subband(
                ingest,
                group_id=header.group_id,
                subband_idx=header.index,
                path=key,
                file_size=path.stat().st_size,
                now=time.time(),
            )
            {"repeated": report.repeated, "known": report.known}.get(status, report.recorded).append(path)
            if status == "recorded" and ingest_queue.get_state(ingest, header.group_id) is QueueState.FAILED:
                _reopen(ingest, header.group_id)
            _index(index, path, header)


def _reopen(ingest: Session, group_id: str) -> None:
    """Let a group that failed collect files again; its job first, so that a kill in between is made good."""
    with get_session("products") as products:
        leases.reopen_job(products, Job(Stage.CONVERT, group_id).job_id, time.time())
    ingest_queue.reopen_group(ingest, group_id)
    logger.info("group %s is open again: a file joined it", group_id)


def _index(session: Session, path: Path, header: SubbandHeader) -> None:
    """Enter a file into the index of everything seen."""
    stat = path.stat()
    ra, dec = telescope.meridian_icrs(header.dec_app_deg, 0.5 * (header.start_mjd + header.end_mjd))
    session.merge(
        HDF5FileIndex(
            path=str(path.resolve()),
            filename=path.name,
            group_id=header.group_id,
            subband_code=f"sb{header.index:02d}",
            subband_num=header.index,
            timestamp_iso=header.group_id,
            timestamp_mjd=header.start_mjd,
            file_size_bytes=stat.st_size,
            modified_time=stat.st_mtime,
            indexed_at=time.time(),
            ra_deg=float(ra[0]),
            dec_deg=float(dec[0]),
            obs_date=header.group_id[:10],
            obs_time=header.group_id[11:],
            start_jd=header.start_mjd + telescope.JD_MINUS_MJD,
            n_times=header.times_mjd.size,
        )
    )
