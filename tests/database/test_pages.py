"""Pages follow each other without a gap or a repetition, each list has an index, and spellings find their source."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from dsa110_contimg.database import get_engine, get_session
from dsa110_contimg.database.models import Caltable
from dsa110_contimg.database.photometry_repository import LightCurvePoint
from dsa110_contimg.database.repositories import (
    CaltableRepository,
    CandidateRepository,
    ImageRepository,
    MosaicRepository,
    MSRepository,
    PhotometryRepository,
    ms_index_upsert,
)
from dsa110_contimg.database.upserts import Value
from dsa110_contimg.errors import PipelineError
from dsa110_contimg.naming import SourceDigits, parse_source, source_name

T = TypeVar("T")
SEED = 20251224
MANY = 1000
MS = "/stage/ms/0.ms"
SOURCE = "NVSS J123456.7+420312"


def measurement(image: str, source: str, mjd: float | None) -> dict[str, Value]:
    where: dict[str, Value] = {"image_path": image, "source_id": source, "ra_deg": 1.0, "dec_deg": 2.0}
    return where | {"peak_jyb": 0.1, "measured_at": 5.0, "mjd": mjd, "in_lightcurve": 1}


def add_images(session: Session, count: int) -> list[str]:
    ms_index_upsert(session, MS, stage="imaged")
    paths = [f"/stage/images/{i:03d}.fits" for i in range(count)]
    for i, path in enumerate(paths):
        # Pairs share a time: the id decides.
        kind = "dirty" if i % 3 else "image"
        ImageRepository.add(session, path=path, ms_path=MS, type=kind, created_at=float(i // 2))
    return paths


def follow(read: Callable[[tuple[float, int] | None], Sequence[T]], key: Callable[[T], tuple[float, int]]) -> list[T]:
    """Read page after page to the end."""
    found: list[T] = []
    while page := read(key(found[-1]) if found else None):
        found += page
        assert len(found) < MANY, "pages repeat"
    return found


@pytest.mark.usefixtures("backend")
def test_pages_hold_every_row_once() -> None:
    with get_session("products") as session:
        add_images(session, 31)
        whole = ImageRepository.list_all(session, type_filter="dirty")
        paged = follow(
            lambda after: ImageRepository.list_all(session, type_filter="dirty", after=after, limit=3),
            lambda row: (row.created_at, row.id),
        )
        assert len(whole) == 20
        assert [row.id for row in paged] == [row.id for row in whole]
        assert [row.created_at for row in whole] == sorted((row.created_at for row in whole), reverse=True)
        with pytest.raises(PipelineError, match="after created_at and id, not after"):
            ImageRepository.list_all(session, after=(1.0,))  # type: ignore[arg-type]


@pytest.mark.usefixtures("backend")
def test_light_curves_are_paged_in_the_order_of_time() -> None:
    rng = random.Random(SEED)
    print("seed", SEED)
    with get_session("products") as session:
        images = add_images(session, 40)
        mjd = [60000.0 + rng.randrange(12) for _ in images]
        PhotometryRepository.store(
            session, [measurement(image, SOURCE, t) for image, t in zip(images, mjd, strict=True)]
        )
        PhotometryRepository.store(session, [measurement(image, "NVSS J000000.0-000000", 1.0) for image in images])
        whole = PhotometryRepository.get_lightcurve(session, source_id=SOURCE)
        assert [point.mjd for point in whole] == sorted(mjd)
        paged: list[LightCurvePoint] = follow(
            lambda after: PhotometryRepository.get_lightcurve(session, SOURCE, after=after, limit=7),
            lambda point: (point.mjd, point.id),
        )
        assert paged == whole
        PhotometryRepository.store(session, [measurement(images[0], SOURCE, None)])
        assert len(PhotometryRepository.get_lightcurve(session, SOURCE, every_measurement=True)) == 39
        first = PhotometryRepository.list_for_image(session, images[0], limit=1)
        rest = PhotometryRepository.list_for_image(session, images[0], after=first[0].source_id)
        assert [row.source_id for row in first + rest] == ["NVSS J000000.0-000000", SOURCE]


@pytest.mark.usefixtures("backend")
def test_spellings_find_their_source() -> None:
    names = [SOURCE, "NVSS J123457.0+420311", "SIM J123456.7+420312", "J1234+5678", "3C48"]
    with get_session("products") as session:
        (image,) = add_images(session, 1)
        rows: list[dict[str, Value]] = [
            {"source_id": s, "ra_deg": 1.0, "dec_deg": 2.0, "updated_at": 1.0} for s in names
        ]
        PhotometryRepository.store_statistics(session, rows)
        PhotometryRepository.store(session, [measurement(image, name, 60000.0) for name in names])

        def found(spelling: str) -> list[str]:
            return PhotometryRepository.find_sources(session, spelling)

        assert found("NVSS_J123456+420312") == found("NVSS J123456.7+420312") == [SOURCE]
        assert found(" NVSS J123456.7+4203 ") == [SOURCE]
        assert found("J123456+420312") == [SOURCE, "SIM J123456.7+420312"]
        assert found("NVSS 1234+4203") == [SOURCE, "NVSS J123457.0+420311"]
        assert found("J1234-4203") == found("4C%") == found("") == []
        for spelling, name in (("J1234+5678", "J1234+5678"), ("3C48", "3C48"), ("NVSS_J123456+420312", SOURCE)):
            assert [p.source_id for p in PhotometryRepository.get_lightcurve(session, source_id=spelling)] == [name]
        assert PhotometryRepository.get_lightcurve(session, source_id="J0000+0000") == []
        with pytest.raises(PipelineError, match=r"'J123456\+420312' fits 2 sources"):
            PhotometryRepository.get_lightcurve(session, source_id="J123456+420312")


def test_a_name_tells_its_digits() -> None:
    rng = random.Random(SEED)
    for _ in range(200):
        name = source_name(rng.uniform(0, 360), rng.uniform(-90, 90))
        digits = parse_source(name)
        assert digits is not None
        assert f"{digits.prefix} J{digits.ra}{digits.dec}" == name
    assert parse_source("NVSS_J123456+123456") == SourceDigits("NVSS", "123456", "+123456")
    assert [parse_source(word) for word in ("3C286", "J12+34", "J1234+4203%", "J12345+420312", "")] == [None] * 5


@pytest.mark.usefixtures("house")
def test_rows_that_cannot_be_stored_change_nothing() -> None:
    with get_session("products") as session:
        (image,) = add_images(session, 1)
        good = measurement(image, SOURCE, 60000.0)
        for bad, sentence in (
            ({**good, "nonsense": 1}, "has no column nonsense"),
            ({key: value for key, value in good.items() if key != "mjd"}, "name the same columns"),
            ({("snr" if key == "mjd" else key): value for key, value in good.items()}, "lacks the column mjd"),
        ):
            first, second = (bad, good) if "nonsense" in bad else (good, bad)
            with pytest.raises(PipelineError, match=sentence):
                PhotometryRepository.store(session, [first, {**second, "source_id": "z"}])
        assert session.execute(text("SELECT count(*) FROM photometry")).scalar() == 0


@contextmanager
def statements(name: str) -> Iterator[list[tuple[str, Sequence[object]]]]:
    """Collect what is read from a database meanwhile."""
    found: list[tuple[str, Sequence[object]]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Sequence[object], *_: object) -> None:
        if statement.startswith("SELECT"):
            found.append((statement, parameters))

    engine = get_engine(name, read_only=True)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


MJD = 60000.0
LISTS: dict[str, tuple[str, Callable[[Session], object], str]] = {
    "tiles of a stage": (
        "products",
        lambda s: MSRepository.list_all(s, stage="imaged", after="/a", limit=50),
        "idx_ms_index_stage_path (stage=? AND path>?)",
    ),
    "tiles": ("products", lambda s: MSRepository.list_all(s, after="/a", limit=50), "sqlite_autoindex_ms_index_1"),
    "images of a type": (
        "products",
        lambda s: ImageRepository.list_all(s, type_filter="dirty", after=(1.0, 1), limit=50),
        "idx_images_type_created (type=? AND created_at<?)",
    ),
    "images": (
        "products",
        lambda s: ImageRepository.list_all(s, after=(1.0, 1), limit=50),
        "idx_images_created (created_at<?)",
    ),
    "mosaics": (
        "products",
        lambda s: MosaicRepository.list_all(s, after=(1.0, 1), limit=50),
        "idx_mosaics_created (created_at<?)",
    ),
    "one mosaic": ("products", lambda s: MosaicRepository.get_by_name(s, "m"), "idx_mosaics_name (name=?)"),
    "light curve": (
        "products",
        lambda s: PhotometryRepository.get_lightcurve(s, SOURCE, after=(MJD, 1), limit=50),
        "COVERING INDEX idx_photometry_light_curve (source_id=? AND mjd>?)",
    ),
    "every measurement of a source": (
        "products",
        lambda s: PhotometryRepository.get_lightcurve(s, SOURCE, every_measurement=True, after=(MJD, 1), limit=50),
        "idx_photometry_source_mjd (source_id=? AND mjd>?)",
    ),
    "fluxes of an image": (
        "products",
        lambda s: PhotometryRepository.list_for_image(s, "/i", after=SOURCE, limit=50),
        "sqlite_autoindex_photometry_1 (image_path=? AND source_id>?)",
    ),
    "caltables at a time": (
        "cal_registry",
        lambda s: CaltableRepository.find_valid_for_mjd(s, mjd=MJD),
        "idx_caltables_active_end (active=? AND valid_end_mjd>?)",
    ),
    "caltables": (
        "cal_registry",
        lambda s: CaltableRepository.list_all(s, after=(MJD, 1), limit=50),
        "idx_caltables_valid (valid_start_mjd>?)",
    ),
}
"""What is listed → (database, call, the index that SQLite must search)."""


@pytest.mark.parametrize("what", LISTS)
def test_every_page_is_searched_by_an_index_and_not_sorted(house: Path, what: str) -> None:
    assert house.exists()
    name, call, index = LISTS[what]
    with get_session(name, read_only=True) as session, statements(name) as found:
        call(session)
        statement, parameters = found[0]
        rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)).all()
    plan = "\n".join(str(row[-1]) for row in rows)
    assert "SEARCH" in plan, plan
    assert index in plan, plan
    assert "SCAN" not in plan, plan
    assert "TEMP B-TREE FOR ORDER BY" not in plan, plan


def test_candidates_and_caltables_are_paged(backend: str) -> None:
    assert backend
    with get_session("products") as session:
        for i in range(9):
            PhotometryRepository.store_statistics(
                session, [{"source_id": f"s{i}", "ra_deg": 1.0, "dec_deg": 2.0, "updated_at": 1.0}]
            )
            CandidateRepository.flag(
                session, source_id=f"s{i}", significance=float(i // 2), flag_type="variability", now=1.0
            )
        paged = follow(
            lambda after: CandidateRepository.list_all(session, after=after, limit=2),
            lambda row: (row.significance, row.id),
        )
        assert [row.source_id for row in paged] == ["s8", "s7", "s6", "s5", "s4", "s3", "s2", "s1", "s0"]
    with get_session("cal_registry") as session:
        for i in range(5):
            window = {"valid_start_mjd": MJD + i // 2, "valid_end_mjd": MJD + 1 + i // 2, "created_at": 1.0}
            session.add(Caltable(set_name=f"b{i}", path=f"/b{i}", table_type="BP", order_index=1, **window))
        session.flush()
        tables = follow(
            lambda after: CaltableRepository.list_all(session, table_type="BP", active_only=True, after=after, limit=2),
            lambda row: (row.valid_start_mjd, row.id),
        )
        assert [row.set_name for row in tables] == ["b0", "b1", "b2", "b3", "b4"]
