"""Room on the disks below the pipeline's folders, and the floor at which it pauses.

free < floor        paused: nothing new is begun
free < 2 x floor    low: time to make room
"""

import shutil
from dataclasses import dataclass

from dsa110_contimg.config import Settings

GB = 1e9
LOW_FACTOR = 2.0
AREAS = ("incoming", "stage", "products", "state")


@dataclass(frozen=True)
class Disk:
    """The file system below one folder."""

    area: str
    free_bytes: int | None
    """None where the folder does not exist or cannot be asked."""
    total_bytes: int | None = None


def measure_disks(settings: Settings) -> list[Disk]:
    """Return how much room is below each folder."""
    disks = []
    for area in AREAS:
        try:
            room = shutil.disk_usage(getattr(settings, area))
        except OSError:
            disks.append(Disk(area, None))
        else:
            disks.append(Disk(area, room.free, room.total))
    return disks


def floor_bytes(settings: Settings) -> int:
    """Return the free space below which the pipeline pauses."""
    return int(settings.min_free_gb * GB)
