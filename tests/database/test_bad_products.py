"""What nobody should hand to the registry: each is refused by name, the row says so, and no file is changed."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.database.conftest import Registry
from tests.database.nobody import NOBODY, ONLY_ROOT, by_nobody, open_to_all

from dsa110_contimg.database import publications, publishing
from dsa110_contimg.database.claims import PublishRequest, claim
from dsa110_contimg.database.data_registry import (
    get_data,
    list_data,
    publish_data_instance,
    recover_publishing,
    register_data_instance,
)
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.errors import FencedError, PublishError, SourceError, TargetError

MODES = pytest.mark.parametrize("mode", ["move", "copy"])
DAY_S = 86400.0


def state(path: Path) -> tuple[str, int]:
    """Return what a file or folder holds and who may do what with it."""
    if path.is_symlink():
        return f"link to {path.readlink()}", 0
    mode = path.lstat().st_mode & 0o7777
    return publishing.fingerprint(path).sha256 if path.is_file() else "no file", mode


def everything(registry: Registry) -> dict[Path, tuple[str, int]]:
    """Return every path of staging, and every file of the products area (folders may be made), with its state."""
    stage, products = registry.roots
    found = [*stage.rglob("*"), *(path for path in products.rglob("*") if path.is_symlink() or not path.is_dir())]
    return {path: state(path) for path in found}


def refused(
    registry: Registry,
    told: str,
    *,
    error: type[PublishError] = PublishError,
    mode: str = "move",
    published_dir: Path | None = None,
) -> None:
    """Publish m1, and check the refusal, its row and the files."""
    before, row = everything(registry), get_data(registry.conn, "m1")
    with pytest.raises(error, match=told) as caught:
        publish_data_instance(registry.conn, "m1", published_dir, mode, roots=registry.roots)
    assert "\n" not in str(caught.value)
    assert everything(registry) == before
    check_row(registry, str(caught.value), (row.publish_attempts or 0) + 1)


def check_row(registry: Registry, told: str, attempts: int = 1) -> None:
    row = get_data(registry.conn, "m1")
    assert (row.status, row.publish_error, row.publish_attempts) == ("failed", told, attempts)
    assert (row.owner, row.lease_expires_at, row.published_path, row.sha256) == (None, None, None, None)
    assert registry.idle


def mended(registry: Registry, mode: str = "move") -> None:
    """What was refused is published once the reason is gone."""
    content = publishing.fingerprint(Path(get_data(registry.conn, "m1").stage_path))
    assert publish_data_instance(registry.conn, "m1", mode=mode, roots=registry.roots)
    row = get_data(registry.conn, "m1")
    assert (row.status, row.publish_error, row.retry_at) == ("published", None, None)
    assert publishing.fingerprint(Path(row.published_path or "")) == content


@MODES
def test_a_source_that_is_missing(registry: Registry, mode: str) -> None:
    source = registry.add()
    content = source.read_bytes()
    source.unlink()
    refused(registry, r"m1\.fits does not exist", error=SourceError, mode=mode)
    source.write_bytes(content)
    mended(registry, mode)


@MODES
@pytest.mark.parametrize("folder", [False, True])
def test_a_source_that_is_empty(registry_file: Registry, mode: str, folder: bool) -> None:
    source = registry_file.add(folder=folder)
    if folder:
        (source / "table" / "data.f0").unlink()
        (source / "table.lock").unlink()
    else:
        source.write_bytes(b"")
    refused(registry_file, "is empty or no regular file", error=SourceError, mode=mode)


@contextmanager
def a_writer(path: Path) -> Iterator[None]:
    """A process that keeps a file open and writes to it now and then, until the block ends."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go[1])
        os.set_blocking(go[0], False)
        with path.open("ab", buffering=0) as stream:
            stream.write(b"x")
            os.write(ready[1], b"1")
            while True:
                try:
                    os.read(go[0], 1)
                    os._exit(0)
                except BlockingIOError:
                    stream.write(b"x")
                    time.sleep(0.001)
    os.close(go[0])
    os.read(ready[0], 1)
    try:
        yield
    finally:
        os.close(go[1])
        os.waitpid(child, 0)
        os.close(ready[0])
        os.close(ready[1])


@MODES
@pytest.mark.parametrize("folder", [False, True])
def test_a_source_that_another_process_still_writes(registry_file: Registry, mode: str, folder: bool) -> None:
    source = registry_file.add(folder=folder)
    growing = source / "table" / "data.f0" if folder else source
    before = everything(registry_file)
    with a_writer(growing), pytest.raises(SourceError, match="still being written"):
        publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    after = everything(registry_file)
    assert {path for path in before if after[path] != before[path]} == {growing}, "only its writer changed it"
    assert len(after) == len(before)
    check_row(registry_file, get_data(registry_file.conn, "m1").publish_error or "")
    mended(registry_file, mode)


@MODES
@pytest.mark.parametrize("destination", ["nowhere", "../../../outside.fits", "m1.fits", "m2.fits"])
def test_a_source_that_is_a_link(registry_file: Registry, mode: str, destination: str) -> None:
    """Dangling, leading outside, to itself, to another product."""
    source = registry_file.add()
    registry_file.add("m2")
    (registry_file.root.parent / "outside.fits").write_bytes(b"secret")
    source.unlink()
    source.symlink_to(destination)
    refused(registry_file, "is a symbolic link: register the file that it points to", mode=mode)
    assert (registry_file.root.parent / "outside.fits").read_bytes() == b"secret"


@ONLY_ROOT
@MODES
def test_a_source_that_cannot_be_read(mode: str) -> None:
    with open_to_all() as registry:
        registry.add().chmod(0o000)
        before = everything(registry)
        told = by_nobody(registry, lambda conn: publish_data_instance(conn, "m1", mode=mode, roots=registry.roots))
        assert told is not None
        assert "Permission denied" in told
        assert "m1.fits" in told
        assert everything(registry) == before
        check_row(registry, told)


@MODES
@pytest.mark.parametrize("folder", [False, True])
def test_a_target_that_is_there_with_the_same_content(registry_file: Registry, mode: str, folder: bool) -> None:
    """Then it is done; a copy keeps its source, a move removes it."""
    source = registry_file.add(folder=folder)
    content = publishing.fingerprint(source)
    target = registry_file.roots.products / "mosaics" / source.name
    target.parent.mkdir(parents=True)
    publishing._copy_folder(source, target, lambda: None) if folder else target.write_bytes(source.read_bytes())
    assert publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    assert publishing.fingerprint(target) == content
    assert source.exists() == (mode == "copy")
    assert get_data(registry_file.conn, "m1").sha256 == content.sha256


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("standing", ["file", "empty file", "folder", "empty folder", "link", "dangling link", "fifo"])
def test_a_target_that_is_something_else(registry_file: Registry, folder: bool, standing: str) -> None:
    source = registry_file.add(folder=folder)
    target = registry_file.roots.products / "mosaics" / source.name
    target.parent.mkdir(parents=True)
    if "file" in standing:
        target.write_bytes(b"" if "empty" in standing else b"an older product")
    elif "folder" in standing:
        target.mkdir()
        if standing == "folder":
            (target / "x").write_bytes(b"x")
    elif standing == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to(source if standing == "link" else "nowhere")
    refused(registry_file, str(target), error=TargetError)


@ONLY_ROOT
@MODES
@pytest.mark.parametrize("folder", [False, True])
def test_a_published_folder_that_is_read_only(mode: str, folder: bool) -> None:
    with open_to_all() as registry:
        registry.add(folder=folder)
        home = registry.roots.products / "mosaics"
        home.mkdir(parents=True)
        home.chmod(0o555)
        before = everything(registry)
        told = by_nobody(registry, lambda conn: publish_data_instance(conn, "m1", mode=mode, roots=registry.roots))
        assert told is not None
        assert "Permission denied" in told
        assert str(home) in told
        assert everything(registry) == before
        check_row(registry, told)
        home.chmod(0o755)
        again = by_nobody(registry, lambda conn: publish_data_instance(conn, "m1", mode=mode, roots=registry.roots))
        assert (again, get_data(registry.conn, "m1").status) == (None, "published")


@pytest.mark.parametrize(
    "data_id", ["a/b", "../m1", "..", ".", "", "-m1", "m1/", "a\x00b", "a\nb", "m 1", "mü", "*", "~", "a..b", "a\\b"]
)
def test_an_id_with_path_characters(registry_file: Registry, data_id: str) -> None:
    source = registry_file.add()
    before, rows = everything(registry_file), list_data(registry_file.conn)
    with pytest.raises(PublishError, match="cannot be a product id: use letters, digits") as told:
        register_data_instance(registry_file.conn, "mosaic", data_id, source)
    assert str(told.value).isprintable()
    # In a row that was written by hand it leads nowhere either.
    if "\x00" not in data_id:
        registry_file.sql("UPDATE data_registry SET data_id = ?", data_id)
        with pytest.raises(PublishError, match="its name must begin with the id"):
            publish_data_instance(registry_file.conn, data_id, roots=registry_file.roots)
        registry_file.sql("UPDATE data_registry SET data_id = 'm1', status = 'staging', publish_error = NULL")
    assert everything(registry_file) == before
    assert [row.data_id for row in list_data(registry_file.conn)] == [row.data_id for row in rows]


@pytest.mark.parametrize("path", ["m1-\n.fits", "m1-\x00.fits", os.fsdecode(b"m1-\xff.fits"), "m1-" + "x" * 300])
def test_a_path_that_cannot_be_stored(registry_file: Registry, path: str) -> None:
    with pytest.raises(PublishError, match=r"cannot be printed|longer than a path") as told:
        register_data_instance(registry_file.conn, "mosaic", "m1", registry_file.roots.stage / "mosaics" / path)
    assert str(told.value).isprintable()
    assert list_data(registry_file.conn) == []


@pytest.mark.parametrize("jump_s", [-30 * DAY_S, -1.0, 30 * DAY_S])
@pytest.mark.parametrize("step", ["prepare", "reveal"])
def test_a_clock_that_jumps_during_a_publication(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch, jump_s: float, step: str
) -> None:
    """Alone, it goes on; the row tells the times that the clock showed."""
    source = registry_file.add()
    content = publishing.fingerprint(source)
    clock, original, began = time.time, getattr(publishing, step), time.time()

    def jump(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(time, "time", lambda: clock() + jump_s)
        return original(*args, **kwargs)

    monkeypatch.setattr(publishing, step, jump)
    assert publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)
    row = get_data(registry_file.conn, "m1")
    assert (row.status, row.owner, row.publish_attempts, row.attempt) == ("published", None, 0, 1)
    assert publishing.fingerprint(Path(row.published_path or "")) == content
    assert abs((row.published_at or 0.0) - began - jump_s) < DAY_S / 2
    assert recover_publishing(registry_file.conn, roots=registry_file.roots) == []


def test_a_clock_that_jumps_lets_another_take_over(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jump makes a living owner look late: the overtaken attempt says so and changes nothing."""
    source = registry.add()
    content = publishing.fingerprint(source)
    request = PublishRequest(mode="copy", roots=registry.roots)
    row = get_data(registry.conn, "m1")
    first = claim(registry.conn, row, request)
    assert first is not None
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + DAY_S)
    assert publish_data_instance(registry.conn, "m1", mode="copy", roots=registry.roots)
    published = get_data(registry.conn, "m1")
    before = everything(registry)
    with pytest.raises(FencedError, match="attempt 1 to publish m1 was overtaken"):
        publications.carry_out(first, row, request)
    assert everything(registry) == before
    assert get_data(registry.conn, "m1") == published
    assert publishing.fingerprint(Path(published.published_path or "")) == content


def test_a_clock_that_was_set_back_holds_nobody_up(registry: Registry) -> None:
    """A lease of another machine that ends later than any lease can was given by a clock that was wrong."""
    registry.add()
    claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(roots=registry.roots))
    registry.sql("UPDATE data_registry SET owner = 'elsewhere:1:2', lease_expires_at = ?", time.time() + 365 * DAY_S)
    (done,) = recover_publishing(registry.conn, roots=registry.roots)
    assert done.status == "published"


@pytest.mark.parametrize("inside", ["link", "dangling link", "fifo"])
def test_a_folder_with_something_special_inside(registry_file: Registry, inside: str) -> None:
    source = registry_file.add(folder=True)
    odd = source / "table" / "odd"
    if inside == "fifo":
        os.mkfifo(odd)
    else:
        odd.symlink_to("data.f0" if inside == "link" else "nowhere")
    refused(registry_file, r"odd is a symbolic link or a special file")
    odd.unlink()
    mended(registry_file)


def test_a_source_that_is_a_fifo(registry_file: Registry) -> None:
    source = registry_file.add()
    source.unlink()
    os.mkfifo(source)
    refused(registry_file, "is empty or no regular file", error=SourceError)


@pytest.mark.parametrize("what", ["missing", "empty", "outside", "misnamed"])
def test_a_companion_that_is_not_right(registry_file: Registry, what: str) -> None:
    source = registry_file.add()
    good, bad = source.with_name("m1.png"), source.with_name("m1-noise.fits")
    good.write_bytes(b"preview")
    told = f"{bad.name} does not exist"
    if what == "empty":
        bad.write_bytes(b"")
        told = "is empty"
    elif what == "outside":
        bad = registry_file.root / "m1-noise.fits"
        bad.write_bytes(b"noise")
        told = "is not inside"
    elif what == "misnamed":
        bad = source.with_name("noise.fits")
        bad.write_bytes(b"noise")
        told = "cannot belong to mosaic m1"
    registry_file.sql("UPDATE data_registry SET metadata_json = ?", json.dumps({"companions": [str(good), str(bad)]}))
    refused(registry_file, told)


DAMAGED = ["{", "[]", "null", "7", '{"publish": {"items": [{"target": 1}]}}', '{"publish": {"items": [3]}}', "{}\x7f"]


@pytest.mark.parametrize("text", DAMAGED)
def test_metadata_that_were_damaged_by_hand(registry_file: Registry, text: str) -> None:
    """They may name companions: nothing is published without them, and they are not overwritten."""
    registry_file.add()
    registry_file.sql("UPDATE data_registry SET metadata_json = ?", text)
    refused(registry_file, "the metadata_json of product m1")
    if "publish" not in text:
        assert registry_file.sql("SELECT metadata_json FROM data_registry") == [(text,)]
    registry_file.sql("UPDATE data_registry SET metadata_json = NULL")
    mended(registry_file)


@pytest.mark.parametrize("text", DAMAGED)
def test_metadata_that_were_damaged_while_it_was_published(registry: Registry, text: str) -> None:
    registry.add()
    claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(roots=registry.roots))
    host, pid, _start = this_process().rsplit(":", 2)
    registry.sql("UPDATE data_registry SET metadata_json = ?, owner = ?", text, f"{host}:{pid}:1")
    before = everything(registry)
    (done,) = recover_publishing(registry.conn, roots=registry.roots)
    assert done.status in {"failed", "publishing"}
    assert everything(registry) == before
    assert "the metadata_json of product m1" in (get_data(registry.conn, "m1").publish_error or "")


@MODES
@pytest.mark.parametrize("area", ["gone", "empty", "a file", "a dangling link"])
def test_a_products_area_that_vanished(registry: Registry, mode: str, area: str) -> None:
    """What is published into the place where the area should be mounted is on the wrong disk."""
    registry.add("m0")
    publish_data_instance(registry.conn, "m0", roots=registry.roots)
    registry.add()
    products, away = registry.roots.products, registry.root / "away"
    products.rename(away)
    if area == "empty":
        products.mkdir()
    elif area == "a file":
        products.write_bytes(b"")
    elif area == "a dangling link":
        products.symlink_to("nowhere")
    refused(registry, str(products), mode=mode)
    if area == "empty":
        assert list(products.iterdir()) == []
        products.rmdir()
    elif area != "gone":
        products.unlink()
    assert not products.exists()
    away.rename(products)
    mended(registry, mode)


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_that_has_another_name_elsewhere(registry_file: Registry, folder: bool) -> None:
    """Whoever writes to the other name would change what is published: it is copied, not moved."""
    source = registry_file.add(folder=folder)
    inner = source / "table" / "data.f0" if folder else source
    other = registry_file.root / "other-name"
    other.hardlink_to(inner)
    content, mode = publishing.fingerprint(source), other.stat().st_mode
    assert publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)
    assert not source.exists()
    assert other.stat().st_mode == mode
    other.write_bytes(b"changed later")
    assert publishing.fingerprint(registry_file.roots.products / "mosaics" / source.name) == content


@ONLY_ROOT
@pytest.mark.parametrize("folder", [False, True])
def test_a_file_of_another_user(registry_file: Registry, folder: bool) -> None:
    """Its owner could give himself the right to write again: it is copied, not moved."""
    source = registry_file.add(folder=folder)
    for path in (source, *source.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    assert publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)
    target = registry_file.roots.products / "mosaics" / source.name
    assert {path.stat().st_uid for path in (target, *target.rglob("*"))} == {os.geteuid()}
