"""What a publication promises about single files: permissions, writers, chunks, the disk, names, retries."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dsa110_contimg.database import contents, publications, publishing
from dsa110_contimg.database.claims import Claim
from dsa110_contimg.database.data_registry import get_data, publish_data_instance
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.publications import RETRY_BASE_S, RETRY_CAP_S, retry_delay_s
from dsa110_contimg.database.publishing import Transfer, fingerprint, prepare, reveal
from dsa110_contimg.errors import PublishError, SourceError, TargetError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

BOTH_MODES = pytest.mark.parametrize("mode", ["move", "copy"])
FILE_AND_FOLDER = pytest.mark.parametrize("folder", [False, True])


def modes(path: Path) -> set[int]:
    return {file.stat().st_mode & 0o7777 for file in contents.files_of(path)}


def target_of(registry: Registry, source: Path) -> Path:
    return registry.roots.products / "mosaics" / source.name


@BOTH_MODES
@FILE_AND_FOLDER
def test_what_is_published_cannot_be_written(registry_file: Registry, mode: str, folder: bool) -> None:
    source = registry_file.add(folder=folder)
    for file in contents.files_of(source):
        file.chmod(0o640)
    assert publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    target = target_of(registry_file, source)
    assert modes(target) == {0o444}
    if mode == "copy":
        assert modes(source) == {0o640}
    if folder:
        assert os.access(target, os.W_OK), "a folder that cannot be written cannot be moved to its tombstone"


@BOTH_MODES
@FILE_AND_FOLDER
def test_a_failure_gives_the_permissions_back(registry_file: Registry, mode: str, folder: bool) -> None:
    source = registry_file.add(folder=folder)
    for file in contents.files_of(source):
        file.chmod(0o640)
    registry_file.refuse("UPDATE", "no more room in the registry", "NEW.status = 'published'")
    with pytest.raises(PublishError, match="no more room"):
        publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    assert modes(source) == {0o640}


@BOTH_MODES
@FILE_AND_FOLDER
def test_a_source_that_a_process_holds_open(registry_file: Registry, mode: str, folder: bool) -> None:
    """Nothing was written yet, but it may be at any moment."""
    source = registry_file.add(folder=folder)
    held = contents.files_of(source)[0]
    with held.open("ab") as stream:
        with pytest.raises(PublishError, match=f"{held} is still being written: a process has it open"):
            publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
        assert get_data(registry_file.conn, "m1").status == "failed"
        assert not target_of(registry_file, source).exists()
        stream.write(b"the rest")
    assert publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    assert fingerprint(target_of(registry_file, source)).size_bytes == get_data(registry_file.conn, "m1").size_bytes


@FILE_AND_FOLDER
def test_a_writer_that_comes_between_is_seen(tmp_path: Path, folder: bool) -> None:
    """After the content was hashed and before it gets its name."""
    source, target = tmp_path / "a", tmp_path / "products" / "a"
    if folder:
        source.mkdir()
    file = source / "data" if folder else source
    file.write_bytes(b"content")
    prepared = prepare(Transfer(source, target), move=True, attempt=1)
    with file.open("ab"), pytest.raises(SourceError, match="a process has it open"):
        reveal(prepared)
    assert not target.exists()
    with file.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(SourceError, match="changed while it was read"):
        reveal(prepared)
    assert not target.exists()


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * 4096, 3 * 4096 + 17])
def test_a_copy_of_any_number_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(publishing, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(contents, "CHUNK_BYTES", 1000)
    source, target = tmp_path / "a", tmp_path / "products" / "a"
    content = bytes((7 * i + i // 251) % 256 for i in range(size))
    source.write_bytes(content)
    beats = []
    prepared = prepare(Transfer(source, target), move=False, attempt=3, beat=lambda: beats.append(1))
    assert prepared.fingerprint == fingerprint(source)
    chunks = -(-size // 4096)
    assert len(beats) == chunks + -(-chunks // 3), "for each chunk that is written, and every third that is read back"
    reveal(prepared)
    assert target.read_bytes() == content


@pytest.mark.parametrize("direct", [True, False])
def test_reading_back_passes_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool) -> None:
    source, target = tmp_path / "a", tmp_path / "products" / "a"
    source.write_bytes(b"content" * 1000)
    opened, forgotten = [], []
    real_open, real_advice = os.open, os.posix_fadvise

    def watched(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT and not direct:
            raise OSError(errno.EINVAL, "this file system cannot")
        opened.append((str(path), bool(flags & os.O_DIRECT)))
        return real_open(path, flags, *rest)

    def advised(handle: int, *rest: int) -> None:
        forgotten.append((Path(f"/proc/self/fd/{handle}").readlink(), rest[-1]))
        real_advice(handle, *rest)

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(os, "posix_fadvise", advised)
    scratch = prepare(Transfer(source, target), move=False, attempt=1).origin
    assert ((str(scratch), True) in opened) == direct
    assert ((scratch, os.POSIX_FADV_DONTNEED) in forgotten) != direct


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP])
def test_a_move_where_nothing_can_be_linked_copies(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    source = registry_file.add()
    before = source.read_bytes()

    def refuse(*_: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    assert publish_data_instance(registry_file.conn, "m1", mode="move", roots=registry_file.roots)
    assert target_of(registry_file, source).read_bytes() == before
    assert not source.exists()


@BOTH_MODES
def test_nobody_elses_file_is_touched_when_names_collide(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Something appears under the final name between the check and the rename: it stays."""
    source = registry_file.add()
    target = target_of(registry_file, source)
    original = publications._note

    def late(claimed: Claim, prepared: list[publishing.Prepared]) -> None:
        target.write_bytes(b"somebody else's")
        original(claimed, prepared)

    monkeypatch.setattr(publications, "_note", late)
    with pytest.raises(PublishError, match="appeared meanwhile"):
        publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    assert target.read_bytes() == b"somebody else's"
    assert source.exists()
    assert get_data(registry_file.conn, "m1").status == "failed"
    assert not list(registry_file.root.rglob("*.partial"))


def test_an_empty_folder_under_the_name_is_not_replaced(registry_file: Registry) -> None:
    source = registry_file.add(folder=True)
    target = target_of(registry_file, source)
    target.mkdir(parents=True)
    with pytest.raises(PublishError, match="exists with another content"):
        publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)
    target.rmdir()
    prepared = prepare(Transfer(source, target), move=True, attempt=9)
    target.mkdir()
    with pytest.raises(TargetError, match="appeared meanwhile"):
        reveal(prepared)
    assert list(target.iterdir()) == []
    assert source.is_dir()


@FILE_AND_FOLDER
def test_what_stands_already_is_flushed_and_sealed_too(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    """An attempt that crashed may have given the name and not flushed it."""
    source = registry_file.add(folder=folder)
    target = target_of(registry_file, source)
    target.parent.mkdir(parents=True)
    shutil.copytree(source, target) if folder else shutil.copy(source, target)
    flushed = []
    original = publishing.sync_folder

    def watched(path: Path) -> None:
        flushed.append(path)
        original(path)

    monkeypatch.setattr(publishing, "sync_folder", watched)
    assert publish_data_instance(registry_file.conn, "m1", mode="copy", roots=registry_file.roots)
    assert target.parent in flushed
    assert modes(target) == {0o444}


def test_a_named_pipe_under_the_name_does_not_hang(registry_file: Registry) -> None:
    source = registry_file.add()
    target = target_of(registry_file, source)
    target.parent.mkdir(parents=True)
    os.mkfifo(target)
    with pytest.raises(PublishError, match="special file: remove it first"):
        publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)


# ------------------------------------------------------------------------------------------------ permissions


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Run a block without root's right to read and write all."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def registry_of_nobody(registry_file: Registry) -> Iterator[Registry]:
    """A registry whose areas belong to a user without rights."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="contimg-") as name:
        root = Path(name)
        roots = Roots(root / "stage", root / "products")
        (roots.stage / "mosaics").mkdir(parents=True)
        (roots.products / "mosaics").mkdir(parents=True)
        if os.geteuid() == 0:
            for path in [root, *root.rglob("*")]:
                os.chown(path, 65534, 65534)
        yield registry_file._replace(root=root, roots=roots)


@pytest.mark.parametrize("what", ["unreadable source", "read-only target folder"])
@BOTH_MODES
def test_what_may_not_be_read_or_written(registry_of_nobody: Registry, mode: str, what: str) -> None:
    registry = registry_of_nobody
    with as_nobody():
        source = registry.add()
        folder = registry.roots.products / "mosaics"
        closed = source if what == "unreadable source" else folder
        usual = closed.stat().st_mode
        closed.chmod(0 if closed is source else 0o555)
        with pytest.raises(PublishError, match=r"Permission denied.*give this user the permission, then retry"):
            publish_data_instance(registry.conn, "m1", mode=mode, roots=registry.roots)
        row = get_data(registry.conn, "m1")
        assert row.status == "failed"
        assert str(closed) in (row.publish_error or "")
        assert list(folder.iterdir()) == []
        closed.chmod(usual)
        assert publish_data_instance(registry.conn, "m1", mode=mode, roots=registry.roots), "a retry succeeds"
        assert target_of(registry, source).exists()


@FILE_AND_FOLDER
def test_what_belongs_to_another_user_is_copied(registry_of_nobody: Registry, folder: bool) -> None:
    """Who does not own a file can take nobody's write permission: the copy is ours."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    registry = registry_of_nobody
    source = registry.add(folder=folder)
    before = fingerprint(source)
    with as_nobody():
        assert publish_data_instance(registry.conn, "m1", mode="move", roots=registry.roots)
    target = target_of(registry, source)
    assert {file.stat().st_uid for file in contents.files_of(target)} == {65534}
    assert (fingerprint(target), modes(target)) == (before, {0o444})


# ------------------------------------------------------------------------------------------------ retries


def test_each_failure_waits_longer() -> None:
    waits = [retry_delay_s(failures) for failures in range(1, 9)]
    assert waits[:3] == [RETRY_BASE_S, 2 * RETRY_BASE_S, 4 * RETRY_BASE_S]
    assert waits[-1] == retry_delay_s(10**6) == RETRY_CAP_S
    assert waits == sorted(waits)


def test_a_failure_says_when_it_is_tried_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry.add()
    content = source.read_bytes()
    source.unlink()
    monkeypatch.setattr(time, "time", lambda: 1.7e9)
    for failures in (1, 2, 3):
        with pytest.raises(PublishError, match="does not exist"):
            publish_data_instance(registry.conn, "m1", roots=registry.roots)
        row = get_data(registry.conn, "m1")
        assert (row.status, row.publish_attempts) == ("failed", failures)
        assert row.retry_at == 1.7e9 + retry_delay_s(failures)
    source.write_bytes(content)
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots)
    row = get_data(registry.conn, "m1")
    assert (row.retry_at, row.publish_error) == (None, None)
