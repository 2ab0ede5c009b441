"""Each block of SQL, Python and shell in the specification and in our documents runs, as printed.

A block meets an installation with rows (`installation`): what a SELECT finds, a program prints and a function
changes is checked, for an empty answer would hide a wrong query. Databases are SQLite files, as in the documents.
"""

import ast
import contextlib
import hashlib
import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy.orm import Session
from tests.snippets import (
    BACKUP,
    HOME,
    LANGUAGES,
    MOSAIC,
    NOT_RUN,
    ROOT,
    SLOW,
    SUBSTITUTIONS,
    UNDEFINED,
    Snippet,
    ours,
    printed,
    stand_ins,
)

from dsa110_contimg.database import get_engine, get_session, init_databases, reset_engines
from dsa110_contimg.database.calibrators import register_standard_calibrators
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.models import CalRegistryBase, ProductsBase
from dsa110_contimg.formats import fits_image
from dsa110_contimg.pipeline.streaming_mosaic import run_qa_checks, submit_photometry_job
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

PRINTED, OURS = printed(), ours()
MJD = 60000.5
SHELL_TIMEOUT_S = 120

# Survey files that our documents name → what stands for them in CONTIMG_DATA.
CATALOGS = {"NVSSVZ.FIT.gz": "NVSSVZ.FIT.gz", "first_14dec17.fits.gz": "patch_first.fits"}

# What a block needs beyond the rows that every installation has; SQL for its registry.
PREPARE = {
    "S0-python-01": "DELETE FROM data_registry",
    "S0-python-02": f"UPDATE data_registry SET qa_status = 'pending' WHERE data_id = '{MOSAIC}'",
    "S0-python-03": f"UPDATE data_registry SET finalization_status = 'pending' WHERE data_id = '{MOSAIC}'",
    "S0-python-06": "DELETE FROM data_registry",
    "S0-python-07": f"UPDATE data_registry SET qa_status = 'pending' WHERE data_id = '{MOSAIC}'",
    "S0-python-09": f"UPDATE data_registry SET finalization_status = 'pending' WHERE data_id = '{MOSAIC}'",
    "S0-sql-08": f"UPDATE data_registry SET status = 'failed' WHERE data_id = '{MOSAIC}'",
    "S0-bash-05": f"UPDATE data_registry SET status = 'failed', publish_attempts = 1 WHERE data_id = '{MOSAIC}'",
}

PUBLISHED = f"data_id = '{MOSAIC}' AND status = 'published' AND published_path LIKE '%/products/mosaics/{MOSAIC}.fits'"
# A condition on the registry that holds afterwards for one product at least.
REGISTRY_AFTER = {
    "S0-python-01": f"data_id = '{MOSAIC}' AND status = 'staging' AND auto_publish_enabled = 1",
    "S0-python-02": f"data_id = '{MOSAIC}' AND qa_status = 'passed' AND validation_status = 'validated'",
    "S0-python-03": PUBLISHED,
    "S0-python-04": PUBLISHED,
    "S0-python-06": f"data_id = '{MOSAIC}' AND status = 'staging' AND finalization_status = 'pending'",
    "S0-python-07": f"data_id = '{MOSAIC}' AND qa_status IN ('passed', 'failed')",
    "S0-python-08": f"photometry_status = 'completed' AND photometry_job_id = 'photometry:{MOSAIC}'",
    "S0-python-09": PUBLISHED,
    "S0-python-11": "data_id = 'failed_once' AND status = 'published'",
    "S0-bash-01": PUBLISHED,
    "S0-bash-04": PUBLISHED,
    "S0-bash-05": PUBLISHED,
    "S0-sql-08": f"data_id = '{MOSAIC}' AND status = 'staging' AND publish_attempts = 0",
    "S0-sql-09": f"data_id = '{MOSAIC}' AND auto_publish_enabled = 0",
}

# Names that a block leaves with something in them.
FILLED = {
    "S3-python-01": ["images"],
    "S3-python-02": ["images"],
    "S3-python-05": ["pending", "dirty_images"],
    "S3-python-06": ["valid_cals"],
    "S3-python-07": ["files"],
    "S3-python-08": ["images", "pending_ms", "lightcurve", "caltables"],
    "S4-python-02": ["calibrators"],
    "S4-python-05": ["skymodel_path"],
    "docs/reference/database_products_sqlite3-python-01": ["after"],
}

# A word of what a block prints.
PRINTS = {
    "S0-python-05": f"Ready: {MOSAIC}",
    "S0-bash-02": f"{MOSAIC}|staging|passed",
    "S0-bash-03": f"{MOSAIC}: ",
    "S1-python-01": "✓ Migrated",
    "S3-python-01": "Jy/beam",
    "docs/reference/database_cal_registry_sqlite3-python-01": "bp ",
    "docs/reference/catalog_query_interface-python-01": "MASTER NVSS J013741.3+330935 16.0",
    "docs/reference/calibrators_database_api-python-01": "3C286 14.7 checked",
    "docs/reference/skymodel_storage-python-01": "field_001 ",
    "docs/how-to/publishing_workflow-python-02": "QA is 'warning', not 'passed'",
    "docs/database-python-01": "60000.5 ",
    "S4-bash-02": "1 calibrator",
    "S4-bash-03": "Calibrators migrated: ",
}

PRODUCTS_ROWS = """
INSERT INTO ms_index (path, stage, status, mid_mjd, group_id) VALUES ('{root}/1.ms', 'pending', 'ok', 60000.5, 'g');
INSERT INTO images (path, ms_path, created_at, type, noise_jy, field_name) VALUES
  ('{root}/1.fits', '{root}/1.ms', 1.0, 'dirty', 0.001, 'J1234+42');
INSERT INTO photometry (image_path, source_id, ra_deg, dec_deg, peak_jyb, measured_at, mjd, in_lightcurve) VALUES
  ('{root}/1.fits', 'NVSS J123456.7+420312', 188.7, 42.0, 0.1, 1.0, 60000.5, 1),
  ('{root}/1.fits', 'NVSS J013741.3+330935', 24.4, 33.2, 16.0, 1.0, 60000.5, 1),
  ('{root}/1.fits', 'J1234+5678', 188.5, 57.0, 0.1, 1.0, 60000.5, 1);
INSERT INTO variability_stats (source_id, ra_deg, dec_deg, updated_at) VALUES ('NVSS J123456.7+420312', 188.7, 42, 1);
INSERT INTO ese_candidates (source_id, flagged_at, significance, flag_type) VALUES
  ('NVSS J123456.7+420312', 1.0, 6.0, 'variability');
INSERT INTO mosaics (path, name, created_at, start_mjd, end_mjd) VALUES
  ('{root}/m.fits', '{mosaic}', 1.0, 60000, 60001);
INSERT INTO jobs (job_id, stage, subject, state, created_at, updated_at) VALUES
  ('image:2025-12-24T03:18:05', 'image', '2025-12-24T03:18:05', 'failed', 1.0, 1.0);
CREATE TABLE bandpass_calibrators (calibrator_name TEXT, ra_deg REAL, dec_deg REAL, registered_at REAL,
  dec_range_min REAL, dec_range_max REAL, status TEXT DEFAULT 'active');
INSERT INTO bandpass_calibrators VALUES ('OLD1', 10.0, 30.0, 1.0, 25.0, 35.0, 'active');
"""

INGEST_ROWS = """
INSERT INTO ingest_queue (group_id, state, received_at, last_update) VALUES
  ('2025-12-24T03:12:56', 'completed', 1, 1), ('2025-12-24T03:18:05', 'pending', 1, 1),
  ('2025-12-24T03:23:14', 'failed', 1, 1);
INSERT INTO subband_files (group_id, subband_idx, file_path, discovered_at) VALUES ('2025-12-24T03:18:05', 0, '/0', 1);
INSERT INTO quarantine (path, reason, quarantined_at) VALUES ('/bad', 'it is truncated', 1);
INSERT INTO performance_metrics (group_id, total_time, recorded_at) VALUES ('2025-12-24T03:12:56', 60, 1);
"""

# data_id, then the columns in which a product differs from one that is ready to be published.
PRODUCTS: dict[str, dict[str, str | float]] = {
    MOSAIC: {},
    "mosaic_2025-12-24_03-12-56": {},
    "mosaic_2025-12-24_04-00-00": {"status": "failed", "publish_attempts": 1},
    "failed_once": {"status": "failed", "publish_attempts": 1, "publish_error": "no space"},
    "failed_often": {"status": "failed", "publish_attempts": 5, "finalization_status": "rejected"},
    "published": {"status": "published", "published_at": 1.0},
    "untested": {"qa_status": "pending", "staged_at": 1.0},
    "bad": {"qa_status": "failed"},
    "doubtful": {"qa_status": "warning"},
    "measuring": {"photometry_status": "running", "photometry_job_id": "photometry:measuring"},
    "measured": {"photometry_status": "completed", "qa_status": "pending"},
}


@dataclass(frozen=True)
class Installation:
    """An installation below a temporary root, with rows."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / HOME

    @property
    def stage(self) -> Path:
        return self.root / "stage" / "dsa110-contimg"

    @property
    def state(self) -> Path:
        return self.home / "state"

    def mosaic(self, data_id: str) -> Path:
        return self.stage / "mosaics" / f"{data_id}.fits"

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[sqlite3.Connection]:
        """Open a file as a user would."""
        with contextlib.closing(sqlite3.connect(self.state / f"{name}.sqlite3")) as connection:
            connection.row_factory = sqlite3.Row
            yield connection
            connection.commit()

    def environment(self, text: str) -> dict[str, str]:
        """Return what a shell finds; a block that chooses its own root finds no other."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
        path = os.pathsep.join([str(self.root / "bin"), str(Path(sys.executable).parent), kept["PATH"]])
        own = {"PATH": path, "HOME": str(self.root), "MPLBACKEND": "Agg"}
        if "PIPELINE_ROOT=" not in text:
            own |= self.folders()
        # A real `pip install -e .`, into a folder of its own.
        pip = {"PREFIX": str(self.root / "prefix"), "NO_DEPS": "1", "NO_BUILD_ISOLATION": "0", "IGNORE_INSTALLED": "1"}
        return kept | own | {f"PIP_{key}": value for key, value in pip.items()} | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def folders(self) -> dict[str, str]:
        """Return the variables that name the folders of this installation."""
        return {
            "PIPELINE_STATE_DIR": str(self.state),
            "PIPELINE_STAGE_DIR": str(self.stage),
            "PIPELINE_PRODUCTS_DIR": str(self.home / "products"),
            "PIPELINE_INCOMING_DIR": str(self.root / "incoming"),
        }


@pytest.fixture(scope="module")
def fresh_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_STATE_DIR", str(folder / "state"))
        init_databases()
        with get_session("calibrators") as session:
            register_standard_calibrators(session)
    reset_engines()
    return folder / "state"


@pytest.fixture
def installation(tmp_path: Path, fresh_state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    place = Installation(tmp_path / "root")
    for name in os.environ:
        if name.startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    for name, value in place.folders().items():
        monkeypatch.setenv(name, value)
    shutil.copytree(fresh_state, place.state)
    (place.stage / "mosaics").mkdir(parents=True)
    (place.root / "incoming").mkdir()
    (place.root / "1.bcal").mkdir()
    add_rows(place)
    monkeypatch.chdir(place.home)
    reset_engines()
    yield place
    reset_engines()


def add_rows(place: Installation) -> None:
    """Give every query of the documents something to find."""
    with place.open("products") as products:
        products.executescript(PRODUCTS_ROWS.format(root=place.root, mosaic=MOSAIC))
    with place.open("ingest") as queue:
        queue.executescript(INGEST_ROWS)
    with contextlib.closing(sqlite3.connect(place.state / "catalogs" / "master_sources.sqlite3")) as sources:
        sources.execute(
            "INSERT INTO sources (source_id, ra_deg, dec_deg, s_nvss, snr_nvss, alpha)"
            " VALUES ('NVSS J013741.3+330935', 24.4221, 33.1598, 16.0, 100.0, -0.7)"
        )
        sources.commit()
    with place.open("cal_registry") as caltables:
        caltables.execute(
            "INSERT INTO caltables (set_name, path, table_type, order_index, valid_start_mjd, valid_end_mjd,"
            " mid_mjd, created_at) VALUES ('bp', ?, 'BP', 1, 60000, 60001, 60000.5, 1.0)",
            (str(place.root / "1.bcal"),),
        )
    with place.open("hdf5") as files:
        files.execute(
            "INSERT INTO hdf5_file_index (path, filename, group_id, subband_code, timestamp_iso, timestamp_mjd)"
            " VALUES ('/f', 'f', '2025-01-15T12:30:00', 'sb00', '2025-01-15T12:30:00', 60690.5)"
        )
    ready = {"qa_status": "passed", "validation_status": "validated", "finalization_status": "finalized"}
    with contextlib.closing(ensure_data_registry_db(place.state / "data_registry.sqlite3")) as registry:
        for data_id, differs in PRODUCTS.items():
            place.mosaic(data_id).write_bytes(b"mosaic")
            register_data_instance(registry, "mosaic", data_id, place.mosaic(data_id))
            columns = ready | differs
            assignments = ", ".join(f"{name} = ?" for name in columns)
            registry.execute(f"UPDATE data_registry SET {assignments} WHERE data_id = ?", (*columns.values(), data_id))
        published = place.home / "products" / "mosaics" / "published.fits"
        published.parent.mkdir(parents=True)
        place.mosaic("published").rename(published)
        registry.execute(
            "UPDATE data_registry SET published_path = ?, sha256 = ?, size_bytes = 6 WHERE data_id = 'published'",
            (str(published), hashlib.sha256(published.read_bytes()).hexdigest()),
        )


def add_project(place: Installation) -> None:
    """Copy what a block of shell commands finds in the project's root: package, scripts, tests."""
    shutil.copytree(
        ROOT / "backend" / "src" / "dsa110_contimg",
        place.home / "backend" / "src" / "dsa110_contimg",
        ignore=shutil.ignore_patterns("__pycache__", ".*"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", "scripts", "tests"):
        if (ROOT / name).exists():
            (place.home / name).symlink_to(ROOT / name)
    backup = place.state / "backups" / BACKUP
    backup.mkdir(parents=True)
    for name in ("products", "calibrators"):
        shutil.copy(place.state / f"{name}.sqlite3", backup / f"{name}.sqlite3.backup")
    data = os.environ.get("CONTIMG_DATA")
    if data:
        for name, stands_for in CATALOGS.items():
            (place.home / name).symlink_to(Path(data) / "catalogs" / stands_for)
    (place.home / ".venv").symlink_to(sys.prefix)
    (place.home / "incoming").mkdir()
    table = "name,ra_deg,dec_deg,flux_jy,flux_err_jy\nNVSS J013741.3+330935,24.4221,33.1598,16.0,0.5\n"
    (place.home / "incoming" / "catalog.csv").write_text(table, encoding="utf-8")
    stand_ins(place.root / "bin", Path(sys.executable))


def statements(text: str) -> Iterator[str]:
    """Split SQL where SQLite says that a statement ends."""
    buffer = ""
    for line in text.splitlines(keepends=True):
        buffer += line
        if sqlite3.complete_statement(buffer):
            yield buffer
            buffer = ""
    assert not buffer.strip(), f"this statement does not end: {buffer}"


def is_ddl(text: str) -> bool:
    return "CREATE TABLE" in text or "CREATE VIEW" in text


def shape(connection: sqlite3.Connection) -> dict[str, set[tuple[object, ...]]]:
    """Return name, type, NOT NULL, default and key of each column of each table; a key is never NULL with us."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    info = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
    return {name: {(row[1], row[2], row[3] or row[5] > 0, row[4], row[5]) for row in info[name]} for name in names}


def run_ddl(snippet: Snippet, place: Installation) -> None:
    """Run definitions on an empty file, and find what they define in ours."""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(snippet.runs_as(place.root))
        if "CREATE VIEW" in snippet.text:
            return
        defined = shape(empty)
    (table,) = set(defined) - {"sqlite_sequence"}
    for file in place.state.rglob("*.sqlite3"):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            present = shape(connection)
        if table in present:
            assert defined[table] <= present[table], defined[table] - present[table]
            return
    pytest.fail(f"no database has a table {table}")


def run_sql(snippet: Snippet, place: Installation) -> None:
    """Run statements on the database of their document; a SELECT finds a row, an UPDATE changes one."""
    if is_ddl(snippet.text):
        run_ddl(snippet, place)
        return
    name = "data_registry" if snippet.document == "S0" else "products"
    if snippet.document.startswith("docs/reference/database_"):
        name = snippet.document.removeprefix("docs/reference/database_").removesuffix("_sqlite3")
    file = next(place.state.rglob(f"{name}.sqlite3"))
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for statement in statements(snippet.runs_as(place.root)):
            cursor = connection.execute(statement)
            found = len(cursor.fetchall()) if cursor.description else cursor.rowcount
            assert found >= 1, f"nothing found or changed by:\n{statement}"
        connection.commit()


def earlier_imports(snippet: Snippet) -> str:
    """Return the imports of the blocks before, which a document expects to be known."""
    lines = []
    for other in PRINTED + OURS:
        if (other.document, other.language) == (snippet.document, "python") and other.number < snippet.number:
            nodes = ast.parse(other.text.replace("...)", ")")).body
            lines += [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(lines)


def session_of_all() -> Session:
    """Return one session for products and calibration tables: a document uses one for both."""
    return Session(binds={ProductsBase: get_engine("products"), CalRegistryBase: get_engine("cal_registry")})


@contextlib.contextmanager
def undefined_names(place: Installation) -> Iterator[dict[str, object]]:
    """Provide what UNDEFINED lists."""
    with contextlib.ExitStack() as stack:
        registry = ensure_data_registry_db(place.state / "data_registry.sqlite3")
        stack.enter_context(contextlib.closing(registry))
        cursor = registry.cursor()
        cursor.row_factory = sqlite3.Row
        names = {
            "conn": registry,
            "cursor": cursor,
            "mosaic_id": MOSAIC,
            "stage_path": str(place.mosaic(MOSAIC)),
            "published_dir": str(place.home / "products" / "mosaics"),
            "run_qa_checks": run_qa_checks,
            "submit_photometry_job": submit_photometry_job,
            "session": stack.enter_context(session_of_all()),
            "target_mjd": MJD,
            "self": SimpleNamespace(products_db=stack.enter_context(place.open("products"))),
        }
        assert names.keys() == UNDEFINED.keys()
        yield names


def run_python(snippet: Snippet, place: Installation) -> str:
    """Run a block, and the functions without arguments that it defines; return what it prints."""
    said = io.StringIO()
    with undefined_names(place) as names, contextlib.redirect_stdout(said):
        namespace: dict[str, object] = dict(names)
        exec(compile(earlier_imports(snippet), snippet.name, "exec"), namespace)
        namespace["__name__"] = "__main__"
        exec(compile(snippet.runs_as(place.root), snippet.name, "exec"), namespace)
        for node in ast.parse(snippet.runs_as(place.root)).body:
            if isinstance(node, ast.FunctionDef) and not node.args.args:
                call_in_thread(namespace[node.name])
        for name in FILLED.get(snippet.name, ()):
            assert namespace[name], f"{name} is empty"
        # A block may leave a connection open, as printed.
        for value in namespace.values():
            if isinstance(value, sqlite3.Connection):
                value.close()
    return said.getvalue()


def call_in_thread(function: object) -> None:
    failed: list[BaseException] = []

    def call() -> None:
        try:
            function()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            failed.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def run_shell(snippet: Snippet, place: Installation) -> str:
    """Run commands in the project's root, or where the document has gone; return what they print."""
    folder = place.home
    add_project(place)
    went_before = [s for s in PRINTED if s.document == snippet.document and s.number < snippet.number]
    if any("cd backend/src/dsa110_contimg" in s.text for s in went_before) and "alembic" in snippet.text:
        folder = place.home / "backend" / "src" / "dsa110_contimg"
    if "sqlite3 " in snippet.text and shutil.which("sqlite3") is None:
        pytest.skip("the program sqlite3 is not installed (Debian's package sqlite3)")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", snippet.runs_as(place.root)],
        cwd=folder,
        env=place.environment(snippet.text),
        capture_output=True,
        text=True,
        timeout=SHELL_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def run(snippet: Snippet, place: Installation) -> None:
    with place.open("data_registry") as registry:
        registry.executescript(PREPARE.get(snippet.name, ""))
    said = ""
    if snippet.language == "sql":
        run_sql(snippet, place)
    elif snippet.language == "python":
        said = run_python(snippet, place)
    else:
        said = run_shell(snippet, place)
    assert PRINTS.get(snippet.name, "") in said, said
    condition = REGISTRY_AFTER.get(snippet.name)
    if condition is not None:
        with place.open("data_registry") as registry:
            rows = registry.execute(f"SELECT * FROM data_registry WHERE {condition}").fetchall()
            assert rows, [dict(row) for row in registry.execute("SELECT * FROM data_registry")]


@pytest.mark.skipif(not PRINTED, reason="CONTIMG_SPEC names no folder with the specification's documents")
@pytest.mark.parametrize("snippet", PRINTED, ids=lambda snippet: snippet.name)
def test_the_specification_runs_as_printed(snippet: Snippet, installation: Installation) -> None:
    if snippet.name == "S0-python-07":
        save_picture(installation.mosaic(MOSAIC))
    run(snippet, installation)


@pytest.mark.parametrize(
    "snippet",
    [
        pytest.param(s, id=s.name, marks=[pytest.mark.slow] if s.begins(SLOW) else [])
        for s in OURS
        if not s.begins(NOT_RUN)
    ],
)
def test_our_documents_run(snippet: Snippet, installation: Installation) -> None:
    if "NVSSVZ" in snippet.text and not os.environ.get("CONTIMG_DATA"):
        pytest.skip("CONTIMG_DATA names no folder with catalogues")
    run(snippet, installation)


def save_picture(path: Path) -> None:
    """Write an image that quality assurance can judge: noise and one source."""
    data = np.random.default_rng(1).normal(0.0, 1e-3, (200, 200)).astype(np.float32)
    data[100, 100] = 1.0
    fits_image.save(SkyImage(data, SkyPosition(24.0, 33.0), 3.0 / 3600.0, beam=Beam(60.0, 40.0, 0.0)), path)


@pytest.mark.skipif(not PRINTED, reason="CONTIMG_SPEC names no folder with the specification's documents")
def test_no_block_is_left_over_and_no_substitution_is_idle() -> None:
    assert {snippet.language for snippet in PRINTED + OURS} <= LANGUAGES
    names = [snippet.name for snippet in PRINTED + OURS]
    assert len(names) == len(set(names))
    assert {s.begins([start]) for s in OURS for start in (*NOT_RUN, *SLOW)} == {None, *NOT_RUN, *SLOW}
    text = "\n".join(snippet.text for snippet in PRINTED)
    assert [why for why, (shown, _) in SUBSTITUTIONS.items() if shown not in text] == []
    python = [s for s in PRINTED if s.language == "python"]
    assert [name for name in UNDEFINED if not any(uses_undefined(s, name) for s in python)] == []
    assert not any("..." in line for s in PRINTED for line in s.runs_as(Path("/r")).splitlines() if "#" not in line)
    told = {*PREPARE, *REGISTRY_AFTER, *FILLED, *PRINTS}
    assert told <= set(names), told - set(names)
    assert all(len(reason.split()) >= 5 for reason in NOT_RUN.values())


def uses_undefined(snippet: Snippet, name: str) -> bool:
    """Return whether a block reads a name that it does not bind at its top."""
    tree = ast.parse(snippet.runs_as(Path("/r")))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    return bool(nodes) and not any(isinstance(node.ctx, ast.Store) for node in nodes)


def test_the_checks_can_fail(installation: Installation) -> None:
    def block(language: str, text: str) -> Snippet:
        return Snippet("S0", language, 99, text)

    with pytest.raises(AssertionError, match="nothing found"):
        run_sql(block("sql", "SELECT * FROM data_registry WHERE status = 'retracted';"), installation)
    with pytest.raises(AssertionError, match="does not end"):
        run_sql(block("sql", "SELECT 1"), installation)
    with pytest.raises(AssertionError, match="renamed"):
        run_sql(block("sql", "CREATE TABLE data_tags (renamed TEXT);"), installation)
    with pytest.raises(ZeroDivisionError):
        run_python(block("python", "def f():\n    1 / 0\n"), installation)
    with pytest.raises(AssertionError, match="no such file"):
        run_shell(block("bash", "cat nothing 2>&1 | tr N n | tee /dev/stderr"), installation)
