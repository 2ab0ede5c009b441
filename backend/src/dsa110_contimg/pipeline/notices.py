"""What each run says about itself, for `contimg status`: a small file in the state folder, as long as it runs."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dsa110_contimg.config import Settings
from dsa110_contimg.database.ownership import is_gone
from dsa110_contimg.formats import scratch

logger = logging.getLogger(__name__)
FOLDER = "runs"


@dataclass(frozen=True)
class Notice:
    """What a run is doing."""

    owner: str
    started_at: float
    told_at: float
    """When it said so last (unix s)."""
    slots: int
    running: Sequence[str] = ()
    """Job ids."""
    paused: str | None = None
    """Why it starts nothing, or None."""
    waits: str | None = None
    """Why the next job waits, if anything but its turn keeps it."""


def tell(settings: Settings, notice: Notice) -> None:
    """Write a run's notice; a disk that is full loses the notice, not the run."""
    path = _path(settings, notice.owner)
    try:
        with scratch.replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(notice)), encoding="utf-8")
    except OSError as trouble:
        logger.warning("%s cannot be written: %s", path, trouble.strerror)


def withdraw(settings: Settings, owner: str) -> None:
    """Remove a run's notice, and those of runs that were killed."""
    scratch.remove_abandoned([settings.state / FOLDER])
    for path in [_path(settings, owner), *(path for path, notice in _all(settings) if is_gone(notice.owner))]:
        path.unlink(missing_ok=True)


def read_notices(settings: Settings) -> list[Notice]:
    """Return what the runs that may be alive say, the oldest run first."""
    found = [notice for _path, notice in _all(settings) if not is_gone(notice.owner)]
    return sorted(found, key=lambda notice: notice.started_at)


def age_s(notice: Notice) -> float:
    """Return how long ago a run said something."""
    return max(0.0, time.time() - notice.told_at)


def _path(settings: Settings, owner: str) -> Path:
    return settings.state / FOLDER / f"{owner.replace(':', '_')}.json"


def _all(settings: Settings) -> list[tuple[Path, Notice]]:
    found = []
    for path in (settings.state / FOLDER).glob("*.json"):
        try:
            found.append((path, Notice(**json.loads(path.read_text(encoding="utf-8")))))
        except (OSError, ValueError, TypeError) as trouble:
            logger.warning("%s is no notice of a run: %s", path, trouble)
    return found
