"""The telescope's real file stamps, replayed: 1,211 groups, and two absurd rows refused by name."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.pipeline.incoming_files import RealGroup, real_groups

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import HDF5FileIndex, IngestQueue, Quarantine, SubbandFile
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.pipeline.ingest import Intake

SEED = 20260215
SETTLED = ConversionOptions(settle_s=0.0)


@pytest.fixture(scope="module")
def inventory() -> list[RealGroup]:
    data = os.environ.get("CONTIMG_DATA")
    if not data:
        pytest.skip("CONTIMG_DATA names no folder with the inventory of real file stamps")
    return real_groups(Path(data) / "inventory" / "subband_inventory_to_2026-02-15.csv")


def sizes() -> dict[str, int]:
    """Return how many subbands each group in the queue has."""
    with get_session("ingest", read_only=True) as session:
        rows = session.execute(select(SubbandFile.group_id, func.count()).group_by(SubbandFile.group_id))
        found = {group_id: number for group_id, number in rows}  # noqa: C416 - rows are not pairs to mypy
        assert found.keys() == set(session.scalars(select(IngestQueue.group_id)))
    return found


def refused_stamps() -> Counter[str]:
    with get_session("ingest", read_only=True) as session:
        return Counter(Path(path).name[:19] for path in session.scalars(select(Quarantine.path)))


def replay(house: Settings, groups: list[RealGroup], at_once: int) -> None:
    """Let groups come with their files in any order, and go again as the telescope's files do."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    intake = Intake(house.incoming, SETTLED)
    for first in range(0, len(groups), at_once):
        paths = [path for group in groups[first : first + at_once] for path in group.write(house.incoming)]
        rng.shuffle(paths)
        half = len(paths) // 2
        waiting = [path.rename(path.with_suffix(".later")) for path in paths[half:]]
        intake.scan()
        for path in waiting:
            path.rename(path.with_suffix(".hdf5"))
        intake.scan()
        for path in paths:
            path.unlink()
    intake.scan()
    with get_session("hdf5", read_only=True) as session:
        assert session.scalar(select(func.count()).where(HDF5FileIndex.stored != 0)) == 0


def test_the_inventory_is_what_we_think(inventory: list[RealGroup]) -> None:
    assert Counter(group.size for group in inventory) == {16: 1209, 14: 1, 9: 1, 240: 1, 80: 1}
    assert max(len(group.rows) for group in inventory) > 10, "nodes disagree about the time"


def test_a_sample_of_the_real_stamps_makes_the_real_groups(house: Settings, inventory: list[RealGroup]) -> None:
    absurd = [group for group in inventory if group.size > 16]
    short = [group for group in inventory if group.size < 16]
    scattered = sorted(inventory, key=lambda group: -len(group.rows))[:12]
    chosen = {group.start: group for group in (*absurd, *short, *scattered, *inventory[:8])}
    sample = [chosen[start] for start in sorted(chosen)]
    replay(house, sample, 14)
    assert sizes() == {group.start: group.size for group in sample if group.size <= 16}
    assert refused_stamps() == {group.start: group.size for group in absurd}


@pytest.mark.slow
def test_all_real_stamps_make_the_real_groups(house: Settings, inventory: list[RealGroup]) -> None:
    replay(house, inventory, 60)
    found = sizes()
    print(f"{len(found)} groups: {Counter(found.values())}; refused: {dict(refused_stamps())}")
    assert Counter(found.values()) == {16: 1209, 14: 1, 9: 1}
    assert found == {group.start: group.size for group in inventory if group.size <= 16}
    assert refused_stamps() == {"2026-01-25T01:00:00": 240, "2026-01-25T09:00:00": 80}
