"""Files in: from the incoming folder to groups in the ingest queue (S2, stages 1 and 2).

The telescope's files are read, never touched. A group is known by the start time of its data, so that any order of
arrival makes the same groups; the stamp in a name is a node's wall clock and only a hint, which serves as long as no
header can be read. Each file is told apart:

    recorded     a subband of its group
    known        recorded by an earlier scan
    repeated     its group already has this subband, from another file: the first one is kept
    late         its group has been converted without it: nothing changes
    unfinished   still being written or copied, or its group is just being converted: left for the next scan
    quarantined  truncated, foreign, inconsistent or absurd: refused, with the reason

A quarantined file that changes (its inode does: a copy with its old dates counts, too) is looked at again. A good
one that joins a group which had failed opens that group again. A file that has gone is no longer `stored` in the
index; nothing else follows until its group needs it.
"""

import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dsa110_contimg import telescope
from dsa110_contimg.database import file_index, get_session, ingest_queue
from dsa110_contimg.database.models import IngestQueue
from dsa110_contimg.errors import BadInputError, FolderAwayError, UnfinishedFileError
from dsa110_contimg.formats.uvh5 import SubbandHeader
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline.entries import Candidate, enter, read_settled
from dsa110_contimg.pipeline.incoming import FileState, list_names, look, printable

logger = logging.getLogger(__name__)
PATHS_PER_QUERY = 512
FILES_PER_TRANSACTION = 64
Item = TypeVar("Item")


@dataclass
class ScanReport:
    """What one scan of the incoming folder found, as paths."""

    recorded: list[Path] = field(default_factory=list)
    known: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    late: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    quarantined: list[Path] = field(default_factory=list)

    @property
    def has_news(self) -> bool:
        """Whether something changed in the rows."""
        return bool(self.recorded or self.repeated or self.late or self.quarantined)


class Intake:
    """The incoming folder as one process knows it: a scan costs what is new, not what is known.

    Parameters
    ----------
    folder
        The incoming folder.
    options
        When a file is finished.
    """

    def __init__(self, folder: Path, options: ConversionOptions) -> None:
        self.folder, self._options = folder, options
        self._settled: set[str] = set()
        self._refused: dict[str, FileState | None] = {}
        self._open: set[str] = set()
        self._began = False
        self.emptied = False
        """Whether the last listing found nothing although there had been files, as where a mount is lost."""

    @property
    def waits(self) -> bool:
        """Whether a file has to be looked at again."""
        return bool(self._open)

    def scan(self, names: Collection[str] = (), *, whole: bool = True) -> ScanReport:
        """Record what has come.

        Parameters
        ----------
        names
            Files that somebody told of: they are looked at, whatever was known of them.
        whole
            List the folder; otherwise only these files and those that were unfinished are looked at.

        Raises
        ------
        ConfigurationError
            If the folder is not there or cannot be listed (FolderAwayError), or a database cannot be used.
        """
        report = ScanReport()
        folder = os.path.realpath(self.folder)
        self._settled.difference_update(names)
        if whole:
            links = self._list()
            self._follow_gone(folder, links.keys())
        else:
            links = {name: (self.folder / name).is_symlink() for name in {*names, *self._open}}
        unsettled = sorted(name for name in links if name not in self._settled)
        for chunk in _chunks(unsettled, PATHS_PER_QUERY):
            fresh = self._not_settled({name: _key(folder, name, link=links[name]) for name in chunk}, report)
            for part in _chunks(fresh, FILES_PER_TRANSACTION):
                self._take(part, report)
        if report != ScanReport(known=report.known):
            logger.info("scanned %s: %s", self.folder, _counts(report))
        return report

    def _list(self) -> dict[str, bool]:
        try:
            return list_names(self.folder)
        except FileNotFoundError as error:
            raise FolderAwayError(
                f"incoming folder {self.folder} does not exist: set PIPELINE_INCOMING_DIR or PIPELINE_ROOT"
            ) from error
        except OSError as error:
            raise FolderAwayError(
                f"incoming folder {self.folder} cannot be listed: {error.strerror}; check its mount and permissions"
            ) from error

    def _not_settled(self, keys: Mapping[str, str], report: ScanReport) -> list[Candidate]:
        """Return the files that no scan has settled, and remember those that one has."""
        with get_session("ingest", read_only=True) as session:
            recorded, refused = ingest_queue.find_settled(session, list(keys.values()))
        with get_session("hdf5", read_only=True) as session:
            stored = file_index.find_stored(session, list(keys.values()))
        fresh, back, now = [], [], time.time()
        for name, key in keys.items():
            path = self.folder / name
            if key not in refused and key in stored and (stored[key] or key in recorded):
                self._settle(name)
                report.known.append(path)
                back += [] if stored[key] else [key]
                continue
            try:
                one = Candidate(path, key, look(path))
            except OSError as error:
                self._wait_for(path, error, report)
                continue
            if key not in refused or not self._still_refused(one, refused[key], now):
                fresh.append(one)
            elif name not in self._refused:
                self._refused[name] = one.state
                report.known.append(path)
        if back:
            with get_session("hdf5") as session:
                file_index.set_stored(session, back, stored=True)
        return fresh

    def _still_refused(self, one: Candidate, refused_at: float, now: float) -> bool:
        """Return whether a file is the one that was refused; a refusal from the future tells nothing."""
        if one.path.name in self._refused:
            return self._refused[one.path.name] == one.state
        return one.state is None or one.state.ctime_ns / 1e9 <= refused_at <= now

    def _take(self, candidates: Sequence[Candidate], report: ScanReport) -> None:
        """Read headers and enter what they say into the databases."""
        found: list[tuple[Candidate, SubbandHeader | BadInputError]] = []
        for one in candidates:
            try:
                found.append((one, read_settled(one, self._options)))
            except UnfinishedFileError as error:
                self._wait_for(one.path, error, report)
            except BadInputError as error:
                found.append((one, error))
            except FileNotFoundError:
                self._forget([one.path.name])
            except OSError as error:
                self._wait_for(one.path, error, report)
        for one, status in enter(found):
            getattr(report, {"deferred": "unfinished"}.get(status, status)).append(one.path)
            if status == "deferred":
                self._open.add(one.path.name)
            elif status == "quarantined":
                self._open.discard(one.path.name)
                self._refused[one.path.name] = one.state
            else:
                self._settle(one.path.name)

    def _wait_for(self, path: Path, error: Exception, report: ScanReport) -> None:
        """Leave a file for the next scan."""
        logger.debug("%s is left for the next scan: %s", path, error)
        report.unfinished.append(path)
        self._open.add(path.name)

    def _settle(self, name: str) -> None:
        self._forget([name])
        self._settled.add(name)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._settled.discard(name)
            self._open.discard(name)
            self._refused.pop(name, None)

    def _follow_gone(self, folder: str, present: Collection[str]) -> None:
        """Let the index say which of its files have gone."""
        # No set is made of all names: this runs every few seconds where nobody tells of new files.
        lost = {name for known in (self._settled, self._open, self._refused) for name in known if name not in present}
        gone = {_key(folder, name, link=False) for name in lost}
        if not self._began:
            names = {printable(name) for name in present}
            with get_session("hdf5", read_only=True) as session:
                gone |= {
                    path for path in file_index.list_stored(session, printable(folder)) if Path(path).name not in names
                }
            self._began = True
        self.emptied = not present and (self.emptied or bool(gone))
        for chunk in _chunks(sorted(gone), PATHS_PER_QUERY):
            with get_session("hdf5") as session:
                file_index.set_stored(session, chunk, stored=False)
        self._forget(lost)


def bootstrap_directory(folder: Path, options: ConversionOptions | None = None) -> ScanReport:
    """Record every subband file of a folder that is not recorded yet.

    Raises
    ------
    ConfigurationError
        If the folder is not there.
    """
    return Intake(folder, options or ConversionOptions()).scan()


def close_groups() -> None:
    """Let every collecting group go on with what it has: no further files are expected."""
    with get_session("ingest") as session:
        for group in ingest_queue.list_groups(session, state="collecting"):
            ingest_queue.mark_pending(session, group.group_id, now=time.time())


def offer_groups(options: ConversionOptions, now: float, *, only_whole: bool = False) -> list[str]:
    """Offer the groups that are complete, and those that have waited long enough for the rest; return their ids.

    With `only_whole` none has waited long enough: how long, nobody knows at present.
    """
    with get_session("ingest", read_only=True) as session:
        present = ingest_queue.count_subbands(session, "collecting")
        due = [
            group.group_id
            for group in ingest_queue.list_groups(session, state="collecting")
            if present.get(group.group_id, 0) >= telescope.N_SUBBANDS
            or (not only_whole and is_closed(group, present.get(group.group_id, 0), options, now))
        ]
    if not due:
        return []
    with get_session("ingest") as session:
        return [group_id for group_id in due if ingest_queue.mark_pending(session, group_id, now=now)]


def is_closed(group: IngestQueue, present: int, options: ConversionOptions, now: float) -> bool:
    """Return whether a collecting group waits for no further files.

    A latest file from the future was entered before the clock was set back: nobody knows how long ago.
    """
    return present >= telescope.N_SUBBANDS or abs(now - group.last_update) >= options.wait_s


def _key(folder: str, name: str, *, link: bool) -> str:
    """Return the path by which the databases know a file: its own, or that which its link points to."""
    path = os.path.join(folder, name)  # noqa: PTH118 - a Path cannot be made a million times a listing
    return printable(os.path.realpath(path) if link else path)


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _counts(report: ScanReport) -> str:
    return ", ".join(f"{len(paths)} {kind}" for kind, paths in vars(report).items() if paths)
