"""The open rows decide what runs next, and nothing else is read."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, init_databases, reset_engines
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.models import IngestQueue, Job, Mosaic, MosaicGroupMember, MSIndex
from dsa110_contimg.database.mosaic_repository import MosaicRepository
from dsa110_contimg.options import CalibrationOptions, MosaicOptions, PhotometryOptions
from dsa110_contimg.pipeline.jobs import Stage, next_jobs
from dsa110_contimg.pipeline.reconcile import close_mosaics, reconcile
from dsa110_contimg.pipeline.state import form_mosaic_groups, jobs_that_killed, load_state

TILES = 4


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPELINE_ROOT", str(tmp_path))
    reset_engines()
    init_databases()
    return tmp_path


def job(stage: Stage, subject: str, state: str, deaths: int | None = None) -> Job:
    told = {"state": state, "deaths": deaths, "created_at": 1.0, "updated_at": 1.0}
    return Job(job_id=f"{stage}:{subject}", stage=stage, subject=subject, **told)


def add_mosaic(number: int, *, finished: bool) -> str:
    """Enter a mosaic with its group and tiles; a finished one has its product published and all jobs done."""
    name, group = f"m{number:04d}", f"mg_{number:04d}"
    paths = [f"/ms/{number:04d}-{place}.ms" for place in range(TILES)]
    stages = (Stage.REGISTER, Stage.CHECK, Stage.PHOTOMETRY, Stage.PUBLISH, Stage.VARIABILITY)
    with get_session("products") as session:
        for place, path in enumerate(paths):
            mid = 60000.0 + number + place * 309.0 / 86400.0
            at = {"mid_mjd": mid, "pointing_ra_deg": 1.0, "pointing_dec_deg": 33.0}
            stage = "photometry_complete"
            session.add(MSIndex(path=path, group_id=f"g{number:04d}-{place}", stage=stage, status="ok", **at))
        session.flush()
        assert MosaicRepository.create_group(session, group, paths, now=1.0)
        MosaicRepository.update_group(session, group, status="completed", mosaic_id=name)
        place_of = f"/products/{name}.fits" if finished else f"/stage/{name}.fits"
        MosaicRepository.store(
            session,
            path=place_of,
            name=name,
            reference_ms=paths[0],
            created_at=1.0,
            group_id=group,
            status="completed",
            start_mjd=60000.0,
            end_mjd=60001.0,
        )
        for step in stages if finished else stages[:1]:
            session.add(
                Job(
                    job_id=f"{step}:{name}", stage=step, subject=name, state="completed", created_at=1.0, updated_at=1.0
                )
            )
    return name


def publish(root: Path, name: str) -> None:
    path = root / "stage" / f"{name}.fits"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"pixels")
    connection = ensure_data_registry_db(Settings().database("data_registry"))
    register_data_instance(connection, "mosaic", name, path)
    connection.execute(
        "UPDATE data_registry SET status = 'published', published_path = ? WHERE data_id = ?",
        (f"/products/{name}.fits", name),
    )
    connection.close()


def closed() -> set[str]:
    with get_session("products", read_only=True) as session:
        return set(
            session.scalars(
                Mosaic.__table__.select().with_only_columns(Mosaic.name).where(Mosaic.closed_at.is_not(None))
            )
        )


def due() -> list[str]:
    jobs = next_jobs(load_state(end_of_data=False), CalibrationOptions(), MosaicOptions())
    return [job.job_id for job in jobs]


def test_a_mosaic_is_closed_when_nothing_is_left_to_do_and_changes_nothing(root: Path) -> None:
    done, half = add_mosaic(1, finished=True), add_mosaic(2, finished=False)
    publish(root, done)
    before = due()
    assert before == [f"check:{half}"]
    assert close_mosaics() == [done]
    assert closed() == {done}
    assert due() == before
    assert close_mosaics() == []


@pytest.mark.parametrize("lacking", ["publish", "variability"])
def test_a_mosaic_whose_last_job_is_open_stays_open(root: Path, lacking: str) -> None:
    done = add_mosaic(1, finished=True)
    publish(root, done)
    with get_session("products") as session:
        session.delete(session.get_one(Job, f"{lacking}:{done}"))
    assert close_mosaics() == []
    assert due() == [f"{lacking}:{done}"]


def test_a_mosaic_that_is_retracted_after_it_was_closed_leaves_the_light_curves(root: Path) -> None:
    done = add_mosaic(1, finished=True)
    publish(root, done)
    reconcile(PhotometryOptions())
    assert closed() == {done}
    connection = ensure_data_registry_db(Settings().database("data_registry"))
    connection.execute(
        "UPDATE data_registry SET status = 'retracted', retracted_at = 5.0, published_path = '/products/tombs/m.fits'"
    )
    connection.close()
    reconcile(PhotometryOptions())
    with get_session("products", read_only=True) as session:
        mosaic = MosaicRepository.get_by_name(session, done)
        assert mosaic is not None
        assert (mosaic.status, mosaic.path) == ("retracted", "/products/tombs/m.fits")


@pytest.fixture
def rows_read() -> Iterator[list[int]]:
    """Count the steps of SQLite's machine while it answers, which grow with the rows it looks at."""
    steps: list[int] = []

    def watch(connection: object, _record: object) -> None:
        def count() -> None:
            steps.append(1)

        connection.set_progress_handler(count, 100)  # type: ignore[attr-defined]

    event.listen(Engine, "connect", watch)
    yield steps
    event.remove(Engine, "connect", watch)


def test_what_a_look_costs_does_not_grow_with_what_is_finished(root: Path, rows_read: list[int]) -> None:
    def look() -> int:
        reset_engines()
        rows_read.clear()
        load_state(end_of_data=False)
        form_mosaic_groups(MosaicOptions(), end_of_data=False)
        reconcile(PhotometryOptions())
        return len(rows_read)

    costs = []
    for first, last in ((0, 20), (20, 120)):
        for number in range(first, last):
            publish(root, add_mosaic(number, finished=True))
        reconcile(PhotometryOptions())
        costs.append(look())
    assert len(closed()) == 120
    assert costs[1] <= 1.2 * costs[0] + 5, costs


def test_only_open_jobs_in_which_a_worker_died_run_alone() -> None:
    rows = [("a", "pending", 0), ("b", "failed", 3), ("c", "completed", 0), ("d", "pending", None)]
    with get_session("products") as session:
        session.add_all(job(Stage.IMAGE, name, state, deaths) for name, state, deaths in rows)
    assert jobs_that_killed() == {"image:a"}


def convert_tiles(folder: Path, numbers: Iterable[int]) -> None:
    with get_session("products") as session:
        for number in numbers:
            path = folder / f"{number}.ms"
            path.mkdir()
            at = {"mid_mjd": 60000.0 + number * 309.0 / 86400.0, "pointing_ra_deg": 1.0, "pointing_dec_deg": 33.0}
            session.add(MSIndex(path=str(path), group_id=f"g{number:02d}", stage="converted", status="ok", **at))


def new_members() -> dict[str, set[str]]:
    """Return the names of the tiles that are new in each mosaic group."""
    found: dict[str, set[str]] = {}
    with get_session("products", read_only=True) as session:
        for row in session.scalars(select(MosaicGroupMember).where(MosaicGroupMember.is_new == 1)):
            found.setdefault(row.group_id, set()).add(Path(row.ms_path).stem)
    return found


FOUR = MosaicOptions(tiles=4, overlap=1)


def test_no_group_is_formed_past_one_that_is_still_to_be_converted(root: Path, tmp_path: Path) -> None:
    with get_session("ingest") as session:
        session.add(IngestQueue(group_id="g02", state="collecting", received_at=1.0, last_update=1.0))
    convert_tiles(tmp_path, [0, 1, 3, 4, 5, 6])
    assert form_mosaic_groups(FOUR, end_of_data=False) == []
    convert_tiles(tmp_path, [2])
    with get_session("ingest") as session:
        session.get_one(IngestQueue, "g02").state = "completed"
    form_mosaic_groups(FOUR, end_of_data=False)
    assert new_members() == {"mg_g00": {"0", "1", "2", "3"}, "mg_g04": {"4", "5", "6"}}
    assert root.exists()


def test_tiles_that_come_after_their_neighbors_were_grouped_still_get_a_mosaic(root: Path, tmp_path: Path) -> None:
    patient = replace(FOUR, max_gap_min=30.0)
    convert_tiles(tmp_path, [0, 1, 2, 5])
    form_mosaic_groups(patient, end_of_data=False)
    assert new_members() == {"mg_g00": {"0", "1", "2", "5"}}
    convert_tiles(tmp_path, [3, 4])
    form_mosaic_groups(patient, end_of_data=False)
    assert new_members() == {"mg_g00": {"0", "1", "2", "5"}, "mg_g03": {"3", "4"}}
    assert root.exists()
