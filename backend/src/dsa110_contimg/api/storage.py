"""The disks: how much room there is, what each kind of thing takes, and what of it may go."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from dsa110_contimg.api.problems import without_folders
from dsa110_contimg.config import current_settings
from dsa110_contimg.housekeeping.storage import Share, count_storage
from dsa110_contimg.monitoring.disks import LOW_FACTOR, Disk, floor_bytes, measure_disks

router = APIRouter(prefix="/storage", tags=["storage"])


class Disks(BaseModel):
    """The file systems below the folders."""

    floor_bytes: int = Field(description="Below so much free space the pipeline pauses.")
    low_bytes: int = Field(description="Below so much it is time to make room.")
    disks: list[Disk]


class StorageReport(Disks):
    """The disks, and what is on them."""

    counted_unix: float = Field(description="When the shares were counted; at most ten minutes ago.")
    shares: list[Share] = Field(description="What each kind of thing takes, the largest first.")
    note: str | None = Field(description="Why it is not known what may go, if it is not.")


@router.get("")
def get_storage() -> StorageReport:
    """Return how much room is left, what takes it, and what `contimg clean` would remove."""
    counted = count_storage(current_settings())
    return StorageReport(
        **disks().model_dump(),
        counted_unix=counted.counted_unix,
        shares=counted.shares,
        note=None if counted.note is None else without_folders(counted.note),
    )


@router.get("/disks")
def get_disks() -> Disks:
    """Return how much room is left below each folder: without counting files, at once."""
    return disks()


def disks() -> Disks:
    """Return the room on the disks now."""
    settings = current_settings()
    floor = floor_bytes(settings)
    return Disks(floor_bytes=floor, low_bytes=int(LOW_FACTOR * floor), disks=measure_disks(settings))
