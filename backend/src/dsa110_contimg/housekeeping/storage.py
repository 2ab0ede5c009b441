"""Where the room on the disks goes: what each kind of thing takes, and what of it may go now.

Walking the staging area costs a stat of every file in it. What was counted is kept for some minutes, and says when it
was counted; one counts at a time.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database.models import DataProduct
from dsa110_contimg.database.session import database_path, get_session, on_server
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.housekeeping.backups import BackupOptions
from dsa110_contimg.housekeeping.cleaning import plan_clean
from dsa110_contimg.housekeeping.inventory import FOLDERS, measure
from dsa110_contimg.housekeeping.retention import RetentionOptions

FRESH_S = 600.0
NAMES = {
    "ms": "Measurement Sets",
    "caltables": "calibration tables",
    "images": "tile images",
    "mosaics": "mosaics in staging",
    "placed_tiles": "tiles placed for mosaics",
}


@dataclass(frozen=True)
class Share:
    """What one kind of thing takes."""

    kind: str
    bytes: int
    items: int
    removable_bytes: int
    """Of which `contimg clean` would remove so much now."""


@dataclass(frozen=True)
class Storage:
    """What everything takes that the pipeline made."""

    counted_unix: float
    shares: list[Share]
    note: str | None
    """Why it is not known what may go, if it is not."""


_counting = threading.Lock()
_kept: dict[str, Storage] = {}


def count_storage(settings: Settings, *, max_age_s: float = FRESH_S) -> Storage:
    """Return what everything takes, counted at most so long ago."""
    place = str(settings.stage)
    with _counting:
        known = _kept.get(place)
        if known is None or not 0.0 <= time.time() - known.counted_unix <= max_age_s:
            _kept.clear()
            _kept[place] = known = _count(settings)
        return known


def _count(settings: Settings) -> Storage:
    now, note = time.time(), None
    removable: Counter[str] = Counter()
    try:
        planned = plan_clean(settings, RetentionOptions(), BackupOptions(), now=now)
        for item in planned.removals:
            removable[_kind_of(Path(item.path), settings)] += item.bytes
    except ConfigurationError as error:
        note = str(error)
    shares = [Share(kind, size, items, removable[kind]) for kind, size, items in _sizes(settings)]
    return Storage(now, sorted(shares, key=lambda share: -share.bytes), note)


def _sizes(settings: Settings) -> Iterator[tuple[str, int, int]]:
    found: dict[str, list[int]] = {}
    for pattern in (*FOLDERS, "placed_tiles"):
        for folder in settings.stage.glob(pattern):
            for entry in folder.iterdir():
                if not entry.is_symlink():
                    found.setdefault(_kind_of(entry, settings), []).append(_bytes(entry))
    for kind, folder in (("backups", settings.backups), ("logs", settings.logs)):
        found[kind] = [_bytes(entry) for entry in folder.iterdir()] if folder.is_dir() else []
    if not on_server():
        files = [database_path(name) for name in DATABASES]
        found["databases"] = [_bytes(path) for path in files if path.exists()]
    for kind, sizes in found.items():
        yield kind, sum(sizes), len(sizes)
    yield _published()


def _bytes(path: Path) -> int:
    try:
        return measure(path).bytes
    except FileNotFoundError:  # It was cleaned away meanwhile.
        return 0


def _kind_of(path: Path, settings: Settings) -> str:
    for kind, folder in (("backups", settings.backups), ("logs", settings.logs)):
        if path.is_relative_to(folder):
            return kind
    if path.is_relative_to(settings.stage):
        top = path.relative_to(settings.stage).parts[0]
        return NAMES.get(top, top)
    return "other"


def _published() -> tuple[str, int, int]:
    """Published products as the registry knows them: their folder is not listed."""
    query = select(func.coalesce(func.sum(DataProduct.size_bytes), 0), func.count()).where(
        DataProduct.status == "published"
    )
    try:
        with get_session("data_registry", read_only=True) as session:
            size, items = session.execute(query).one()
    except ConfigurationError:
        return "published products", 0, 0
    return "published products", int(size or 0), items
