"""Each check of the doctor meets a real defect, and what is sound."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.database.postgresql_server import Server

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import get_session, leases, reset_engines
from dsa110_contimg.database.models import Source
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.session import database_path
from dsa110_contimg.housekeeping import backups, database_checks, installation, machine, presence
from dsa110_contimg.housekeeping.doctor import examine, is_fit
from dsa110_contimg.housekeeping.findings import Finding, Grade
from dsa110_contimg.housekeeping.machine import Mount
from dsa110_contimg.sqlite_library import has_wal_reset_bug
from dsa110_contimg.telescope import unix_to_mjd

NOW = 1.77e9
DAY_S = 86400.0
OK, WARNING, ERROR = Grade


def must_be(finding: Finding, grade: Grade, *parts: str) -> None:
    assert finding.grade is grade, finding
    assert [part for part in parts if part not in f"{finding.found}; {finding.way_out}"] == [], finding
    assert bool(finding.way_out) is (grade is not OK), finding


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "fuseblk", "fuse", "lustre", "virtiofs"])
def test_databases_on_a_network_file_system_are_refused(kind: str, tmp_path: Path) -> None:
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), kind)]
    must_be(
        machine.check_file_system("x", tmp_path / "state", mounts, databases=True), ERROR, kind, "PIPELINE_STATE_DIR"
    )
    must_be(machine.check_file_system("x", tmp_path / "in", mounts), OK, "polling")
    beside = tmp_path.with_name(f"{tmp_path.name}-not")
    must_be(machine.check_file_system("x", beside, mounts, databases=True), OK, "ext4")


def test_the_mount_that_is_seen_is_the_one_that_counts(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), "nfs4"), Mount(str(tmp_path), "xfs")]
    must_be(machine.check_file_system("x", tmp_path, mounts, databases=True), OK, "xfs")
    must_be(machine.check_file_system("x", tmp_path / "link" / "var", mounts, databases=True), OK, "ext4")
    must_be(machine.check_file_system("x", tmp_path, [Mount("/", "tmpfs")]), WARNING, "tmpfs")
    must_be(machine.check_file_system("x", tmp_path, []), WARNING)
    told = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = machine.mount_of(tmp_path, machine.list_mounts())
    assert found is not None
    assert found.kind[:3] == told[:3] or (found.kind, told) == ("overlay", "overlayfs")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte and thirty inodes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=30", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_found(small: Path) -> None:
    must_be(machine.check_room("x", small / "not yet" / "there", 5e5), OK)
    must_be(machine.check_room("x", small, 9e5), WARNING, "near the floor")
    must_be(
        machine.check_room("x", small, 2e6, "SETTING"), ERROR, "below the floor", "contimg clean --dry-run", "SETTING"
    )
    for number in range(29):
        (small / str(number)).touch()
    must_be(machine.check_room("x", small, 0.0), ERROR, "inodes")
    (small / "0").unlink()
    (small / "1").write_bytes(bytes(1 << 20))
    must_be(machine.check_writing("x", small), ERROR, "No space left", "make room")
    assert len(list(small.iterdir())) == 28


def test_a_folder_is_tried_by_writing_it(small: Path, tmp_path: Path) -> None:
    must_be(machine.check_writing("x", small), OK)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    must_be(machine.check_writing("x", small), ERROR, "Read-only", "mount it for writing")
    (tmp_path / "file").write_text("")
    must_be(machine.check_writing("x", tmp_path / "file"), ERROR, "Not a directory")
    must_be(machine.check_writing("x", tmp_path / "missing"), WARNING, "contimg init")
    must_be(machine.check_reading("x", tmp_path / "missing"), ERROR, "does not exist", "contimg init")
    must_be(machine.check_reading("x", tmp_path), OK)
    assert list(small.iterdir()) == []


def test_a_clock_that_has_stepped_is_found(tmp_path: Path) -> None:
    for name in ("2026-02-02T02:40:00_sb00.hdf5", "2026-02-02T02:34:51_sb15.hdf5", "other.txt"):
        (tmp_path / name).touch()
    newest = machine.newest_stamp_unix(tmp_path)
    assert newest == NOW
    assert machine.newest_stamp_unix(tmp_path / "missing") is None
    must_be(machine.check_clock(NOW + 60.0, newest, None, synchronized=True), OK, "60 s after")
    must_be(machine.check_clock(NOW - 3600.0, newest, None, synchronized=True), ERROR, "3600 s in the future")
    must_be(machine.check_clock(NOW, None, NOW + 900.0, synchronized=True), ERROR, "stepped back")
    must_be(machine.check_clock(NOW, None, NOW - 1.0, synchronized=False), WARNING, "not synchronized")
    must_be(machine.check_clock(NOW, None, None, synchronized=None), OK)
    assert machine.is_synchronized() in (True, False, None)


def test_the_last_run_is_read_from_the_rows(house: Path) -> None:
    assert house.exists()
    assert database_checks.newest_row_unix() is None
    with get_session("products") as session:
        leases.ensure_job(session, "image", "g", now=NOW)
    assert database_checks.newest_row_unix() == NOW
    database_path("products").unlink()
    assert database_checks.newest_row_unix() is None


def test_memory_and_cores_are_told() -> None:
    cores, total, free = machine.cores_and_memory()
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert 0 < free <= total
    must_be(machine.check_memory(4, 64 * 10**9, 10**9), OK, "4 cores", "64 GB")
    must_be(machine.check_memory(4, 4 * 10**9, 10**9), WARNING, "4 GB", "one worker")


def test_a_sqlite_that_damages_files_is_refused() -> None:
    for version in ((3, 40, 1), (3, 51, 2)):
        must_be(installation.check_sqlite(version, "sqlite3", on_server=False), ERROR, "pysqlite3")
        must_be(installation.check_sqlite(version, "sqlite3", on_server=True), OK)
    must_be(installation.check_sqlite((3, 51, 3), "sqlite3", on_server=False), OK)
    import sqlite3

    assert installation.sqlite_library()[0] == sqlite3.sqlite_version_info


def test_old_earth_orientation_is_found() -> None:
    measured, predicted = installation.iers_span()
    assert 300.0 < predicted - measured < 500.0
    today = unix_to_mjd(NOW)
    must_be(installation.check_iers(NOW, today - 30, today + 300), OK, "300 days")
    must_be(installation.check_iers(NOW, today - 300, today + 59), WARNING, "astropy-iers-data")
    must_be(installation.check_iers(NOW, today - 400, today - 2), ERROR, "2 days ago")


def test_an_engine_that_does_not_run_is_found(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    for script, grade, part in (
        ("echo; echo engine 3.1", OK, "engine 3.1"),
        ("echo missing library >&2; exit 127", WARNING, "missing library"),
        ("exec sleep 30", WARNING, "timed out"),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        must_be(installation.check_program("engine", program, (), patience_s=1.0), grade, part)
    program.write_bytes(b"\x7fELF")
    must_be(installation.check_program("engine", program, ()), WARNING, "does not run")


def test_engines_are_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {finding.grade for finding in installation.check_engines()} == {OK}
    (tmp_path / "wsclean").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "wsclean").chmod(0o755)
    assert {f.name: f.grade for f in installation.check_engines()}["wsclean"] is WARNING


def test_an_old_missing_or_damaged_backup_is_found(house: Path) -> None:
    assert house.exists()
    folder = Settings().backups
    must_be(installation.check_backup(NOW, folder), WARNING, "none", "contimg backup")
    made = backups.make_backup(folder, now=NOW, names=["hdf5"])
    must_be(installation.check_backup(NOW + DAY_S, folder), OK, made.folder.name)
    must_be(installation.check_backup(NOW + 3 * DAY_S, folder), WARNING, "3.0 days old")
    (made.folder / "manifest.json").write_text("{")
    must_be(installation.check_backup(NOW, folder), ERROR, "damaged")


def test_a_database_that_is_missing_older_foreign_or_damaged_is_found(house: Path) -> None:
    assert house.exists()
    must_be(database_checks.check_standing("products"), OK, "products_00")
    with get_session("hdf5") as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'hdf5_9999'"))
    must_be(database_checks.check_standing("hdf5"), ERROR, "newer version")
    database_path("ingest").unlink()
    must_be(database_checks.check_standing("ingest"), ERROR, "does not exist", "contimg init")
    database_path("ingest").touch()
    must_be(database_checks.check_standing("ingest"), ERROR, "empty", "contimg init")
    database_path("calibrators").write_bytes(b"this is no database" * 1000)
    must_be(database_checks.check_standing("calibrators"), ERROR, "not a SQLite database")
    database_path("cal_registry").replace(database_path("data_registry"))
    must_be(database_checks.check_standing("data_registry"), ERROR, "is the database cal_registry")


def test_a_catalogue_without_sources_is_found(house: Path) -> None:
    assert house.exists()
    must_be(database_checks.check_catalogue(), ERROR, "contimg catalog import")
    with get_session("master_sources") as session:
        session.add(Source(source_id="A", ra_deg=1.0, dec_deg=2.0))
    must_be(database_checks.check_catalogue(), OK, "1 sources")
    database_path("master_sources").unlink()
    must_be(database_checks.check_catalogue(), ERROR, "contimg init")


def test_running_owners_and_stale_leases_are_told(house: Path) -> None:
    assert house.exists()
    must_be(database_checks.check_owners(Settings(), NOW), OK, "no run", "nobody")
    must_be(database_checks.check_leases(NOW), OK, "0 held")
    gone = this_process().rsplit(":", 2)[0] + ":999999999:1"
    with get_session("products") as session:
        for subject, owner, lease_s in (("a", this_process(), 60.0), ("b", gone, 60.0), ("c", "elsewhere:1:2", -1.0)):
            leases.ensure_job(session, "image", subject, now=NOW)
            leases.claim_job(session, f"image:{subject}", owner, lease_s, NOW)
    with presence.running(Settings()):
        must_be(database_checks.check_owners(Settings(), NOW), OK, "a run holds the lock", this_process())
    must_be(database_checks.check_leases(NOW), WARNING, "2 of 3", "image:b, image:c")
    database_path("products").unlink()
    must_be(database_checks.check_leases(NOW), ERROR, "contimg init")
    must_be(database_checks.check_owners(Settings(), NOW), ERROR, "contimg init")


def test_a_server_is_asked(on_postgresql: Server, house_on_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    must_be(next(iter(database_checks.check_server())), OK, "PostgreSQL")
    assert {finding.grade for finding in database_checks.check_server()} == {OK}
    with on_postgresql.connect("postgres") as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
    monkeypatch.setenv("PIPELINE_DATABASE_URL", on_postgresql.url(house_on_postgresql, "reader"))
    reset_engines()
    must_be(next(iter(database_checks.check_server())), WARNING, "may not make schemas")
    monkeypatch.setenv("PIPELINE_DATABASE_URL", on_postgresql.url("nosuch"))
    reset_engines()
    (finding,) = database_checks.check_server()
    must_be(finding, ERROR, "does not exist on the server")
    must_be(database_checks.judge_server("x", 120004, may_create=True), ERROR, "upgrade the server")
    must_be(database_checks.judge_client("15.3 (Debian)", 160001), ERROR, "older than the server")


def test_a_server_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    assert root.exists()
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql+psycopg://nobody:secret@127.0.0.1:1/contimg")
    reset_engines()
    last = list(examine(Settings(), now=NOW))[-1]
    must_be(last, ERROR, "server", "cannot be reached", "PIPELINE_DATABASE_URL")
    assert "secret" not in last.found


def test_the_doctor_of_folders_that_cannot_be_written_ends(house: Path, small: Path) -> None:
    """A state folder that is mounted for reading only, with the lock of a run in it."""
    for path in (house / "state").rglob("*"):
        if path.is_file() and path.stat().st_size < 2e5:
            (small / path.name).write_bytes(path.read_bytes()[:20_000])
    with presence.running(Settings(state_dir=small)):
        pass
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    must_be(database_checks.check_owners(Settings(state_dir=small), NOW), OK, "no run on this machine")
    must_be(machine.check_writing("x", small), ERROR, "mount it for writing")


def test_every_database_and_folder_has_its_line(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_MIN_FREE_GB", "0")
    (house / "incoming").mkdir()
    findings = list(examine(Settings(), now=NOW))
    names = {finding.name for finding in findings}
    assert {f"database {name}" for name in DATABASES} <= names
    assert [f.way_out for f in findings if f.name == "writing backups"] == ["run `contimg backup`"]
    assert {"clock", "memory", "SQLite", "Earth orientation", "catalogue", "leases", "writing stage"} <= names
    affected = ["SQLite"] if has_wal_reset_bug(installation.sqlite_library()[0]) else []
    assert [finding.name for finding in findings if finding.grade is ERROR] == [*affected, "catalogue"]
    assert not is_fit(findings)
    assert is_fit([finding for finding in findings if finding.grade is not ERROR])
