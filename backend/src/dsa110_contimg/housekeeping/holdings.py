"""What decides whether a file may be removed: rows, files and times, as plain values."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


class Kind(StrEnum):
    """What can be removed."""

    MS = "Measurement Sets"
    """Converted and calibrated visibilities of a tile."""
    INTERMEDIATE = "intermediate images"
    """Residuals and other images of a tile that nothing is made of."""
    TILE_IMAGE = "tile images"
    """Image, corrected image and beam of a tile: what mosaics are made of."""
    CALTABLE = "calibration tables"
    """Solutions that hold for no data any more."""
    PLOT = "plots"
    """Pages about quality in the staging area."""
    SCRATCH = "scratch"
    """What killed processes left unfinished."""
    LOG = "logs"
    """Log files that were rotated away."""
    BACKUP = "backups"
    """Backups beyond the rotation."""


@dataclass(frozen=True)
class File:
    """A file or folder on disk."""

    bytes: int
    modified_unix: float


@dataclass(frozen=True)
class Tile:
    """A row of ms_index."""

    path: str
    stage: str | None
    mid_unix: float | None
    measured_unix: float | None
    caltables: tuple[str, ...] = ()
    busy: bool = False
    """A job of its group is not ended."""


@dataclass(frozen=True)
class Picture:
    """A row of images."""

    path: str
    ms_path: str
    type: str


@dataclass(frozen=True)
class Group:
    """A row of mosaic_groups with its members."""

    group_id: str
    members: tuple[str, ...]
    mosaic_id: str | None = None
    failed_unix: float | None = None
    """When the mosaic failed for good."""


@dataclass(frozen=True)
class Product:
    """A row of data_registry."""

    status: str
    rejected: bool = False
    superseded: bool = False
    settled_unix: float | None = None
    """When it was published, retracted or rejected."""


@dataclass(frozen=True)
class Table:
    """A row of caltables."""

    path: str
    start_unix: float
    end_unix: float


@dataclass(frozen=True)
class Plot:
    """A row of qa_artifacts."""

    path: str
    group_id: str
    created_unix: float


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """Everything that decides what may go."""

    now_unix: float
    tiles: Collection[Tile] = ()
    pictures: Collection[Picture] = ()
    groups: Collection[Group] = ()
    products: Mapping[str, Product] = field(default_factory=dict)
    tables: Collection[Table] = ()
    plots: Collection[Plot] = ()
    waiting_unix: tuple[float, ...] = ()
    """Times of the data that are not yet converted."""
    files: Mapping[str, File] = field(default_factory=dict)
    """What lies in the staging area, by path; scratch is not among it."""
    protected: Collection[str] = ()
    """Paths that the registry or a mosaic names."""
    leftovers: Mapping[str, tuple[Kind, File]] = field(default_factory=dict)
    """Scratch of dead processes, superseded backups, rotated logs: they belong to no row."""
    short_bytes: float = 0.0
    """How much room is lacking."""

    @cached_property
    def groups_of(self) -> dict[str, list[Group]]:
        """The groups of each tile, by its path."""
        found: dict[str, list[Group]] = {}
        for group in self.groups:
            for path in group.members:
                found.setdefault(path, []).append(group)
        return found
