"""The index of every subband file ever seen: functions on a session of `hdf5`.

`stored` is 1 while the file is on disk and 0 once it has gone; the row stays. The telescope's folder is the truth:
a file that comes back under its name is stored again.
"""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import HDF5FileIndex
from dsa110_contimg.database.upserts import Value, upsert


def enter(session: Session, rows: Sequence[Mapping[str, Value]]) -> None:
    """Enter files, or bring their rows up to date."""
    upsert(session, HDF5FileIndex, ["path"], rows)


def find_stored(session: Session, paths: Sequence[str]) -> dict[str, bool]:
    """Return those of some paths that are indexed, and whether they were on disk at the last look."""
    rows = session.execute(select(HDF5FileIndex.path, HDF5FileIndex.stored).where(HDF5FileIndex.path.in_(paths)))
    return {path: bool(stored) for path, stored in rows}


def list_stored(session: Session, folder: str) -> Iterator[str]:
    """Yield the files directly in a folder that were on disk at the last look."""
    query = select(HDF5FileIndex.path).where(
        HDF5FileIndex.stored == 1, HDF5FileIndex.path.startswith(f"{folder}/", autoescape=True)
    )
    for path in session.scalars(query.execution_options(yield_per=1000)):
        # SQLite's LIKE knows no upper case.
        if path.rpartition("/")[0] == folder:
            yield path


def set_stored(session: Session, paths: Sequence[str], *, stored: bool) -> None:
    """Record that files have gone from the disk, or are back."""
    session.execute(update(HDF5FileIndex).where(HDF5FileIndex.path.in_(paths)).values(stored=int(stored)))
