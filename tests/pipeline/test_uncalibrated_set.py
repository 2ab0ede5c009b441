"""A tile whose set has lost its calibrated data is never imaged from the raw ones."""

from pathlib import Path

import pytest
from sqlalchemy import select
from tests.imaging.synthetic import Tile, add_noise, empty_tile

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import Image, MSIndex
from dsa110_contimg.database.repositories import ms_index_upsert
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.pipeline.tile_stages import _load_calibrated

GROUP = "2025-01-15T12:30:00"


def test_raw_data_are_never_taken_for_calibrated_ones(house: Settings) -> None:
    vis = empty_tile(Tile(n_antennas=6, n_times=2))
    add_noise(vis, 1.0, seed=3)
    path = measurement_set.save(naming.ms_path(house.stage, GROUP), vis)
    with get_session("products") as session:
        ms_index_upsert(session, str(path), group_id=GROUP, stage="calibrated", mid_mjd=60690.5)
    with get_session("products", read_only=True) as session:
        tile = session.scalars(select(MSIndex)).one()
        with pytest.raises(
            BadInputError, match=r"has no CORRECTED_DATA though 2025-01-15T12:30:00 is calibrated: .*retry"
        ):
            _load_calibrated(tile)
        assert session.scalars(select(Image)).all() == []
        measurement_set.write_calibrated(Path(tile.path), vis)
        assert _load_calibrated(tile).vis.shape == vis.vis.shape
