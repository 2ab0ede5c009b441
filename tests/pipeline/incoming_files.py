"""Subband files with real headers for the tests of the intake, made by the thousand: only their times differ."""

import csv
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from dsa110_contimg import naming
from dsa110_contimg.simulation.array import choose_stations
from dsa110_contimg.simulation.uvh5_writer import FILE_INTEGRATION_S, Layout, write_subband
from dsa110_contimg.telescope import JD_MINUS_MJD, unix_to_mjd

LAYOUT = Layout(stations=choose_stations(3), dec_app_deg=33.2, channels=1, n_times=2)
CLUSTER_S = 60.0
"""Stamps with a longer pause between them are those of two groups."""


@cache
def _template(subband: int) -> tuple[bytes, int]:
    """Return a file of a subband, and where its times lie in it."""
    vis = np.ones((LAYOUT.n_times, LAYOUT.n_baselines, LAYOUT.channels, 2), np.complex64)
    with TemporaryDirectory() as folder:
        path = write_subband(Path(folder), "2026-01-25T00:00:00", subband, LAYOUT, 2461065.5 + np.arange(2.0), vis)
        with h5py.File(path) as file:
            place = file["Header/time_array"].id.get_chunk_info(0).byte_offset
        return path.read_bytes(), int(place)


def write_file(folder: Path, stamp: str, subband: int, start_unix: float) -> Path:
    """Write a subband file whose data start at a time, under the stamp of its node."""
    content, place = _template(subband)
    step = FILE_INTEGRATION_S / 86400.0
    first = unix_to_mjd(start_unix) + JD_MINUS_MJD + 0.5 * step
    times = [first + step * number for number in range(LAYOUT.n_times) for _ in range(LAYOUT.n_baselines)]
    packed = struct.pack(f"<{len(times)}d", *times)
    path = folder / naming.subband_name(stamp, subband)
    scratch = path.with_suffix(".scratch")
    scratch.write_bytes(content[:place] + packed + content[place + len(packed) :])
    scratch.replace(path)
    return path


def write_group(folder: Path, stamp: str, subbands: int = 16) -> list[Path]:
    """Write the first subbands of a group whose data start at its stamp."""
    return [write_file(folder, stamp, number, naming.stamp_unix(stamp)) for number in range(subbands)]


@dataclass
class RealGroup:
    """What the telescope wrote within a minute: how many files under each stamp."""

    rows: list[tuple[str, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(number for _stamp, number in self.rows)

    @property
    def start(self) -> str:
        """The first stamp, at which the data of the replay start."""
        return self.rows[0][0]

    def stamps(self) -> Iterator[tuple[str, int]]:
        """Yield the stamp of each file with its subband, in order."""
        yield from zip((stamp for stamp, number in self.rows for _ in range(number)), range(self.size), strict=True)

    def write(self, folder: Path) -> list[Path]:
        """Write the group's files; rows that no telescope can have written are empty files, as their sizes say."""
        if self.size <= 16:
            start = naming.stamp_unix(self.start)
            return [write_file(folder, stamp, index, start) for stamp, index in self.stamps()]
        paths = [folder / naming.subband_name(stamp, index) for stamp, index in self.stamps()]
        for path in paths:
            path.touch()
        return paths


def real_groups(inventory: Path) -> list[RealGroup]:
    """Return the real file stamps, parted where nothing came for a minute."""
    with inventory.open(encoding="utf-8") as file:
        rows = sorted((row["timestamp"], int(row["n_subbands_found"])) for row in csv.DictReader(file))
    groups: list[RealGroup] = []
    last = -CLUSTER_S
    for stamp, number in rows:
        now = naming.stamp_unix(stamp)
        if now - last > CLUSTER_S or not groups:
            groups.append(RealGroup())
        groups[-1].rows.append((stamp, number))
        last = now
    return groups
