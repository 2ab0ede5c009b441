"""A published product that is taken back: nothing is deleted, nothing overwritten, and the row says all of it."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.database.conftest import Registry
from tests.database.nobody import ONLY_ROOT, by_nobody, open_to_all

from dsa110_contimg.database import publishing, retraction
from dsa110_contimg.database.data_registry import (
    get_data,
    publish_data_instance,
    recover_publishing,
    register_data_instance,
)
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.retraction import published_items, removals, resume_retraction, retract
from dsa110_contimg.errors import FencedError, PublishError

WHY = {"reason": "the wrong calibrator", "by": "ana"}


def published(registry: Registry, data_id: str = "m1", *, folder: bool = False, companion: bool = True) -> Path:
    """Publish a product, with a companion in a folder below the type's."""
    name = f"{data_id}{'.image' if folder else '.fits'}"
    home = registry.roots.stage / "mosaics" / "2025"
    home.mkdir(parents=True, exist_ok=True)
    if folder:
        (home / name / "table").mkdir(parents=True)
        (home / name / "table" / "data.f0").write_bytes(data_id.encode() * 900)
    else:
        (home / name).write_bytes(data_id.encode() * 900)
    noise = home / f"{data_id}-noise.fits"
    if companion:
        noise.write_bytes(b"noise of " + data_id.encode())
    metadata = {"companions": [str(noise)]} if companion else {}
    register_data_instance(registry.conn, "mosaic", data_id, home / name, metadata=metadata)
    assert publish_data_instance(registry.conn, data_id, roots=registry.roots)
    return registry.roots.products / "mosaics" / "2025" / name


def listing(folder: Path) -> dict[str, str]:
    """Return every path below a folder with its content."""
    found = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)): publishing.fingerprint(path).sha256 if path.is_file() else "folder"
        for path in found
    }


def files(folder: Path) -> dict[str, str]:
    return {path: content for path, content in listing(folder).items() if content != "folder"}


def give_to_a_dead_process(registry: Registry) -> None:
    host, pid, _start = this_process().rsplit(":", 2)
    registry.sql("UPDATE data_registry SET owner = ? WHERE owner IS NOT NULL", f"{host}:{pid}:1")


@pytest.mark.parametrize("folder", [False, True])
def test_a_retracted_product_is_kept_as_it_was(registry: Registry, folder: bool) -> None:
    path = published(registry, folder=folder)
    published(registry, "m2")
    before, was = files(registry.roots.products), get_data(registry.conn, "m1")
    tombstone = retract(registry.conn, "m1", **WHY, successor="m2", roots=registry.roots)
    assert tombstone == registry.roots.products / "retracted" / "m1" / "mosaics" / "2025" / path.name
    moved = {name if "m1" not in name else f"retracted/m1/{name}": content for name, content in before.items()}
    assert files(registry.roots.products) == moved, "every file is there, with the same content, m2's where they were"
    row = get_data(registry.conn, "m1")
    assert (row.status, row.published_path, row.owner, row.lease_expires_at) == (
        "retracted",
        str(tombstone),
        None,
        None,
    )
    assert (row.retract_reason, row.superseded_by) == ("the wrong calibrator", "m2")
    assert row.retracted_at is not None
    assert (row.sha256, row.size_bytes, row.published_at) == (was.sha256, was.size_bytes, was.published_at)
    assert publishing.fingerprint(tombstone).sha256 == row.sha256
    noted = row.details["retract"]
    assert isinstance(noted, dict)
    assert (noted["by"], noted["reason"], noted["successor"]) == ("ana", "the wrong calibrator", "m2")
    assert noted["at"] == row.retracted_at
    assert [(Path(item["from"]).name, Path(item["to"]).name) for item in noted["items"]] == [
        ("m1-noise.fits", "m1-noise.fits"),
        (path.name, path.name),
    ]
    assert recover_publishing(registry.conn, roots=registry.roots) == []


def test_what_cannot_be_retracted_is_refused_by_name(registry: Registry) -> None:
    published(registry)
    registry.add("staged")
    published(registry, "old")
    retract(registry.conn, "old", **WHY, roots=registry.roots)
    published(registry, "busy")
    registry.sql("UPDATE data_registry SET owner = 'elsewhere:1:2' WHERE data_id = 'busy'")
    before, rows = [listing(area) for area in registry.roots], registry.sql("SELECT * FROM data_registry")
    refusals: list[tuple[str, dict[str, str], str]] = [
        ("m9", {}, "no product 'm9'"),
        ("staged", {}, "staged is staging, not published"),
        ("old", {}, "old was retracted already: the wrong calibrator"),
        ("busy", {}, "busy is still being published by elsewhere:1:2"),
        ("m1", {"reason": " "}, "m1 is not retracted without a reason"),
        ("m1", {"by": ""}, "m1 is not retracted without who asks for it"),
        ("m1", {"successor": "m9"}, "no product 'm9'"),
        ("m1", {"successor": "m1"}, "m1 cannot replace m1"),
        ("m1", {"successor": "old"}, "old cannot replace m1: name one that stands"),
    ]
    for data_id, how, told in refusals:
        with pytest.raises(PublishError, match=told) as error:
            retract(registry.conn, data_id, **{**WHY, **how}, roots=registry.roots)
        assert "\n" not in str(error.value)
    assert [listing(area) for area in registry.roots] == before
    assert registry.sql("SELECT * FROM data_registry") == rows


def test_a_retracted_id_is_never_used_again(registry: Registry) -> None:
    published(registry)
    retract(registry.conn, "m1", **WHY, roots=registry.roots)
    source = registry.roots.stage / "mosaics" / "2025" / "m1.fits"
    source.write_bytes(b"made anew")
    for path in (source, source.with_name("m1-b.fits")):
        with pytest.raises(PublishError, match="m1 was retracted"):
            register_data_instance(registry.conn, "mosaic", "m1", path)
    with pytest.raises(PublishError, match="m1 was retracted"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots)
    assert source.read_bytes() == b"made anew"


def test_a_tombstone_is_never_overwritten(registry: Registry) -> None:
    path = published(registry)
    tombstone = registry.roots.products / "retracted" / "m1" / "mosaics" / "2025" / "m1.fits"
    tombstone.parent.mkdir(parents=True)
    tombstone.write_bytes(b"somebody's")
    with pytest.raises(PublishError, match=r"m1.fits exists already: a tombstone is never replaced"):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert get_data(registry.conn, "m1").status == "published"
    assert path.exists()
    # The same after it was decided: what appears in the way stays, and the row says so.
    tombstone.unlink()

    def appear(_source: Path, target: Path) -> None:
        target.write_bytes(b"somebody's")
        raise FileExistsError(17, "File exists", str(target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retraction, "rename_new", appear)
        with pytest.raises(PublishError, match="not all of its files are set aside"):
            retract(registry.conn, "m1", **WHY, roots=registry.roots)
    row = get_data(registry.conn, "m1")
    assert (row.status, row.published_path, row.lease_expires_at) == ("retracted", str(path), None)
    assert row.owner is not None
    assert "File exists" in (row.publish_error or "")
    with pytest.raises(PublishError, match="both exist: compare them"):
        resume_retraction(registry.conn, row, registry.roots)
    assert tombstone.read_bytes() == b"somebody's"
    assert path.exists()
    tombstone.unlink()
    assert resume_retraction(registry.conn, get_data(registry.conn, "m1"), registry.roots) == tombstone
    row = get_data(registry.conn, "m1")
    assert (row.publish_error, row.owner, row.published_path) == (None, None, str(tombstone))


class Killed(BaseException):
    """Stands for SIGKILL."""


STEPS: list[tuple[str, int]] = [("make_folders", 3), ("rename_new", 1), ("rename_new", 2), ("sync_folder", 2)]


@pytest.mark.parametrize(("step", "call"), STEPS)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_a_killed_retraction_is_finished_by_recovery(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str, call: int, after: bool, folder: bool
) -> None:
    path = published(registry, folder=folder)
    before = files(registry.roots.products)
    die_at(monkeypatch, step, call, after=after)
    with pytest.raises(Killed):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    monkeypatch.undo()
    row = get_data(registry.conn, "m1")
    assert (row.status, row.published_path) == ("retracted", str(path)), "decided, not settled"
    assert sorted(files(registry.roots.products).values()) == sorted(before.values())
    assert recover_publishing(registry.conn, roots=registry.roots) == [], "its owner is alive"
    give_to_a_dead_process(registry)
    (done,) = recover_publishing(registry.conn, roots=registry.roots)
    assert (done.data_id, done.status) == ("m1", "retracted")
    assert files(registry.roots.products) == {f"retracted/m1/{name}": content for name, content in before.items()}
    row = get_data(registry.conn, "m1")
    assert row.owner is None
    assert row.published_path is not None
    assert publishing.fingerprint(Path(row.published_path)).sha256 == row.sha256
    assert recover_publishing(registry.conn, roots=registry.roots) == []


def die_at(monkeypatch: pytest.MonkeyPatch, step: str, call: int, *, after: bool) -> None:
    original: Callable[..., None] = getattr(retraction, step)
    calls = 0

    def counted(*args: Path) -> None:
        nonlocal calls
        calls += 1
        if calls < call or after:
            original(*args)
        if calls == call:
            raise Killed

    monkeypatch.setattr(retraction, step, counted)


def test_renaming_in_two_steps_is_finished(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between link and unlink leaves a file with both names; between mkdir and rename, an empty folder."""
    for data_id, folder in (("m1", False), ("m2", True)):
        path = published(registry, data_id, folder=folder, companion=False)
        content = publishing.fingerprint(path)

        def half(source: Path, target: Path) -> None:
            if source.is_dir():
                target.mkdir()
            else:
                target.hardlink_to(source)
            raise Killed

        monkeypatch.setattr(retraction, "rename_new", half)
        with pytest.raises(Killed):
            retract(registry.conn, data_id, **WHY, roots=registry.roots)
        monkeypatch.undo()
        tombstone = resume_retraction(registry.conn, get_data(registry.conn, data_id), registry.roots)
        assert tombstone is not None
        assert not path.exists()
        assert publishing.fingerprint(tombstone) == content
        assert folder or tombstone.stat().st_nlink == 1


def test_an_older_attempt_finds_nothing_left_to_do(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    published(registry)
    overtaken: list[Path | None] = []
    original = retraction._settle

    def late(*args: object) -> Path:
        monkeypatch.undo()
        row = get_data(registry.conn, "m1")
        overtaken.append(resume_retraction(registry.conn, row, registry.roots))
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(retraction, "_settle", late)
    tombstone = retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert overtaken == [tombstone]
    row = get_data(registry.conn, "m1")
    assert resume_retraction(registry.conn, row, registry.roots) is None
    registry.sql("UPDATE data_registry SET attempt = attempt + 1, published_path = '/elsewhere'")
    with pytest.raises(FencedError, match="was overtaken; it changes nothing more"):
        original(registry.conn, row, removals(row))


def test_only_one_of_two_decides(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    published(registry)
    original = retraction._decide

    def faster(*args: object) -> None:
        monkeypatch.undo()
        retract(registry.conn, "m1", reason="first", by="ben", roots=registry.roots)
        original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(retraction, "_decide", faster)
    with pytest.raises(PublishError, match="somebody else was faster"):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert get_data(registry.conn, "m1").retract_reason == "first"


def test_a_product_that_is_claimed_meanwhile(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(registry)
    original = retraction._decide

    def claimed(*args: object) -> None:
        registry.sql("UPDATE data_registry SET owner = 'elsewhere:1:2'")
        original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(retraction, "_decide", claimed)
    with pytest.raises(PublishError, match="somebody else was faster"):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert get_data(registry.conn, "m1").status == "published"
    assert path.exists()


def test_an_area_that_vanishes_before_the_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are out of reach, not lost: the retraction waits for them."""
    published(registry)
    before = files(registry.roots.products)
    die_at(monkeypatch, "rename_new", 1, after=False)
    with pytest.raises(Killed):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    monkeypatch.undo()
    away = registry.roots.products.rename(registry.root / "unmounted")
    with pytest.raises(PublishError, match="see whether the products area is mounted"):
        resume_retraction(registry.conn, get_data(registry.conn, "m1"), registry.roots)
    row = get_data(registry.conn, "m1")
    assert row.owner is not None
    assert "is mounted" in (row.publish_error or "")
    assert not registry.roots.products.exists()
    away.rename(registry.roots.products)
    assert resume_retraction(registry.conn, row, registry.roots) is not None
    assert files(registry.roots.products) == {f"retracted/m1/{name}": content for name, content in before.items()}


def test_a_row_that_cannot_be_updated_moves_nothing(registry: Registry) -> None:
    path = published(registry)
    before = files(registry.roots.products)
    registry.refuse("UPDATE", "no more room in the registry", "NEW.status = 'retracted'")
    with pytest.raises(Exception, match="no more room in the registry"):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert files(registry.roots.products) == before
    assert get_data(registry.conn, "m1").status == "published"
    assert registry.idle
    registry.mend()
    assert retract(registry.conn, "m1", **WHY, roots=registry.roots).exists()
    assert not path.exists()


def test_a_missing_file_is_not_in_the_way_but_a_missing_area_is(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    path = published(registry)
    away = registry.root / "unmounted"
    registry.roots.products.rename(away)
    with pytest.raises(PublishError, match="see whether the products area is mounted"):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert not registry.roots.products.exists()
    assert get_data(registry.conn, "m1").status == "published"
    away.rename(registry.roots.products)
    path.unlink()
    with caplog.at_level(logging.WARNING):
        tombstone = retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert f"{path} is missing" in caplog.text
    assert not tombstone.exists()
    assert [Path(name).name for name in files(registry.roots.products)] == ["m1-noise.fits"]


def test_a_row_that_was_changed_by_hand_moves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(registry)
    other = registry.root / "elsewhere.fits"
    other.write_bytes(b"not a product")
    registry.sql("UPDATE data_registry SET published_path = ?", str(other))
    with pytest.raises(PublishError, match="is not inside"):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    registry.sql("UPDATE data_registry SET published_path = ?", str(path))
    die_at(monkeypatch, "rename_new", 1, after=False)
    with pytest.raises(Killed):
        retract(registry.conn, "m1", **WHY, roots=registry.roots)
    monkeypatch.undo()
    noted = registry.sql("SELECT metadata_json FROM data_registry")[0][0]
    tombstone = str(registry.roots.products / "retracted" / "m1" / "mosaics" / "2025" / "m1.fits")
    for damaged, told in (
        (noted.replace(f'"from": "{path}"', f'"from": "{other}"'), "is not inside"),
        (noted.replace(f'"to": "{tombstone}"', f'"to": "{registry.root}/x"'), "the row was changed by hand"),
        (noted.replace('"items"', '"things"'), "does not say what was retracted"),
        (noted[:-1], "is no JSON"),
        ("{}", "no longer says which files"),
    ):
        assert damaged != noted
        registry.sql("UPDATE data_registry SET metadata_json = ?", damaged)
        with pytest.raises(PublishError, match=told):
            resume_retraction(registry.conn, get_data(registry.conn, "m1"), registry.roots)
        assert told.split()[-1] in (get_data(registry.conn, "m1").publish_error or "")
        assert path.exists()
        assert other.exists()
    registry.sql("UPDATE data_registry SET metadata_json = ?", noted)
    assert resume_retraction(registry.conn, get_data(registry.conn, "m1"), registry.roots) is not None


def test_a_product_that_another_program_published(registry: Registry) -> None:
    """Its row may hold no more than a path."""
    path = registry.roots.products / "mosaics" / "m1.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    registry.add()
    registry.sql("UPDATE data_registry SET status = 'published', published_path = ?", str(path))
    assert published_items(get_data(registry.conn, "m1")) == [(path, None)]
    tombstone = retract(registry.conn, "m1", **WHY, roots=registry.roots)
    assert tombstone.read_bytes() == b"by hand"
    assert not path.exists()


@ONLY_ROOT
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("closed", ["type folder", "product"])
def test_without_write_permission(folder: bool, closed: str) -> None:
    """Read-only products can be set aside; in a read-only folder nothing is begun."""
    with open_to_all() as registry:
        path = published(registry, folder=folder)
        before = files(registry.roots.products)
        sealed = path.parent if closed == "type folder" else path
        sealed.chmod(0o555 if sealed.is_dir() else 0o444)
        told = by_nobody(registry, lambda conn: retract(conn, "m1", **WHY, roots=registry.roots))
        if closed == "type folder":
            assert told == f"{path.parent} cannot be written: check its permissions"
            assert files(registry.roots.products) == before
            assert get_data(registry.conn, "m1").status == "published"
        else:
            assert told is None
            tombstone = Path(get_data(registry.conn, "m1").published_path or "")
            assert tombstone.stat().st_mode & 0o777 == (0o555 if folder else 0o444)
            assert files(registry.roots.products) == {f"retracted/m1/{name}": text for name, text in before.items()}


def test_a_products_area_of_two_file_systems(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be renamed into the tombstones is not touched, nor is its row."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == registry.root.stat().st_dev:
        pytest.skip("there is no second file system here")
    path = published(registry, companion=False)
    other = memory / f"contimg-{os.getpid()}-m1.fits"
    other.write_bytes(b"x")
    lstat = Path.lstat
    try:
        monkeypatch.setattr(Path, "lstat", lambda asked: lstat(other if asked == path else asked))
        with pytest.raises(PublishError, match="lies on another file system"):
            retract(registry.conn, "m1", **WHY, roots=registry.roots)
    finally:
        monkeypatch.undo()
        other.unlink()
    assert get_data(registry.conn, "m1").status == "published"
    assert path.exists()
    shutil.rmtree(registry.roots.products)
