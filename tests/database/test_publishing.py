from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from dsa110_contimg.database import publications, publishing
from dsa110_contimg.database.claims import LEASE_S, Claim, Held, PublishRequest, claim
from dsa110_contimg.database.data_registry import (
    get_data,
    publish_data_instance,
    recover_publishing,
    register_data_instance,
)
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.product_paths import Roots, plan_transfers
from dsa110_contimg.database.publishing import Transfer
from dsa110_contimg.errors import FencedError, PublishError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

MEMORY = Path("/dev/shm")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("mode", ["move", "copy"])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_product_arrives_whole(registry_file: Registry, mode: str, folder: bool, second: bool) -> None:
    if second:
        products = MEMORY / f"contimg-{registry_file.root.name}-{os.getpid()}"
        if not MEMORY.is_dir():
            pytest.skip("there is no second file system here")
    else:
        products = registry_file.roots.products
    roots = registry_file.roots._replace(products=products.resolve())
    source = registry_file.add(folder=folder)
    before = everything(source) if folder else {"": source.read_bytes()}
    print_ = publishing.fingerprint(source)
    try:
        assert publish_data_instance(registry_file.conn, "m1", products / "mosaics", mode, roots=roots)
        row = get_data(registry_file.conn, "m1")
        target = products.resolve() / "mosaics" / source.name
        assert (row.status, row.published_path, row.publish_mode) == ("published", str(target), mode)
        assert (row.sha256, row.size_bytes) == print_
        assert row.published_at is not None
        assert (row.owner, row.lease_expires_at, row.publish_attempts) == (None, None, 0)
        assert (everything(target) if folder else {"": target.read_bytes()}) == before
        assert source.exists() == (mode == "copy")
        assert folder == (target / "empty").is_dir()
        assert not list(products.rglob("*.partial"))
        # Again: nothing changes.
        assert publish_data_instance(registry_file.conn, "m1", roots=roots)
        assert get_data(registry_file.conn, "m1") == row
    finally:
        if second:
            shutil.rmtree(products)


def test_a_published_copy_shares_nothing_with_its_source(registry_file: Registry) -> None:
    source = registry_file.add()
    publish_data_instance(registry_file.conn, "m1", mode="copy", roots=registry_file.roots)
    target = registry_file.roots.products / "mosaics" / source.name
    with source.open("ab") as stream:
        stream.write(b"more")
    assert publishing.fingerprint(target).sha256 == get_data(registry_file.conn, "m1").sha256


def test_companions_come_first_and_structure_is_kept(registry_file: Registry) -> None:
    folder = registry_file.roots.stage / "images" / "2025-01-15"
    folder.mkdir(parents=True)
    names = ["a.fits", "a-noise.fits", "a.png"]
    for name in names:
        (folder / name).write_bytes(name.encode())
    companions = [str(folder / name) for name in names[1:]]
    register_data_instance(registry_file.conn, "image", "a", folder / "a.fits", metadata={"companions": companions})
    assert publish_data_instance(registry_file.conn, "a", roots=registry_file.roots)
    target = registry_file.roots.products / "images" / "2025-01-15"
    assert everything(target) == {name: name.encode() for name in names}
    assert everything(folder) == {}
    noted = get_data(registry_file.conn, "a").details["publish"]
    assert isinstance(noted, dict)
    assert [Path(item["target"]).name for item in noted["items"]] == ["a-noise.fits", "a.png", "a.fits"]


def refused(registry: Registry, match: str, data_id: str = "m1", **how: object) -> None:
    before = everything(registry.root / "stage")
    with pytest.raises(PublishError, match=match):
        publish_data_instance(registry.conn, data_id, roots=registry.roots, **how)  # type: ignore[arg-type]
    row = get_data(registry.conn, data_id)
    assert row.status == "failed"
    assert row.publish_attempts == 1
    assert row.publish_error is not None
    assert row.owner is None
    assert everything(registry.root / "stage") == before
    assert not list(registry.root.rglob("*.partial"))


def test_bad_sources(registry_file: Registry) -> None:
    registry_file.add("gone").unlink()
    refused(registry_file, "gone.fits does not exist", "gone")
    registry_file.add("empty").write_bytes(b"")
    refused(registry_file, "empty or no regular file", "empty")
    hollow = registry_file.add("hollow", folder=True)
    shutil.rmtree(hollow)
    (hollow / "only" / "folders").mkdir(parents=True)
    refused(registry_file, "empty or no regular file", "hollow")
    linked = registry_file.add("linked", folder=True)
    (linked / "escape").symlink_to("/etc/passwd")
    refused(registry_file, "escape is a symbolic link", "linked")


def test_links_and_dots_lead_nowhere(registry_file: Registry, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.fits"
    outside.write_bytes(b"secret")
    swapped = registry_file.add("swapped")
    swapped.unlink()
    swapped.symlink_to(outside)
    refused(registry_file, "swapped.fits is a symbolic link", "swapped")
    register_data_instance(
        registry_file.conn, "mosaic", "dots", registry_file.roots.stage / "mosaics" / ".." / ".." / "dots.fits"
    )
    refused(registry_file, "is not inside", "dots")
    register_data_instance(registry_file.conn, "mosaic", "secret", outside)
    refused(registry_file, "is not inside", "secret")
    registry_file.add("target")
    refused(registry_file, "is not inside the products area", "target", published_dir=registry_file.root / "elsewhere")
    assert outside.read_bytes() == b"secret"


def test_products_that_are_a_link_to_staging(registry_file: Registry) -> None:
    registry_file.add()
    registry_file.roots.products.symlink_to(registry_file.roots.stage)
    resolved = registry_file.roots._replace(products=registry_file.roots.products.resolve())
    with pytest.raises(PublishError, match="lies inside staging"):
        publish_data_instance(registry_file.conn, "m1", roots=resolved)
    registry_file.roots.products.unlink()
    (registry_file.roots.products).mkdir()
    (registry_file.roots.products / "mosaics").symlink_to(registry_file.roots.stage / "mosaics")
    with pytest.raises(PublishError, match="is not inside the products area"):
        publish_data_instance(
            registry_file.conn, "m1", registry_file.roots.products / "mosaics", roots=registry_file.roots
        )
    with pytest.raises(PublishError, match="is not inside"):
        publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)
    assert (registry_file.roots.stage / "mosaics" / "m1.fits").exists()


def test_a_standing_target(registry_file: Registry) -> None:
    source = registry_file.add("same")
    target = registry_file.roots.products / "mosaics"
    target.mkdir(parents=True)
    (target / "same.fits").write_bytes(source.read_bytes())
    assert publish_data_instance(registry_file.conn, "same", roots=registry_file.roots)
    assert not source.exists()
    registry_file.add("other")
    (target / "other.fits").write_bytes(b"an older product")
    refused(registry_file, "other.fits exists with another content", "other")
    assert (target / "other.fits").read_bytes() == b"an older product"
    registry_file.add("dir", folder=True)
    (target / "dir.image").write_bytes(b"a file")
    refused(registry_file, "exists with another content", "dir")


def test_a_source_that_grows(registry_file: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry_file.add(size=20000)
    monkeypatch.setattr(publishing, "CHUNK_BYTES", 4096)

    limits = {"move": 20001, "copy": 20002}

    def grow(_claimed: Claim) -> None:
        if source.stat().st_size < limits[mode]:
            with source.open("ab") as stream:
                stream.write(b"x")

    monkeypatch.setattr(Claim, "beat", grow)
    for mode in limits:
        with pytest.raises(PublishError, match="still being written"):
            publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    assert not list(registry_file.roots.products.rglob("*.*"))
    monkeypatch.undo()
    assert publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)


def test_a_copy_that_reads_back_wrong(registry_file: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry_file.add()
    original = publishing._copy_file

    def bad_disk(source: Path, scratch: Path, beat: publishing.Beat) -> publishing.Fingerprint:
        copied = original(source, scratch, beat)
        with scratch.open("r+b") as stream:
            stream.seek(100)
            stream.write(b"\xff")
        return copied

    monkeypatch.setattr(publishing, "_copy_file", bad_disk)
    refused(registry_file, "does not read back as written", mode="copy")


LIMITED = """
import resource, signal, sys
from pathlib import Path
from dsa110_contimg.database.data_registry import ensure_data_registry_db, publish_data_instance
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.errors import PublishError
root = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
conn = ensure_data_registry_db(root / "state" / "data_registry.sqlite3")
try:
    publish_data_instance(conn, "m1", mode="copy", roots=Roots(root / "stage", root / "products"))
except PublishError as error:
    print(error)
"""


@pytest.mark.parametrize("folder", [True])
def test_a_disk_that_fills_up(registry_file: Registry, folder: bool) -> None:
    """The file-size limit stands for a full disk: the write fails in the middle."""
    source = registry_file.add(folder=folder, size=900_000)
    before = publishing.fingerprint(source)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(registry_file.root)], capture_output=True, text=True, check=False
    )
    assert "cannot be published" in done.stdout, done.stderr
    row = get_data(registry_file.conn, "m1")
    assert (row.status, row.publish_attempts) == ("failed", 1)
    assert "File too large" in (row.publish_error or "")
    assert publishing.fingerprint(source) == before
    assert everything(registry_file.roots.products) == {}
    assert publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots), (
        "a retry succeeds when there is room"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("mode", ["move", "copy"])
def test_a_row_that_cannot_be_updated_undoes_the_move(registry: Registry, mode: str, folder: bool) -> None:
    source = registry.add(folder=folder)
    before = publishing.fingerprint(source)
    registry.refuse("UPDATE", "no more room in the registry", "NEW.status = 'published'")
    refused(registry, "no more room in the registry", mode=mode)
    assert publishing.fingerprint(source) == before
    assert everything(registry.roots.products) == {}
    registry.mend()
    assert publish_data_instance(registry.conn, "m1", mode=mode, roots=registry.roots)


def test_only_the_newest_attempt_may_go_on(registry: Registry) -> None:
    source = registry.add()
    request = PublishRequest(mode="copy", roots=registry.roots)
    row = get_data(registry.conn, "m1")
    old = claim(registry.conn, row, request)
    assert old is not None
    assert claim(registry.conn, get_data(registry.conn, "m1"), request) is None
    assert not publish_data_instance(registry.conn, "m1", roots=registry.roots), "already claimed"
    registry.sql("UPDATE data_registry SET lease_expires_at = 1.0")
    assert publish_data_instance(registry.conn, "m1", mode="copy", roots=registry.roots)
    published = get_data(registry.conn, "m1")
    assert (published.attempt, published.publish_attempts) == (2, 1)
    with pytest.raises(FencedError, match="attempt 1 to publish m1 was overtaken"):
        publications.carry_out(old, row, request)
    assert get_data(registry.conn, "m1") == published
    assert source.exists()
    target = registry.roots.products / "mosaics" / "m1.fits"
    assert publishing.fingerprint(target).sha256 == published.sha256


def test_a_long_copy_extends_its_lease(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add()
    claimed = claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(roots=registry.roots))
    assert claimed is not None
    first = get_data(registry.conn, "m1").lease_expires_at
    claimed.beat()
    assert get_data(registry.conn, "m1").lease_expires_at == first
    monkeypatch.setattr(time, "time", lambda: claimed.extended_at + LEASE_S / 5)
    claimed.beat()
    assert (get_data(registry.conn, "m1").lease_expires_at or 0.0) > (first or 0.0) + 1.0


def interrupted(registry: Registry, stop: Callable[..., object], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Publish and stop dead at one function, as a killed process would; its owner is gone."""

    class Killed(BaseException):
        pass

    def die(*_args: object, **_kwargs: object) -> None:
        stop()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publications, name, die)
        with pytest.raises(Killed):
            publish_data_instance(registry.conn, "m1", registry.roots.products / "mosaics", roots=registry.roots)
    host, pid, _start = this_process().rsplit(":", 2)
    registry.sql("UPDATE data_registry SET owner = ?", f"{host}:{pid}:1")


def test_recovery_leaves_a_living_publication_alone(registry: Registry) -> None:
    registry.add()
    claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(roots=registry.roots))
    assert recover_publishing(registry.conn, roots=registry.roots) == []
    assert get_data(registry.conn, "m1").status == "publishing"


@pytest.mark.parametrize(("step", "action"), [("_note", "redo"), ("_commit", "finish"), ("remove_sources", "clean")])
@pytest.mark.parametrize("folder", [False, True])
def test_recovery_finishes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str, action: str, folder: bool
) -> None:
    source = registry.add(folder=folder)
    before = publishing.fingerprint(source)
    interrupted(registry, lambda: None, monkeypatch, step)
    (done,) = recover_publishing(registry.conn, roots=registry.roots)
    assert (done.action.value, done.status) == (action, "published")
    target = registry.roots.products / "mosaics" / source.name
    assert publishing.fingerprint(target) == before
    assert not source.exists()
    assert recover_publishing(registry.conn, roots=registry.roots) == []
    assert not list(registry.root.rglob("*.partial"))


def test_recovery_gives_up_rather_than_guess(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry.add()
    interrupted(registry, lambda: None, monkeypatch, "_note")
    source.unlink()
    (done,) = recover_publishing(registry.conn, roots=registry.roots)
    assert (done.action.value, done.status) == ("give up", "failed")
    assert "compare the files" in (get_data(registry.conn, "m1").publish_error or "")


def test_recovery_never_removes_the_last_copy(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = registry.add()
    before = source.read_bytes()
    target = registry.roots.products / "mosaics" / source.name
    interrupted(registry, lambda: None, monkeypatch, "remove_sources")
    target.unlink()
    target.write_bytes(b"somebody else's")
    with caplog.at_level(logging.ERROR):
        recover_publishing(registry.conn, roots=registry.roots)
    assert source.read_bytes() == before
    assert "staged copy is kept" in caplog.text
    target.unlink()
    recover_publishing(registry.conn, roots=registry.roots)
    left = [path.read_bytes() for path in (source, target) if path.exists()]
    assert before in left


def test_a_staged_file_that_was_remade_is_not_deleted(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry.add()
    original = publications._commit

    def remake(held: Held, product: publishing.Prepared, *, released: bool) -> None:
        original(held, product, released=released)
        source.unlink()
        source.write_bytes(b"a newer content under the same name")

    monkeypatch.setattr(publications, "_commit", remake)
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots)
    assert source.read_bytes() == b"a newer content under the same name"


@pytest.mark.parametrize("mode", ["move", "copy"])
@pytest.mark.parametrize("folder", [False, True])
def test_order_of_what_becomes_durable(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch, mode: str, folder: bool
) -> None:
    """Flush the content, then name it, flush the folder, commit, and only then remove the source."""
    source = registry_file.add(folder=folder)
    target = registry_file.roots.products / "mosaics" / source.name
    events: list[str] = []

    def spy(module: ModuleType, name: str, label: Callable[..., str]) -> None:
        original = getattr(module, name)

        def call(*args: object, **kwargs: object) -> object:
            events.append(label(*args))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    def tell(sql: str) -> None:
        events.append("published" if "published_path=" in sql else sql)

    spy(os, "fsync", lambda handle: f"fsync {Path(f'/proc/self/fd/{handle}').readlink()}")
    spy(publishing, "rename_new", lambda old, new: f"name {new}" if new == target else f"remove {old}")
    spy(os, "unlink", lambda path, *_: f"remove {path}")
    registry_file.file.set_trace_callback(tell)
    publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    named, committed = events.index(f"name {target}"), events.index("COMMIT", events.index("published"))
    content = publishing.scratch_path(target, 1) if mode == "copy" else source
    flushed = [content, content / "table", content / "table" / "data.f0", content / "empty"] if folder else [content]
    assert {f"fsync {path}" for path in flushed} <= set(events[:named])
    assert f"fsync {target.parent}" in events[named : events.index("published")]
    removals = [i for i, event in enumerate(events) if event == f"remove {source}"]
    assert all(i > committed for i in removals)
    assert bool(removals) == (mode == "move" and not folder)


def test_plans() -> None:
    roots = Roots(Path("/s"), Path("/p"))
    assert plan_transfers("ms", "g", "/s/ms/science/2025-01-15/g.ms", [], None, roots) == [
        Transfer(Path("/s/ms/science/2025-01-15/g.ms"), Path("/p/ms/science/2025-01-15/g.ms"))
    ]
    assert plan_transfers("mosaic", "m", "/s/odd/m.fits", [], "/p/mosaics", roots)[0].target == Path(
        "/p/mosaics/m.fits"
    )
    with pytest.raises(PublishError, match="'movie' is no data type"):
        plan_transfers("movie", "m", "/s/m", [], None, roots)


def test_who_published_and_why_is_kept(registry: Registry) -> None:
    registry.add()
    registry.sql("UPDATE data_registry SET qa_status = 'failed'")
    with pytest.raises(PublishError, match="its QA is 'failed': say who wants it and why"):
        publish_data_instance(registry.conn, "m1", roots=registry.roots)
    assert publish_data_instance(registry.conn, "m1", roots=registry.roots, by="ana", reason="calibrator field")
    text = registry.sql("SELECT metadata_json FROM data_registry")[0][0]
    noted = json.loads(text)["publish"]
    assert (noted["by"], noted["reason"], noted["automatic"]) == ("ana", "calibrator field", False)


def test_a_plain_connection_with_an_open_transaction_is_served(registry_file: Registry) -> None:
    registry_file.add()
    plain = sqlite3.connect(registry_file.root / "state" / "data_registry.sqlite3")
    plain.row_factory = sqlite3.Row
    plain.execute("UPDATE data_registry SET photometry_status = 'completed'")
    assert publish_data_instance(plain, "m1", roots=registry_file.roots)
    plain.close()
    assert get_data(registry_file.conn, "m1").photometry_status == "completed"
