"""Files in: from the incoming folder to groups in the ingest queue (S2, stages 1 and 2).

The telescope's files are read, never touched. A group is known by the start time of its data; the stamp in a
name is a node's wall clock and only a hint. Each file is told apart:

    recorded     a subband of its group
    known        recorded by an earlier scan
    repeated     its group already has this subband, from another file: the first one is kept
    unfinished   still being written or copied: left for the next scan
    quarantined  truncated, foreign, inconsistent or absurd: refused, with the reason
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from dsa110_contimg import naming, telescope
from dsa110_contimg.database import get_session, ingest_queue
from dsa110_contimg.database.ingest_queue import record_subband
from dsa110_contimg.database.models import HDF5FileIndex, Quarantine, SubbandFile
from dsa110_contimg.errors import BadInputError, ConfigurationError, UnfinishedFileError
from dsa110_contimg.formats import uvh5
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.options import ConversionOptions

__all__ = ["ScanReport", "bootstrap_directory", "parse_subband_info", "record_subband"]

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


def parse_subband_info(path: Path) -> tuple[str, int] | None:
    """Return (stamp as a provisional group id, subband index) of a finished subband's name, else None."""
    name = naming.parse_subband(path)
    return None if name is None or name.unfinished else (name.stamp, name.index)


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
        settled = key in recorded or (key in indexed and key not in refused)
        if settled or (key in refused and path.stat().st_mtime <= refused[key]):
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
            if time.time() - path.stat().st_mtime < options.settle_s and "truncated" in str(error):
                report.unfinished.append(path)
            else:
                found.append((path, error))
    return found


def _record(found: Iterable[tuple[Path, SubbandHeader | BadInputError]], report: ScanReport) -> None:
    with get_session("ingest") as ingest, get_session("hdf5") as index:
        for path, header in found:
            if isinstance(header, BadInputError):
                ingest_queue.quarantine_file(ingest, str(path.resolve()), str(header), now=time.time())
                report.quarantined.append(path)
                logger.warning("quarantined: %s", header)
                continue
            status = record_subband(
                ingest,
                group_id=header.group_id,
                subband_idx=header.index,
                path=str(path.resolve()),
                file_size=path.stat().st_size,
                now=time.time(),
            )
            (report.repeated if status == "repeated" else report.recorded).append(path)
            _index(index, path, header)


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
