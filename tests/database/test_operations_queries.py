"""What the operators' pages ask of the rows, on files and on a server: paging, days, gaps, marks, worst verdicts."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from dsa110_contimg.database import (
    alert_queries,
    caltable_queries,
    flow_queries,
    get_session,
    ingest_queue,
    inventory_queries,
    pointing_queries,
    queue_queries,
    tile_queries,
)
from dsa110_contimg.database.models import (
    AlertHistory,
    Caltable,
    HDF5FileIndex,
    Image,
    IngestQueue,
    Job,
    MSIndex,
    PointingHistory,
    QACheck,
    Quarantine,
    SubbandFile,
)
from dsa110_contimg.telescope import TILE_SECONDS

pytestmark = pytest.mark.usefixtures("backend")
DAY = 61_000


def file(mjd: float, subband: int, group: str, **columns: Any) -> HDF5FileIndex:
    name = f"{group}_sb{subband:02d}.hdf5"
    told = {"file_size_bytes": 100, "dec_deg": 33.0, "indexed_at": 5.0, **columns}
    return HDF5FileIndex(path=f"/{name}", filename=name, group_id=group, subband_code=f"sb{subband:02d}",
                         subband_num=subband, timestamp_iso=group, timestamp_mjd=mjd, **told)  # fmt: skip


def test_a_day_is_one_of_utc_to_the_microsecond_and_midnight_begins_it() -> None:
    with get_session("hdf5") as session:
        for offset, group in ((0.0, "a"), (0.999999, "b"), (1.0, "c"), (1.5, "d"), (2.0 - 1e-6, "e"), (2.0, "f")):
            session.add(file(DAY + offset, 3, group))
    with get_session("hdf5", read_only=True) as session:
        days = inventory_queries.days_of(inventory_queries.scan_groups(session, start_mjd=DAY, end_mjd=DAY + 3))
        cut = inventory_queries.days_of(inventory_queries.scan_groups(session, start_mjd=DAY + 1, end_mjd=DAY + 2))
    assert [(row.day_mjd, row.groups) for row in days] == [(DAY, 2), (DAY + 1, 3), (DAY + 2, 1)]
    assert [(row.day_mjd, row.groups) for row in cut] == [(DAY + 1, 3)]
    assert days[0].by_subband == [0, 0, 0, 2, *[0] * 12]
    assert days[0].missing == 30


def test_a_group_that_begins_before_midnight_is_whole_and_of_the_day_before() -> None:
    with get_session("hdf5") as session:
        session.add_all(file(DAY + 1.0 + (band - 7) * 1e-7, band, "g1") for band in range(16))
        session.add_all(file(DAY + 1.5, band, "g2") for band in range(16))
    with get_session("hdf5", read_only=True) as session:
        before = inventory_queries.scan_groups(session, start_mjd=DAY, end_mjd=DAY + 1)
        after = inventory_queries.scan_groups(session, start_mjd=DAY + 1, end_mjd=DAY + 2)
    assert [(group.group_id, group.missing) for group in before] == [("g1", [])]
    assert [(group.group_id, group.missing) for group in after] == [("g2", [])]


def test_groups_of_a_span_are_read_along_an_index_and_not_sorted(backend: str) -> None:
    if backend != "sqlite":
        pytest.skip("SQLite tells how it would answer")
    asked: list[tuple[str, tuple[object, ...]]] = []
    with get_session("hdf5") as session:
        session.add_all(file(DAY + 0.1, band, "g1") for band in range(16))
    with get_session("hdf5", read_only=True) as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
        inventory_queries.scan_groups(session, start_mjd=DAY, end_mjd=DAY + 1)
        for statement, values in asked.copy():
            steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not any("SCAN" in step or "TEMP B-TREE" in step for step in steps), steps


def test_a_subband_that_came_twice_hides_none_that_lacks() -> None:
    with get_session("hdf5") as session:
        session.add_all(file(DAY + 0.1, band, "g1") for band in range(15))
        twice = file(DAY + 0.1, 4, "g1")
        twice.path = "/elsewhere"
        session.add(twice)
    with get_session("hdf5", read_only=True) as session:
        (group,) = inventory_queries.scan_groups(session, start_mjd=DAY, end_mjd=DAY + 1)
    assert (group.files, group.missing, group.by_subband[4]) == (16, [15], 2)


def test_sizes_declinations_and_missing_subbands_of_a_day() -> None:
    with get_session("hdf5") as session:
        session.add_all(file(DAY + 0.1, band, "g1") for band in range(16))
        session.add_all(file(DAY + 0.2, band, "g2", dec_deg=54.5, file_size_bytes=None) for band in range(14))
    with get_session("hdf5", read_only=True) as session:
        groups = inventory_queries.scan_groups(session, start_mjd=DAY, end_mjd=DAY + 1)
        fresh = inventory_queries.freshness(session)
    (day,), lacking = inventory_queries.days_of(groups), inventory_queries.incomplete_of(groups, 9)
    assert (day.groups, day.files, day.bytes, day.missing) == (2, 30, 1600, 2)
    assert (day.dec_min_deg, day.dec_max_deg) == (33.0, 54.5)
    assert [(one.group_id, one.missing) for one in lacking] == [("g2", [14, 15])]
    assert fresh.newest_group == "g2"


def test_freshness_without_any_file() -> None:
    with get_session("hdf5", read_only=True) as session:
        assert inventory_queries.freshness(session).newest_group is None
        assert inventory_queries.scan_groups(session, start_mjd=0, end_mjd=9e4) == []
    assert inventory_queries.days_of([]) == []
    assert inventory_queries.gaps_of([]) == []


@pytest.mark.parametrize("descending", [True, False])
def test_groups_come_once_each_while_others_arrive(descending: bool) -> None:
    names = [f"2025-01-0{day}T00:00:0{second}" for day in range(1, 5) for second in range(3)]
    with get_session("ingest") as session:
        for name in names:
            session.add(IngestQueue(group_id=name, state="completed", received_at=1.0, last_update=1.0))
        session.flush()
        session.add_all(SubbandFile(group_id=names[4], subband_idx=n, file_path=f"/{n}", discovered_at=1.0)
                        for n in range(3))  # fmt: skip
    seen: list[str] = []
    after = None
    while True:
        with get_session("ingest") as session:
            rows = queue_queries.list_groups(session, after=after, limit=5, descending=descending)
            late = f"2025-01-0{9 if descending else 0}T00:00:0{len(seen) // 5}"
            session.add(IngestQueue(group_id=late, state="pending", received_at=1.0, last_update=1.0))
        seen += [row.group_id for row in rows]
        if len(rows) < 5:
            break
        after = rows[-1].group_id
    assert seen == sorted(names, reverse=descending)
    with get_session("ingest", read_only=True) as session:
        (day,) = (queue_queries.list_groups(session, prefix="2025-01-03", limit=9, descending=descending),)
        found = queue_queries.find_group(session, names[4])
    assert [row.group_id for row in day] == sorted(names[6:9], reverse=descending)
    assert found is not None
    assert (found.subbands, found.expected_subbands, found.calibrators) == (3, 16, None)


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ("[]", []),
        (None, []),
        ("{", []),
        ('["3C48"]', ["3C48"]),
        ('[{"name": "3C286", "flux": 1}]', ["3C286"]),
        ("3", []),
    ],
)
def test_calibrators_of_a_group_as_anybody_wrote_them(told: str | None, names: list[str]) -> None:
    assert queue_queries.parse_names(told) == names


def tiles() -> None:
    with get_session("products") as session:
        for place in range(6):
            path = f"/ms/g{place}.ms"
            session.add(MSIndex(path=path, group_id=f"g{place}", mid_mjd=DAY + place // 2, stage="imaged", status="ok"))
            session.flush()
            session.add(
                Image(path=f"/i{place}", ms_path=path, type="image", noise_jy=1e-3 * (place + 1), created_at=1.0)
            )
            session.add(Image(path=f"/r{place}", ms_path=path, type="residual", noise_jy=9.0, created_at=1.0))
        session.add(MSIndex(path="/ms/old.ms", mid_mjd=None, stage="converted"))
        session.add(QACheck(subject="g1", name="a", verdict="passed", measured_at=1.0))
        session.add(QACheck(subject="g1", name="noise_over_thermal", value=2.0, verdict="warning", measured_at=1.0))
        session.add(QACheck(subject="g2", name="a", verdict="failed", measured_at=1.0))
        session.add(QACheck(subject="g2", name="b", verdict="unmeasured", measured_at=1.0))


def test_tiles_of_one_time_are_told_apart_on_two_pages() -> None:
    tiles()
    with get_session("products", read_only=True) as session:
        first = tile_queries.list_tiles(session, limit=3)
        last = first[-1]
        assert last.mid_mjd is not None
        second = tile_queries.list_tiles(session, after=(last.mid_mjd, last.group_id), limit=9)
        old = tile_queries.find_tile(session, "old")
    assert [row.group_id for row in first + second] == ["g5", "g4", "g3", "g2", "g1", "g0"]
    assert {row.group_id: row.verdict for row in first + second} == {
        "g0": None, "g1": "warning", "g2": "failed", "g3": None, "g4": None, "g5": None,
    }  # fmt: skip
    assert first[0].noise_jy == pytest.approx(6e-3), "that of the image, not of the residual"
    assert old is not None
    assert (old.group_id, old.noise_jy) == ("old", None)


def test_noise_beside_thermal_noise_where_it_was_measured() -> None:
    tiles()
    with get_session("products", read_only=True) as session:
        points = tile_queries.noise_over_time(session, start_mjd=DAY, end_mjd=DAY + 1, limit=3)
    assert [(one.group_id, one.thermal_jy) for one in points if one.group_id == "g1"] in ([], [("g1", 1e-3)])
    assert [one.mid_mjd for one in points] == sorted(one.mid_mjd for one in points)
    assert len(points) == 3


def table(number: int, start: float, kind: str = "BP", **columns: Any) -> Caltable:
    return Caltable(set_name=f"s{number}", path=f"/t/{number}_cal", table_type=kind, order_index=1,
                    valid_start_mjd=start, valid_end_mjd=start + 2.0, created_at=1.0, **columns)  # fmt: skip


def test_tables_in_a_span_and_by_pages() -> None:
    with get_session("cal_registry") as session:
        session.add_all(table(n, DAY + n // 2) for n in range(6))
        session.add(table(9, DAY - 50, active=0, quality_metrics='{"snr": 5.5, "nested": {"a": 1}, "ok": true}'))
    with get_session("cal_registry", read_only=True) as session:
        windows = caltable_queries.list_windows(session, start_mjd=DAY + 2.5, end_mjd=DAY + 2.9, limit=3)
        first = caltable_queries.list_tables(session, limit=4)
        second = caltable_queries.list_tables(session, limit=9, after=(first[-1].valid_start_mjd, first[-1].id))
        (idle,) = caltable_queries.list_tables(session, active=False, limit=9)
        counts = caltable_queries.count_active(session)
        newest = caltable_queries.newest_mid_mjd(session)
    assert [row.set_name for row in windows] == ["s3", "s4", "s5"], "of four the newest three, in order"
    assert [row.set_name for row in first + second] == ["s5", "s4", "s3", "s2", "s1", "s0", "s9"]
    assert (idle.name, idle.figures) == ("9_cal", {"snr": 5.5, "ok": True})
    assert (counts, newest) == ({"BP": 6}, DAY + 3.0)
    assert caltable_queries.row_of(table(1, DAY, id=1, quality_metrics="[")).figures == {}


def test_what_happened_in_each_hour() -> None:
    now = 1_000_000.0
    with get_session("ingest") as session:
        for place, ago in enumerate((10.0, 3599.0, 3601.0, 7300.0, 20_000.0, -5.0)):
            session.add(IngestQueue(group_id=f"g{place}", state="pending", received_at=now - ago, last_update=now))
    with get_session("products") as session:
        for place, ago in enumerate((1.0, 7100.0)):
            session.add(MSIndex(path=f"/{place}", stage="photometry_complete", stage_updated_at=now - ago))
    with get_session("ingest", read_only=True) as ingest, get_session("products", read_only=True) as products:
        found = flow_queries.hours(ingest, products, now=now, number=3)
    assert [(row.arrived, row.finished) for row in found] == [(1, 0), (1, 1), (2, 1)]
    assert found[-1].times_sky == pytest.approx(TILE_SECONDS / 3600.0)
    assert [row.start_unix for row in found] == [now - 10_800.0, now - 7200.0, now - 3600.0]


def changes() -> dict[str, Callable[[], None]]:
    def add(name: str, row: Any) -> Callable[[], None]:
        def do() -> None:
            with get_session(name) as session:
                session.add(row)

        return do

    return {
        "queue": add("ingest", IngestQueue(group_id="new", state="collecting", received_at=1.0, last_update=9.0)),
        "jobs": add("products", Job(job_id="x:y", stage="x", subject="y", created_at=1.0, updated_at=1.0)),
        "tiles": add("products", MSIndex(path="/new.ms", stage="converted")),
        "alerts": add(
            "products", AlertHistory(source_id="s", alert_type="test", severity="info", message="m", sent_at=1)
        ),
        "calibration": add("cal_registry", table(77, DAY)),
        "files": add("hdf5", file(DAY + 9, 1, "new")),
    }


def test_each_change_moves_the_marks_of_its_topic_only() -> None:
    def marks() -> flow_queries.Marks:
        told: flow_queries.Marks = {}
        for name, read in (
            ("ingest", flow_queries.ingest_marks), ("products", flow_queries.products_marks),
            ("cal_registry", flow_queries.cal_registry_marks), ("hdf5", flow_queries.hdf5_marks),
            ("data_registry", flow_queries.data_registry_marks),
        ):  # fmt: skip
            with get_session(name, read_only=True) as session:
                told |= read(session)
        return told

    known = marks()
    assert marks() == known, "nothing changes by looking"
    for topic, change in changes().items():
        change()
        now = marks()
        assert {name for name in now if now[name] != known[name]} == {topic}
        known = now
    with get_session("ingest") as session:
        session.add(Quarantine(path="/bad", reason="bad", quarantined_at=1.0))
        ingest_queue.mark_pending(session, "new")
    assert marks()["queue"] != known["queue"]


def test_alerts_that_stand() -> None:
    with get_session("products") as session:
        for number, (kind, seen, gone) in enumerate(
            [("disk_low", None, None), ("disk_low", None, None), ("system_error", 5.0, None), ("quarantine", None, 6.0),
             ("test", None, None)]
        ):  # fmt: skip
            session.add(AlertHistory(source_id="system", alert_type=kind, severity="warning", message=str(number),
                                     sent_at=100.0 + number, acknowledged_at=seen, resolved_at=gone))  # fmt: skip
    with get_session("products", read_only=True) as session:
        standing = alert_queries.list_standing(session, since_unix=0.0, limit=9)
        late = alert_queries.list_standing(session, since_unix=102.0, limit=9)
        pages = alert_queries.list_alerts(session, limit=2, after=4)
    assert [row.message for row in standing] == ["1"], "the newest of its kind, not seen and not over"
    assert late == []
    assert [row.id for row in pages] == [3, 2]


def test_pointings_by_pages_both_ways() -> None:
    with get_session("products") as session:
        session.add_all(PointingHistory(timestamp=float(n), ra_deg=1.0, dec_deg=2.0) for n in range(7))
    with get_session("products", read_only=True) as session:
        down = pointing_queries.list_pointings(session, after=4.0, limit=2)
        up = pointing_queries.list_pointings(session, start_unix=2.0, end_unix=5.0, limit=9, descending=False)
    assert [row.time_unix for row in down] == [3.0, 2.0]
    assert [row.time_unix for row in up] == [2.0, 3.0, 4.0, 5.0]
