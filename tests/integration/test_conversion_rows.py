"""What a conversion leaves in the rows beside its Measurement Set, and what a lost folder or file does to it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dsa110_contimg import telescope
from dsa110_contimg.config import Settings
from dsa110_contimg.database import MSIndex, get_session, ingest_queue
from dsa110_contimg.database.models import IngestQueue, PerformanceMetrics, PointingHistory
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.options import ConversionOptions, PipelineOptions
from dsa110_contimg.pipeline.attempt import Outcome, execute
from dsa110_contimg.pipeline.ingest import bootstrap_directory, close_groups
from dsa110_contimg.pipeline.jobs import Job, Stage

Tiny = Callable[[], list[Path]]
SETTLED = ConversionOptions(settle_s=0.0)


@pytest.fixture
def group(house: Settings, tiny: Tiny) -> str:
    """The first of two groups that wait for their conversion."""
    tiny()
    bootstrap_directory(house.incoming, SETTLED)
    close_groups()
    with get_session("ingest", read_only=True) as session:
        return ingest_queue.list_groups(session, "pending")[0].group_id


def convert(settings: Settings, group_id: str) -> Outcome:
    return execute(Job(Stage.CONVERT, group_id), this_process(), settings, PipelineOptions())


def state(group_id: str) -> str:
    with get_session("ingest", read_only=True) as session:
        return session.get_one(IngestQueue, group_id).state


def test_a_conversion_tells_its_cost_and_where_the_dishes_looked(house: Settings, group: str) -> None:
    outcome = convert(house, group)
    assert outcome.result == "completed", outcome.error
    with get_session("ingest", read_only=True) as session:
        (cost,) = session.query(PerformanceMetrics).all()
        assert (cost.group_id, cost.writer_type) == (group, "direct-subband")
        assert cost.conversion_time == cost.total_time == outcome.seconds > 0.0
        row = session.get_one(IngestQueue, group)
        assert (row.state, row.has_calibrator, row.calibrators) in (
            ("completed", 0, "[]"),
            ("completed", 1, '["3C48"]'),
        )
    with get_session("products", read_only=True) as session:
        (tile,) = session.query(MSIndex).all()
        (pointing,) = session.query(PointingHistory).all()
    assert (pointing.ra_deg, pointing.dec_deg) == (tile.pointing_ra_deg, tile.pointing_dec_deg)
    assert (pointing.mjd, pointing.field_name) == (tile.mid_mjd, tile.field_name)
    assert pointing.timestamp == telescope.mjd_to_unix(tile.mid_mjd or 0.0)


def test_an_incoming_folder_that_is_away_fails_no_group(house: Settings, group: str) -> None:
    away = house.incoming.rename(house.incoming.with_name("away"))
    outcome = convert(house, group)
    assert (outcome.result, "mount it" in outcome.error) == ("paused", True)
    with get_session("ingest", read_only=True) as session:
        assert ingest_queue.list_quarantine(session) == []
        assert len(ingest_queue.list_subbands(session, group)) == 16
    away.rename(house.incoming)


def test_files_that_went_fail_their_group_and_save_it_when_they_come_back(house: Settings, group: str) -> None:
    with get_session("ingest", read_only=True) as session:
        paths = [Path(row.file_path) for row in ingest_queue.list_subbands(session, group)][:5]
    for path in paths:
        path.rename(path.with_suffix(".gone"))
    assert "lacks subbands [0, 1, 2, 3, 4]" in convert(house, group).error
    assert state(group) == "failed"
    for path in paths:
        path.with_suffix(".gone").rename(path)
    assert sorted(bootstrap_directory(house.incoming, SETTLED).recorded) == sorted(paths)
    assert state(group) == "collecting"
    close_groups()
    assert convert(house, group).result == "completed"
