"""Processes do the same things at the same time; every row has one winner and nothing is lost.

One pair of processes runs the races of rows, one after the other, on files and on a PostgreSQL server; many publish
the same products.
"""

import logging
import multiprocessing
import multiprocessing.queues
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from tests.database.postgresql_server import Server

from dsa110_contimg.database import (
    IngestQueue,
    MSIndex,
    get_session,
    ingest_queue,
    init_databases,
    leases,
    reset_engines,
)
from dsa110_contimg.database.data_registration import get_data, publish_data_instance, register_data_instance
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.registry_rows import open_registry

COUNT, RACERS = 10, 2
Won = list[tuple[str, int, int]]
Outcome = tuple[list[str], int, list[str]]
"""What one process published, how often it was told 'already claimed', and its errors."""


class Published(logging.Handler):
    """Counts the publications that this process carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "published %s as %s":
            self.products.append(str((record.args or [""])[0]))  # type: ignore[index]


def _publish_all(root: Path, products: int, together: Barrier, results: "multiprocessing.Queue[Outcome]") -> None:
    published, refused, errors = Published(), 0, list[str]()
    logger = logging.getLogger("dsa110_contimg.database.publications")
    logger.setLevel(logging.INFO)
    logger.addHandler(published)
    roots = Roots(root / "stage", root / "products")
    with open_registry() as registry:
        together.wait(60)
        for number in range(products):
            try:
                refused += not publish_data_instance(registry, f"m{number}", roots=roots)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                errors.append(repr(error))
    results.put((published.products, refused, errors))


def _lead(root: Path, processes: int, products: int, results: "multiprocessing.Queue[Outcome]") -> None:
    """Fork the racers from a process that has no threads and all imports."""
    context = multiprocessing.get_context("fork")
    together = context.Barrier(processes)
    arguments = (root, products, together, results)
    racers = [context.Process(target=_publish_all, args=arguments) for _ in range(processes)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()


@pytest.mark.parametrize(
    ("processes", "products"), [(4, 25), pytest.param(16, 200, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_many_processes_publish_the_same_products(
    backend: str, root: Path, capsys: pytest.CaptureFixture[str], processes: int, products: int
) -> None:
    contents = {f"m{number}.fits": bytes([number]) * (3000 + number) for number in range(products)}
    (root / "stage" / "mosaics").mkdir(parents=True)
    with open_registry() as conn:
        for name, data in contents.items():
            path = root / "stage" / "mosaics" / name
            path.write_bytes(data)
            register_data_instance(conn, "mosaic", path.stem, path)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Outcome] = context.Queue()
    leader = context.Process(target=_lead, args=(root, processes, products, results))
    leader.start()
    outcomes = [results.get(timeout=300) for _ in range(processes)]
    leader.join(60)
    assert [error for _, _, errors in outcomes for error in errors] == [], "no error but 'already claimed'"
    published = sorted(name for names, _, _ in outcomes for name in names)
    assert published == sorted(Path(name).stem for name in contents), "each is published once"
    with open_registry() as conn:
        rows = [get_data(conn, f"m{number}") for number in range(products)]
    assert {(row.status, row.attempt, row.publish_attempts, row.owner) for row in rows} == {("published", 1, 0, None)}
    found = {path.name: path.read_bytes() for path in (root / "products").rglob("*") if path.is_file()}
    assert found == contents
    assert not any(path.is_file() for path in (root / "stage").rglob("*"))
    claimed = sum(refused for _, refused, _ in outcomes)
    with capsys.disabled():
        print(
            f"\n{backend}: {processes} processes, {len(published)} of {products} published once;"
            f" 0 errors, {claimed} times 'already claimed'"
        )


def _race(root: Path, racer: int, barrier: Barrier, results: "multiprocessing.Queue[Won]") -> None:
    won: Won = []
    barrier.wait(60)
    for number in range(COUNT):
        with get_session("ingest") as session:
            if ingest_queue.claim_group(session, f"group {number}"):
                won.append(("group", number, 1))
        with get_session("products") as session:
            attempt = leases.claim_job(session, f"image:{number}", this_process(), 60.0, 10.0)
            if attempt is not None:
                won.append(("job", number, attempt))
        with get_session("products") as session:
            before = session.query(MSIndex).count()
            session.add(MSIndex(path=f"/{racer}/{number}.ms", field_name=str(before)))
    roots = Roots(root / "stage", root / "products")
    with open_registry() as registry:
        barrier.wait(60)
        for number in range(COUNT):
            publish_data_instance(registry, f"m{number}", roots=roots)
    results.put(won)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def raced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Won]]:
    """The race that was run, with the databases that it left."""
    root = tmp_path_factory.mktemp("races")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ROOT", str(root))
        if request.param == "postgresql":
            server: Server = request.getfixturevalue("postgresql")
            patch.setenv("PIPELINE_DATABASE_URL", server.url(server.create()))
        reset_engines()
        init_databases()
        with get_session("ingest") as ingest, get_session("products") as products:
            for number in range(COUNT):
                ingest.add(IngestQueue(group_id=f"group {number}", state="pending", received_at=1.0, last_update=1.0))
                leases.ensure_job(products, "image", str(number), now=1.0)
        (root / "stage" / "mosaics").mkdir(parents=True)
        for number in range(COUNT):
            path = root / "stage" / "mosaics" / f"m{number}.fits"
            path.write_bytes(bytes([number]) * (3000 + number))
            with open_registry() as conn:
                register_data_instance(conn, "mosaic", f"m{number}", path)
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(RACERS), context.Queue()
        racers = [context.Process(target=_race, args=(root, i, barrier, results)) for i in range(RACERS)]
        for racer in racers:
            racer.start()
        won = [entry for _ in racers for entry in results.get(timeout=120)]
        for racer in racers:
            racer.join(60)
        assert [racer.exitcode for racer in racers] == [0] * RACERS
        yield root, won
        reset_engines()


def test_each_group_is_claimed_once(raced: tuple[Path, Won]) -> None:
    assert sorted(entry for entry in raced[1] if entry[0] == "group") == [("group", n, 1) for n in range(COUNT)]


def test_each_job_is_claimed_once(raced: tuple[Path, Won]) -> None:
    assert sorted(entry for entry in raced[1] if entry[0] == "job") == [("job", n, 1) for n in range(COUNT)]


@pytest.mark.usefixtures("raced")
def test_what_one_reads_before_it_writes_is_still_true_when_it_writes() -> None:
    with get_session("products", read_only=True) as session:
        counted = sorted(int(row.field_name or -1) for row in session.query(MSIndex))
    assert counted == list(range(RACERS * COUNT))


def test_each_product_is_published_once(raced: tuple[Path, Won]) -> None:
    root = raced[0]
    with open_registry() as conn:
        rows = [get_data(conn, f"m{number}") for number in range(COUNT)]
    assert {(row.status, row.attempt, row.publish_attempts) for row in rows} == {("published", 1, 0)}
    found = {path.name: path.read_bytes() for path in (root / "products").rglob("*") if path.is_file()}
    assert found == {f"m{n}.fits": bytes([n]) * (3000 + n) for n in range(COUNT)}
    assert not any(path.is_file() for path in (root / "stage").rglob("*"))
