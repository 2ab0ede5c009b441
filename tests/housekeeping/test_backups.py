"""Backups are restored and every row compared; what is damaged, half-written or killed never becomes a backup."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text
from tests.housekeeping.conftest import Contents, contents_of, everything, fill

from dsa110_contimg.config import DATABASES, Settings
from dsa110_contimg.database import get_session, leases
from dsa110_contimg.database.backup import check_integrity
from dsa110_contimg.database.models import METADATA, Job, Source
from dsa110_contimg.database.session import database_path
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.housekeeping import backups, dumps, presence
from dsa110_contimg.housekeeping.backups import (
    BackupOptions,
    BackupSet,
    back_up_when_due,
    is_due,
    list_backups,
    load_backup,
    make_backup,
    rotate,
    superseded,
    verify,
)
from dsa110_contimg.housekeeping.restoring import find_backup, restore_backup

NOW = 1.77e9
SOME = ("ingest", "products")
DAY_S = 86400.0
Filled = Callable[[], dict[str, Contents]]


def lose_everything() -> None:
    for name in DATABASES:
        with get_session(name) as session:
            for table in reversed(METADATA[name].sorted_tables):
                session.execute(table.delete())


def in_child(work: Callable[[], object]) -> int:
    """Run work in a forked process; 0 when it returns, 1 when it raises, minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except ConfigurationError:
            pass
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(limit_bytes: int, work: Callable[[], object]) -> Callable[[], None]:
    """Let work be killed by the kernel as soon as a file would grow beyond a size."""

    def run() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        work()

    return run


def test_every_row_comes_back(filled: Filled, house: Path) -> None:
    before = filled()
    assert sum(len(rows) for tables in before.values() for rows in tables.values()) > 100
    backup = make_backup(Settings().backups, now=NOW)
    lose_everything()
    assert filled() != before
    done = restore_backup(find_backup(backup.folder.name, Settings()), Settings(), now=NOW + 10)
    assert filled() == before
    assert sorted(done.databases) == sorted(DATABASES)
    assert done.before is not None
    again = restore_backup(load_backup(done.before), Settings(), now=NOW + 10, names=["ingest"])
    assert filled() != before, "what was replaced came back, too"
    assert again.before is not None
    assert again.before.name == f"{done.before.name}_2", "two of one second"
    assert not list(house.rglob("*.partial"))


def test_one_database_is_restored_and_the_others_stay(filled: Filled) -> None:
    before = filled()
    backup = make_backup(Settings().backups, now=NOW, names=SOME)
    lose_everything()
    restore_backup(backup, Settings(), now=NOW + 10, names=["products"])
    after = filled()
    assert [name for name in DATABASES if after[name] == before[name]] == ["products"]
    with pytest.raises(ConfigurationError, match="no database 'nosuch'"):
        restore_backup(backup, Settings(), now=NOW + 20, names=["nosuch"])


def test_the_manifest_tells_what_proves_the_copies(filled: Filled) -> None:
    rows = {name: {table: len(found) for table, found in tables.items()} for name, tables in filled().items()}
    backup = make_backup(Settings().backups, now=NOW, why="by hand")
    told = json.loads((backup.folder / "manifest.json").read_text())
    assert told["made_at"] == "2026-02-02T02:40:00+00:00"
    assert {copy["database"]: copy["rows"] for copy in told["copies"]} == rows
    for copy in told["copies"]:
        name, path = copy["database"], backup.folder / copy["file"]
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert copy["sha256"] == digest
        assert copy["revision"].startswith(f"{name}_")
    assert load_backup(backup.folder) == backup == list_backups(Settings().backups)[0]


def test_a_damaged_backup_is_refused_and_nothing_changes(filled: Filled) -> None:
    backup = make_backup(Settings().backups, now=NOW, names=SOME)
    lose_everything()
    before = filled()
    file = backup.folder / next(copy.file for copy in backup.copies if copy.database == "products")
    sound = file.read_bytes()
    for damaged in (sound[: len(sound) // 2], sound[:-1] + b"!", b""):
        file.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match=rf"{file}.*damaged"):
            restore_backup(backup, Settings(), now=NOW + 10)
    file.unlink()
    with pytest.raises(ConfigurationError, match=rf"{file} cannot be read"):
        restore_backup(backup, Settings(), now=NOW + 10)
    assert filled() == before
    assert list_backups(Settings().backups) == [backup], "no backup was made before the refusal"


def test_a_copy_with_a_true_checksum_and_false_pages_is_refused(house: Path) -> None:
    fill(1)
    assert house.exists()
    backup = make_backup(Settings().backups, now=NOW, names=SOME)
    copy = next(copy for copy in backup.copies if copy.database == "products")
    content = bytearray((backup.folder / copy.file).read_bytes())
    content[4096:12288] = random.Random(7).randbytes(8192)
    (backup.folder / copy.file).write_bytes(content)
    manifest = backup.folder / "manifest.json"
    digest = backups._sha256(backup.folder / copy.file)
    manifest.write_text(manifest.read_text().replace(copy.sha256, digest))
    with pytest.raises(ConfigurationError, match="damaged"):
        verify(load_backup(backup.folder), ["products"])


@pytest.mark.parametrize("told", ["", "{", "[]", '{"copies": [{"database": "products"}]}'])
def test_a_damaged_manifest_is_one_sentence_and_stops_no_other_backup(house: Path, told: str) -> None:
    assert house.exists()
    backup = make_backup(Settings().backups, now=NOW)
    (backup.folder / "manifest.json").write_text(told)
    with pytest.raises(ConfigurationError, match=r"manifest\.json is damaged"):
        load_backup(backup.folder)
    complaints = list[str]()
    assert list_backups(Settings().backups, complaints.append) == []
    assert len(complaints) == 1
    assert back_up_when_due(Settings().backups, BackupOptions(), now=NOW + 1) is not None
    with pytest.raises(ConfigurationError, match="is no backup"):
        find_backup("backup_20200101_000000", Settings())


def test_a_backup_of_a_newer_version_or_another_kind_is_refused(filled: Filled, backend: str) -> None:
    backup = make_backup(Settings().backups, now=NOW, names=SOME)
    before = filled()
    with get_session("products") as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'products_9999'"))
    newer = make_backup(Settings().backups, now=NOW + 1, names=SOME)
    restore_backup(backup, Settings(), now=NOW + 2)
    with pytest.raises(ConfigurationError, match="newer version of contimg"):
        restore_backup(newer, Settings(), now=NOW + 3)
    other = BackupSet(**{**vars(backup), "engine": "postgresql" if backend == "sqlite" else "sqlite"})
    with pytest.raises(ConfigurationError, match=r"check PIPELINE_DATABASE_URL|is not a database|is not a SQLite"):
        restore_backup(other, Settings(), now=NOW + 4)
    assert filled() == before


def test_a_damaged_database_is_never_backed_up_and_is_set_aside_by_a_restore(house: Path) -> None:
    fill(2)
    before = everything()
    backup = make_backup(Settings().backups, now=NOW)
    path = database_path("products")
    damaged = bytearray(path.read_bytes())
    damaged[4096 : 4096 * 6] = random.Random(3).randbytes(4096 * 5)
    path.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match=r"damaged|malformed"):
        make_backup(Settings().backups, now=NOW + 1)
    assert list_backups(Settings().backups) == [backup]
    done = restore_backup(backup, Settings(), now=NOW + 2)
    assert everything() == before
    assert [kept.read_bytes() for kept in done.damaged if kept.name == path.name] == [bytes(damaged)]
    database_path("hdf5").unlink()
    restore_backup(backup, Settings(), now=NOW + 3)
    assert everything() == before
    assert not list(house.rglob("*.partial"))


def test_a_restore_waits_for_no_pipeline_it_refuses(filled: Filled) -> None:
    backup = make_backup(Settings().backups, now=NOW, names=SOME)
    before = filled()
    with presence.running(Settings()):
        assert presence.is_running(Settings())
        with pytest.raises(ConfigurationError, match="a pipeline runs"):
            restore_backup(backup, Settings(), now=NOW + 1)
        restore_backup(backup, Settings(), now=NOW + 2, force=True)
    assert not presence.is_running(Settings())
    refused = pytest.raises(ConfigurationError, match="are being restored")
    with presence.alone(Settings()), refused, presence.running(Settings()):
        pass
    assert filled() == before


def test_a_restore_refuses_while_another_machine_holds_a_lease(filled: Filled) -> None:
    assert filled()
    backup = make_backup(Settings().backups, now=NOW, names=SOME)
    with get_session("products") as session:
        leases.ensure_job(session, "image", "g", now=NOW)
        leases.claim_job(session, "image:g", "elsewhere:12:34", 100.0, NOW)
    with pytest.raises(ConfigurationError, match="elsewhere:12:34"):
        restore_backup(backup, Settings(), now=NOW + 1)
    restore_backup(backup, Settings(), now=NOW + 101)
    with get_session("products", read_only=True) as session:
        assert session.get(Job, "image:g") is None


def test_a_killed_run_holds_no_lock(house: Path) -> None:
    assert house.exists()
    ready, told = os.pipe()

    def run() -> None:
        with presence.running(Settings()):
            os.write(told, b"x")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(run) == -signal.SIGKILL
    assert os.read(ready, 1) == b"x"
    assert not presence.is_running(Settings())


def many_sources(number: int, word: str) -> None:
    """Make the catalogue some megabytes long."""
    with get_session("master_sources") as session:
        session.query(Source).delete()
        rows = [{"source_id": f"{word} {i}", "ra_deg": 0.01 * i, "dec_deg": 1.0} for i in range(number)]
        session.execute(insert(Source), rows)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_backup_leaves_nothing_half_under_a_final_name(house: Path) -> None:
    many_sources(2000, "old")
    folder = Settings().backups
    sizes = [database_path(name).stat().st_size for name in backups.ORDER]
    points = [1, *range(20_000, max(sizes), max(sizes) // 9)]
    killed = 0
    for number, limit in enumerate(points):
        code = in_child(dying_at(limit, lambda number=number: make_backup(folder, now=NOW + number)))  # type: ignore[misc]
        killed += code == -signal.SIGXFSZ
        assert code in (-signal.SIGXFSZ, 1)
        assert list_backups(folder) == []
        assert all(name.startswith(".") and name.endswith(".partial") for name in names_in(folder))
        for name in DATABASES:
            check_integrity(database_path(name))
    assert killed >= 6, f"{killed} of {len(points)}"
    assert names_in(folder), "a killed backup leaves its scratch"
    backup = make_backup(folder, now=NOW + 1000)
    assert names_in(folder) == [backup.folder.name], "and the next one removes it"
    assert not list(house.rglob("*.partial"))


def test_a_killed_restore_leaves_each_database_as_it_was_or_as_it_becomes(house: Path) -> None:
    names = ("master_sources", "products")
    fill(3, rows=2)
    many_sources(2000, "old")
    backup = make_backup(Settings().backups, now=NOW, names=names)
    old = {name: contents_of(name) for name in names}
    lose_everything()
    many_sources(2500, "new")
    new = {name: contents_of(name) for name in names}
    shutil.copytree(house / "state", house / "kept")
    largest = database_path("master_sources").stat().st_size
    outcomes = set[tuple[bool, ...]]()
    for limit in [40_000, *range(150_000, 2 * largest, largest // 3)]:
        code = in_child(dying_at(limit, lambda: restore_backup(backup, Settings(), now=NOW + 9)))
        assert code in (-signal.SIGXFSZ, 0, 1)
        after = {name: contents_of(name) for name in names}
        for name in names:
            check_integrity(database_path(name))
            assert after[name] in (old[name], new[name])
        outcomes.add(tuple(after[name] == old[name] for name in names))
        shutil.rmtree(house / "state")
        shutil.copytree(house / "kept", house / "state")
    print(outcomes)
    assert len(outcomes) >= 2, "some were killed before and some after a database was replaced"


def test_a_full_disk_leaves_no_backup(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.exists()
    many_sources(20_000, "x")
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(ConfigurationError, match=r"needs 0\.00\d GB and 0\.001 GB are free"):
            make_backup(small / "backups", now=NOW)
        monkeypatch.setattr(backups, "_HEADROOM", 0.0)
        with pytest.raises(ConfigurationError, match=r"full|cannot be written"):
            make_backup(small / "backups", now=NOW)
        assert names_in(small / "backups") == []
    finally:
        subprocess.run(["umount", small], check=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        make_backup(tmp_path / "file" / "backups", now=NOW)


def test_without_the_clients_programs_a_server_is_one_sentence(
    filled: Filled, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filled()
    if backend == "postgresql":
        monkeypatch.setattr("shutil.which", lambda _name: None)
        with pytest.raises(ConfigurationError, match=r"pg_dump is not installed.*postgresql-client"):
            make_backup(Settings().backups, now=NOW)
        assert names_in(Settings().backups) == []


def test_a_dump_that_lacks_rows_is_no_backup(filled: Filled, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled()
    if backend == "postgresql":
        counted = dumps.count_rows
        monkeypatch.setattr(
            dumps, "count_rows", lambda m, name: {t: n + (t == "jobs") for t, n in counted(m, name).items()}
        )
        with pytest.raises(ConfigurationError, match="does not hold the rows of jobs"):
            make_backup(Settings().backups, now=NOW, names=SOME)
        assert names_in(Settings().backups) == []


def days(*numbers: float) -> list[float]:
    start = datetime(2025, 12, 1, 3, tzinfo=UTC)
    return [(start + timedelta(days=number)).timestamp() for number in numbers]


def test_a_backup_is_due_once_a_day_whatever_the_clock_does() -> None:
    options = BackupOptions()
    assert is_due(NOW, [], options)
    assert not is_due(NOW, [NOW - 100.0], options)
    assert not is_due(NOW, [NOW - 3 * DAY_S, NOW - DAY_S + 1], options)
    assert is_due(NOW, [NOW - DAY_S], options)
    assert is_due(NOW, [NOW + 30 * DAY_S], options), "the clock has stepped back"


def test_the_rotation_keeps_seven_days_and_four_weeks() -> None:
    made = days(*range(60))
    kept = set(made) - superseded(made, BackupOptions())
    # 1 December 2025 is a Monday, so day 59 is a Thursday; Sundays end the weeks.
    assert kept == set(days(53, 54, 55, 56, 57, 58, 59, 48, 41))
    assert superseded(days(0, 0.1, 0.2), BackupOptions()) == set(), "one by hand takes no place of one an hour ago"
    assert superseded(days(0, 0.1, 1.5, 1.6), BackupOptions()) == set(days(0))
    assert superseded(days(3), BackupOptions(daily=0, weekly=0)) == set(), "the newest is always kept"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 400), unique=True, max_size=40), st.integers(0, 9), st.integers(0, 9))
def test_the_newest_backup_and_each_kept_day_survive_any_rotation(ages: list[float], daily: int, weekly: int) -> None:
    made, options = days(*ages), BackupOptions(daily=daily, weekly=weekly)
    gone = superseded(made, options)
    assert gone <= set(made)
    if made:
        assert max(made) not in gone
    kept = set(made) - gone
    recent = [age for age in made if max(made) - age < DAY_S]
    assert kept.issuperset(recent)
    assert len(kept) <= len(recent) + daily + weekly
    assert superseded(sorted(kept), options) == set(), "a second rotation removes nothing"


def test_the_daemons_call_makes_one_a_day_and_rotates(house: Path) -> None:
    assert house.exists()
    folder, options = Settings().backups, BackupOptions(daily=2, weekly=0)
    for hour in range(0, 97, 24):
        back_up_when_due(folder, options, now=NOW + 3600.0 * hour)
    assert [backup.made_unix for backup in list_backups(folder)] == [NOW + 4 * DAY_S, NOW + 3 * DAY_S]
    before = make_backup(folder, now=NOW + 3.5 * DAY_S, why=backups.BEFORE_RESTORE)
    rotate(folder, options)
    assert before in list_backups(folder), "what a restore replaced is not rotated with the daily ones"
    rotate(folder, BackupOptions(daily=2, weekly=0, every_h=1.0))
    assert not list(folder.glob(".*"))
