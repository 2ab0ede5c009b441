"""A real staging area is cleaned: rows stay true, what must stay stays, and a killed clean is finished by the next."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dsa110_contimg import naming
from dsa110_contimg.config import Settings
from dsa110_contimg.database import get_session, ingest_queue, leases
from dsa110_contimg.database.models import (
    Caltable,
    DataProduct,
    Image,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    QAArtifact,
)
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats import scratch
from dsa110_contimg.housekeeping import inventory
from dsa110_contimg.housekeeping.backups import BackupOptions
from dsa110_contimg.housekeeping.cleaning import Cleaned, carry_out, clean, plan_clean
from dsa110_contimg.housekeeping.holdings import Kind
from dsa110_contimg.housekeeping.retention import RetentionOptions
from dsa110_contimg.telescope import unix_to_mjd

GROUPS = ("2025-01-15T12:30:00", "2025-01-15T12:35:09", "2025-01-15T12:40:18")
MOSAIC = "mosaic_2025-01-15_12-30-00"
MADE = naming.stamp_unix(GROUPS[0])
NOW = MADE + 200 * 86400.0
KINDS = ("image", "pbcor", "residual", "beam")

Snapshot = dict[str, bytes]


def snapshot(root: Path) -> Snapshot:
    """Return every file below a folder, but not the databases: they are compared by their rows."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and "state" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def write_ms(path: Path) -> None:
    (path / "ANTENNA").mkdir(parents=True)
    for name in ("table.dat", "table.f0", "ANTENNA/table.dat"):
        (path / name).write_bytes(name.encode() * 3000)


@pytest.fixture
def observed(house: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation in which three tiles made one published mosaic, half a year ago."""
    monkeypatch.setenv("PIPELINE_MIN_FREE_GB", "0")
    settings = Settings()
    for folder in ("images", "caltables", "mosaics"):
        (settings.stage / folder).mkdir(parents=True)
    paths = [naming.ms_path(settings.stage, group) for group in GROUPS]
    published = settings.products / "mosaics" / f"{MOSAIC}.fits"
    published.parent.mkdir(parents=True)
    published.write_bytes(b"mosaic")
    (house / "incoming").mkdir()
    (house / "incoming" / f"{GROUPS[0]}_sb00.hdf5").write_bytes(b"telescope")
    for path in paths:
        write_ms(path)
    with get_session("cal_registry") as session:
        for path in paths:
            table = naming.caltable_path(settings.stage, path, "BP")
            write_ms(table)
            window = {"valid_start_mjd": unix_to_mjd(MADE) - 1, "valid_end_mjd": unix_to_mjd(MADE) + 1}
            row = Caltable(set_name=str(table), path=str(table), table_type="BP", order_index=1, **window)
            row.created_at = MADE
            session.add(row)
    with get_session("products") as session:
        for number, (group, path) in enumerate(zip(GROUPS, paths, strict=True)):
            session.add(
                MSIndex(
                    path=str(path),
                    group_id=group,
                    stage="photometry_complete",
                    status="ok",
                    mid_mjd=unix_to_mjd(MADE + 309.0 * number),
                    stage_updated_at=MADE + 3600.0,
                    caltables=f'["{naming.caltable_path(settings.stage, path, "BP")}"]',
                )
            )
            for kind in KINDS:
                picture = naming.image_path(settings.stage, path, kind)
                picture.write_bytes(kind.encode() * 1000)
                session.add(Image(path=str(picture), ms_path=str(path), type=kind, created_at=MADE))
        plot = naming.mosaic_path(settings.stage, MOSAIC, "qa")
        plot.write_bytes(b"plot")
        session.add(QAArtifact(group_id="mg", name=plot.name, path=str(plot), created_at=MADE))
        session.add(MosaicGroup(group_id="mg", ms_paths="[]", created_at=MADE, mosaic_id=MOSAIC, status="completed"))
        session.add(Mosaic(path=str(published), name=MOSAIC, start_mjd=1.0, end_mjd=2.0, created_at=MADE))
        session.add(Image(path=str(published), ms_path=str(paths[0]), type="mosaic", created_at=MADE))
        session.flush()
        for position, path in enumerate(paths):
            session.add(MosaicGroupMember(group_id="mg", ms_path=str(path), position=position))
    with get_session("data_registry") as session:
        stage_path = naming.mosaic_path(settings.stage, MOSAIC)
        row_of = DataProduct(data_type="mosaic", data_id=MOSAIC, base_path=str(stage_path.parent), status="published")
        row_of.stage_path, row_of.published_path = str(stage_path), str(published)
        row_of.created_at = row_of.staged_at = row_of.published_at = MADE + 7200.0
        session.add(row_of)
    return settings


def cleaned(settings: Settings, **options: float) -> Cleaned:
    return clean(settings, RetentionOptions(**options), BackupOptions(), now=NOW)


def removed_rows() -> dict[str, set[str]]:
    """Return which rows say that their file is removed."""
    with get_session("products", read_only=True) as session:
        found = {
            model.__tablename__: set(session.scalars(select(model.path).where(model.removed_at.is_not(None))))
            for model in (MSIndex, Image, QAArtifact)
        }
    with get_session("cal_registry", read_only=True) as session:
        found["caltables"] = set(session.scalars(select(Caltable.path).where(Caltable.status == "retired")))
    return found


def rows_are_true(settings: Settings) -> None:
    """Every row's file is there, or the row says that it is removed."""
    gone = set().union(*removed_rows().values())
    with get_session("products", read_only=True) as session:
        paths = [*session.scalars(select(MSIndex.path)), *session.scalars(select(Image.path))]
    for path in paths:
        assert Path(path).exists() != (path in gone), path
    assert list(settings.stage.rglob("*.partial")) == []


def test_a_dry_run_changes_nothing_and_a_clean_does_what_it_said(observed: Settings, house: Path) -> None:
    before = snapshot(house)
    planned = plan_clean(observed, RetentionOptions(), BackupOptions(), now=NOW)
    assert {kind: sum(i.kind is kind for i in planned.removals) for kind in Kind} == {
        Kind.MS: 3,
        Kind.INTERMEDIATE: 3,
        Kind.TILE_IMAGE: 9,
        Kind.CALTABLE: 3,
        Kind.PLOT: 1,
        Kind.SCRATCH: 0,
        Kind.LOG: 0,
        Kind.BACKUP: 0,
    }
    assert snapshot(house) == before
    assert not any(removed_rows().values())
    done = cleaned(observed)
    assert done.removed == list(planned.removals)
    assert done.bytes >= 3 * 3 * 9000
    assert snapshot(house) == {
        f"products/mosaics/{MOSAIC}.fits": b"mosaic",
        f"incoming/{GROUPS[0]}_sb00.hdf5": b"telescope",
    }
    rows_are_true(observed)
    assert removed_rows()["caltables"] == {item.path for item in done.removed if item.kind is Kind.CALTABLE}
    assert cleaned(observed).removed == []


def test_what_is_not_settled_stays(observed: Settings, house: Path) -> None:
    before = snapshot(house)
    with get_session("data_registry") as session:
        session.execute(update(DataProduct).values(status="staging", published_path=None, published_at=None))
    assert cleaned(observed).removed == []
    with get_session("data_registry") as session:
        session.execute(update(DataProduct).values(status="published", published_at=NOW - 86400.0))
    assert cleaned(observed, ms_days=0.0, plot_days=0.0, intermediate_days=0.0, tile_image_days=0.0).removed == []
    with get_session("ingest") as session:
        late = naming.group_id_of(unix_to_mjd(MADE + 1800.0))
        ingest_queue.record_subband(session, group_id=late, subband_idx=0, path="/x", file_size=1, now=MADE)
    with get_session("data_registry") as session:
        session.execute(update(DataProduct).values(published_at=MADE))
    assert {item.kind for item in cleaned(observed).removed} == {Kind.PLOT}
    assert {k: v for k, v in snapshot(house).items() if "qa.png" not in k} == {
        k: v for k, v in before.items() if "qa.png" not in k
    }


def test_a_short_disk_makes_data_go_before_their_age(observed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {f"{kind}_days": 1e4 for kind in ("ms", "intermediate", "tile_image", "caltable", "plot")}
    assert cleaned(observed, **long).removed == []
    monkeypatch.setenv("PIPELINE_MIN_FREE_GB", "1e9")
    done = clean(Settings(), RetentionOptions(**long), BackupOptions(), now=NOW)
    assert {item.kind for item in done.removed} == {Kind.MS, Kind.INTERMEDIATE, Kind.TILE_IMAGE}
    rows_are_true(observed)


def test_a_job_that_is_opened_after_the_plan_keeps_its_files(observed: Settings) -> None:
    planned = plan_clean(observed, RetentionOptions(), BackupOptions(), now=NOW)
    with get_session("products") as session:
        leases.ensure_job(session, "image", GROUPS[1], now=NOW)
    done = carry_out(planned, observed, now=NOW)
    assert {item.path for item in done.held} == {
        item.path for item in planned.removals if GROUPS[1] in item.path and item.kind is not Kind.CALTABLE
    }
    assert naming.ms_path(observed.stage, GROUPS[1]).is_dir()
    rows_are_true(observed)


def test_links_strangers_and_live_scratch_stay(observed: Settings, house: Path, tmp_path: Path) -> None:
    stranger = observed.stage / "images" / "thesis.fits"
    stranger.write_bytes(b"mine")
    elsewhere = tmp_path / "elsewhere.ms"
    write_ms(elsewhere)
    path = naming.ms_path(observed.stage, GROUPS[0])
    subprocess.run(["rm", "-r", path], check=True)
    path.symlink_to(elsewhere)
    own = scratch.scratch_path(observed.stage / "images" / "new.fits")
    own.write_bytes(b"work in hand")
    dead = own.with_name(f".old.fits.{os.uname().nodename}.999999999.{'0' * 12}.partial")
    dead.write_bytes(b"of a dead process")
    planned = plan_clean(observed, RetentionOptions(), BackupOptions(), now=NOW)
    assert planned.unknown == (str(stranger),)
    done = carry_out(planned, observed, now=NOW)
    assert [item.path for item in done.removed if item.kind is Kind.SCRATCH] == [str(dead)]
    assert stranger.exists()
    assert own.exists()
    assert len(snapshot(elsewhere)) == 3
    assert path.is_symlink()
    assert house.exists()


def test_rotated_logs_go_and_present_ones_stay(observed: Settings) -> None:
    observed.logs.mkdir(parents=True)
    names = ("contimg.jsonl", "contimg.jsonl.1", "contimg.jsonl.2", "notes.txt", "contimg-vm.jsonl")
    for number, name in enumerate(names):
        (observed.logs / name).write_text("line")
        age = 1.0 if number == 1 else 200.0
        os.utime(observed.logs / name, (NOW - age * 86400.0,) * 2)
    done = cleaned(observed)
    assert [Path(item.path).name for item in done.removed if item.kind is Kind.LOG] == ["contimg.jsonl.2"]


def test_folders_in_one_another_are_refused(observed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(observed.stage)
    for name, folder in (("INCOMING", observed.stage / "in"), ("PRODUCTS", observed.stage.parent)):
        monkeypatch.setenv(f"PIPELINE_{name}_DIR", str(folder))
        with pytest.raises(ConfigurationError, match="one in the other"):
            cleaned(Settings())
        monkeypatch.delenv(f"PIPELINE_{name}_DIR")
    planned = plan_clean(observed, RetentionOptions(), BackupOptions(), now=NOW)
    outside = replace(planned.removals[0], path=str(observed.incoming / f"{GROUPS[0]}_sb00.hdf5"))
    with pytest.raises(ConfigurationError, match="is not removed"):
        carry_out(replace(planned, removals=(outside,)), observed, now=NOW)
    assert (observed.incoming / f"{GROUPS[0]}_sb00.hdf5").exists()
    assert snapshot(observed.stage) == before


def test_a_file_that_cannot_be_removed_is_told_and_holds_up_nothing(
    observed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = str(naming.ms_path(observed.stage, GROUPS[1]))
    discard = scratch.discard

    def refuse(path: Path) -> None:
        if str(path) == stuck:
            raise PermissionError(1, "Operation not permitted")
        discard(path)

    monkeypatch.setattr(scratch, "discard", refuse)
    done = cleaned(observed)
    assert done.failed == {stuck: "Operation not permitted"}
    assert len(done.removed) == 18
    monkeypatch.undo()
    monkeypatch.setenv("PIPELINE_ROOT", str(observed.stage.parent))
    assert [item.path for item in cleaned(Settings()).removed] == [stuck], "it goes the next time"


def dying_after(calls: int, work: Callable[[], object]) -> int:
    """Run work in a forked process that kills itself before its n-th rename, unlink or rmdir; return how it ended."""
    child = os.fork()
    if child == 0:
        left = [calls]

        def counted(original: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        for name in ("rename", "unlink", "rmdir", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_killed_clean_shows_nobody_half_a_measurement_set_and_the_next_one_finishes(observed: Settings) -> None:
    whole = {str(naming.ms_path(observed.stage, group)): 3 for group in GROUPS}
    killed = 0
    for calls in range(1, 40, 3):
        ended = dying_after(calls, lambda: cleaned(observed))
        killed += ended == -signal.SIGKILL
        for path, files in whole.items():
            assert len(snapshot(Path(path))) in (0, files), "whole or gone"
        gone = removed_rows()["ms_index"]
        assert all(Path(path).exists() or path in gone for path in whole), "no row says 'here' of what is gone"
    assert killed >= 6
    cleaned(observed)
    rows_are_true(observed)
    assert all(not Path(path).exists() for path in whole)


def test_the_inventory_measures_what_is_on_disk(tmp_path: Path) -> None:
    write_ms(tmp_path / "a.ms")
    told = int(
        subprocess.run(["du", "-s", "-B1", tmp_path / "a.ms"], capture_output=True, check=True).stdout.split()[0]
    )
    assert inventory.measure(tmp_path / "a.ms").bytes == told
