"""Every state that an interrupted publication or retraction can be found in, decided and then done."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.database.crash_house import Tree, content, tree

from dsa110_contimg.database import publishing, recovery
from dsa110_contimg.database.claims import Claim
from dsa110_contimg.database.data_registry import get_data, publish_data_instance, recover_publishing
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.database.publishing import fingerprint, scratch_path
from dsa110_contimg.database.recovery import PathState, RecoveryAction, gravest, recovery_action
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection, find_rows, open_registry
from dsa110_contimg.database.retraction import retract
from dsa110_contimg.errors import PublishError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

GONE = f"{socket.gethostname()}:{os.getpid()}:1"
STATES = list(itertools.product(PathState, repeat=3))
GIVE_UP, SALVAGE, REDO, FINISH, CLEAN, SETTLE, NOTHING = RecoveryAction
ABSENT, INTACT, OTHER, UNKNOWN = PathState


def row(status: str, owner: str | None) -> ProductRow:
    blank = dict.fromkeys(field.name for field in dataclasses.fields(ProductRow))
    told = {"data_type": "mosaic", "data_id": "m1", "status": status, "owner": owner, "attempt": 1}
    return ProductRow(**blank | told)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["staging", "validated", "failed", "retracted", "published"])
def test_a_row_at_rest_needs_nothing(status: str) -> None:
    assert {recovery_action(row(status, None), *states) for states in STATES} == {NOTHING}


def test_every_combination_of_a_publication() -> None:
    table = {states: recovery_action(row("publishing", owner), *states) for states in STATES for owner in (GONE, None)}
    assert len(table) == 64
    for (source, scratch, target), action in table.items():
        where = f"{source} {scratch} {target} {action}"
        if action is FINISH:
            assert target is INTACT, f"only the noted content may be called published: {where}"
            assert source is not OTHER, f"a newer staged content is never given up for an older one: {where}"
        elif action is REDO:
            assert source is not ABSENT, where
            assert target in {ABSENT, UNKNOWN}, f"nothing is published over another content: {where}"
        elif action is SALVAGE:
            assert (source, scratch, target) == (ABSENT, INTACT, ABSENT), where
        else:
            assert action is GIVE_UP, where
            lost = source is ABSENT and target is not INTACT
            assert lost or target is OTHER or (source, target) == (OTHER, INTACT), where


def test_every_combination_after_the_commit() -> None:
    for source, scratch, target in STATES:
        action = recovery_action(row("published", GONE), source, scratch, target)
        assert (action is CLEAN) == (target is INTACT), "never remove the last copy"
        assert (action is REDO) == ((source, target) == (INTACT, ABSENT)), "never publish over anything"
        assert action in {CLEAN, REDO, GIVE_UP}
        assert recovery_action(row("retracted", GONE), source, scratch, target) is SETTLE


def test_a_product_needs_the_gravest_of_what_its_files_need() -> None:
    assert gravest([FINISH, REDO, FINISH]) is REDO
    assert gravest([CLEAN, GIVE_UP, REDO]) is GIVE_UP
    assert gravest([]) is NOTHING


class Found:
    """A product whose row and files are put into a state by hand, as an interrupted attempt would leave them."""

    def __init__(self, registry: Registry, folder: bool) -> None:
        self.registry = registry
        self.source = registry.add("m1", folder=folder)
        self.truth = content(self.source)
        self.target = registry.roots.products / "mosaics" / self.source.name
        self.scratch = scratch_path(self.target, 1)
        self.target.parent.mkdir(parents=True)
        self.noted = fingerprint(self.source)
        self.kept = registry.root / "kept"
        self.source.rename(self.kept)

    def put(self, path: Path, state: PathState) -> None:
        """Make one path be in a state."""
        publishing.remove(path)
        if state is OTHER:
            path.write_bytes(b"something else")
        elif state is not ABSENT:
            self._copy(self.kept, path)

    def _copy(self, source: Path, target: Path) -> None:
        if not source.is_dir():
            target.write_bytes(source.read_bytes())
            return
        target.mkdir()
        for entry in source.iterdir():
            self._copy(entry, target / entry.name)

    def set_row(self, status: str, owner: str | None, *, noted: bool, mode: str = "move", late: bool = False) -> None:
        """Write what the attempt had written."""
        item = {"source": str(self.source), "target": str(self.target)} | self.noted._asdict()
        details = {"publish": {"items": [item] if noted else []}}
        self.registry.sql(
            "UPDATE data_registry SET status = ?, owner = ?, attempt = 1, publish_attempts = 0, publish_mode = ?,"
            " publish_error = NULL, metadata_json = ?, lease_expires_at = ?, published_path = ?",
            status,
            owner,
            mode,
            json.dumps(details),
            1.0 if late else time.time() + 300.0,
            str(self.target) if status == "published" else None,
        )

    @property
    def all(self) -> tuple[Tree, Tree]:
        """Both areas."""
        return tree(self.registry.roots.stage), tree(self.registry.roots.products)

    def copies(self) -> list[Path]:
        """The sound copies that there are."""
        return [path for path in (self.source, self.scratch, self.target) if content(path) == self.truth]

    def recover(self) -> list[RecoveryAction]:
        """Recover, and once more, which must find nothing to do."""
        done = recover_publishing(self.registry.conn, roots=self.registry.roots)
        after = get_data(self.registry.conn, "m1"), self.all
        again = recover_publishing(self.registry.conn, roots=self.registry.roots)
        assert {one.action for one in again} <= {GIVE_UP}, "a second recovery finds a row at rest"
        assert (get_data(self.registry.conn, "m1"), self.all) == after, "a second recovery changes nothing"
        return [one.action for one in done]


def judge(found: Found, status: str, mode: str, before: list[Path], action: RecoveryAction) -> None:
    """Nothing that was sound is gone for good, and only what is whole is called published."""
    product = get_data(found.registry.conn, "m1")
    assert bool(found.copies()) == bool(before), "the last sound copy is gone"
    if product.status == "published" and action is not GIVE_UP:
        assert content(found.target) == found.truth
        assert product.owner is None
        assert (product.sha256 or found.noted.sha256) == found.noted.sha256
        assert not list(found.registry.root.rglob("*.partial"))
        assert mode == "copy" or content(found.source) != found.truth, "doubled"
    elif status == "publishing":
        assert product.status == "failed"
        assert product.publish_error
        assert (product.owner, product.publish_attempts) == (None, 1)
    else:
        assert (product.status, action) == ("published", GIVE_UP)
        assert "its staged copy is kept" in (product.publish_error or "")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("status", ["publishing", "published"])
def test_every_state_that_can_be_found(registry_file: Registry, status: str, folder: bool) -> None:
    found, tried = Found(registry_file, folder), 0
    states = (ABSENT, INTACT, OTHER)
    for mode, noted, *three in itertools.product(("move", "copy"), (True, False), states, states, states):
        if (status == "published" and not noted) or (folder and mode == "copy"):
            continue
        found.set_row(status, GONE, noted=noted, mode=mode)
        for path, state in zip((found.source, found.scratch, found.target), three, strict=True):
            found.put(path, state)
        before, files = found.copies(), found.all
        source, scratch, target = three if noted else [ABSENT if s is ABSENT else UNKNOWN for s in three]
        expected = recovery_action(row(status, GONE), source, scratch if noted else ABSENT, target if noted else ABSENT)
        (action,) = found.recover()
        assert action is expected, f"{mode} {noted} {three}"
        if action is GIVE_UP:
            assert found.all == files, "giving up changes no file"
        elif not noted:
            # What is published is what the source holds now; another target is refused.
            assert get_data(registry_file.conn, "m1").status in {"published", "failed"}
            continue
        elif source is OTHER and action is REDO:
            assert content(found.target) == b"something else"
            continue
        judge(found, status, mode, before, action)
        assert source is not OTHER or content(found.source) == b"something else", "a newer staged content is gone"
        tried += 1
    assert tried >= 25


@pytest.mark.parametrize("status", ["staging", "validated", "failed", "published", "retracted"])
def test_rows_at_rest_are_left_alone(registry_file: Registry, status: str) -> None:
    found = Found(registry_file, folder=False)
    for three in itertools.product((ABSENT, INTACT, OTHER), repeat=3):
        found.set_row(status, None, noted=True)
        for path, state in zip((found.source, found.scratch, found.target), three, strict=True):
            found.put(path, state)
        before = get_data(registry_file.conn, "m1"), found.all
        assert found.recover() == []
        assert (get_data(registry_file.conn, "m1"), found.all) == before


@pytest.mark.parametrize("status", ["publishing", "published", "retracted"])
@pytest.mark.parametrize("owner", [this_process(), "elsewhere.example:7:12345"], ids=["here", "elsewhere"])
def test_a_living_attempt_is_left_alone(registry_file: Registry, status: str, owner: str) -> None:
    found = Found(registry_file, folder=False)
    found.set_row(status, owner, noted=True)
    for path in (found.source, found.scratch):
        found.put(path, INTACT)
    before = get_data(registry_file.conn, "m1"), found.all
    assert found.recover() == []
    assert (get_data(registry_file.conn, "m1"), found.all) == before


def test_an_attempt_elsewhere_whose_lease_ran_out_is_taken_over(registry: Registry) -> None:
    found = Found(registry, folder=False)
    found.set_row("publishing", "elsewhere.example:7:12345", noted=True, late=True)
    found.put(found.source, INTACT)
    assert found.recover() == [REDO]
    product = get_data(registry.conn, "m1")
    assert (product.status, product.attempt, product.publish_attempts) == ("published", 2, 1)


@pytest.mark.parametrize(("died", "actions", "status"), [(1, [REDO], "published"), (2, [GIVE_UP], "failed")])
def test_a_product_that_kills_its_process_is_not_tried_for_ever(
    registry: Registry, died: int, actions: list[RecoveryAction], status: str
) -> None:
    found = Found(registry, folder=False)
    found.set_row("publishing", GONE, noted=True)
    registry.sql(f"UPDATE data_registry SET publish_attempts = {died}")
    found.put(found.source, INTACT)
    assert found.recover() == actions
    product = get_data(registry.conn, "m1")
    assert (product.status, product.publish_attempts) == (status, died + 1)
    assert ("died in each of 3 attempts" in (product.publish_error or "")) == (status == "failed")
    assert found.recover() == []


def test_a_product_whose_row_lost_its_lease_is_taken_over(registry: Registry) -> None:
    found = Found(registry, folder=True)
    found.set_row("publishing", this_process(), noted=True)
    registry.sql("UPDATE data_registry SET lease_expires_at = NULL")
    found.put(found.target, INTACT)
    assert found.recover() == [FINISH]


def test_a_products_area_that_is_not_mounted_changes_nothing(
    registry_file: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    found = Found(registry_file, folder=False)
    found.set_row("published", GONE, noted=True)
    found.put(found.source, INTACT)
    found.target.parent.rmdir()
    before = get_data(registry_file.conn, "m1"), found.all
    with caplog.at_level(logging.WARNING):
        assert found.recover() == []
    assert (get_data(registry_file.conn, "m1"), found.all) == before
    assert "see whether the products area is mounted" in caplog.text


def test_one_product_that_cannot_be_read_does_not_keep_another_from_recovery(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Found(registry_file, folder=False)
    bad.put(bad.source, INTACT)
    good = registry_file.add("m2")
    bad.set_row("publishing", GONE, noted=True)
    registry_file.sql("UPDATE data_registry SET metadata_json = NULL WHERE data_id = 'm2'")
    original = publishing.fingerprint

    def broken_disk(path: Path, *args: Any, **kwargs: Any) -> publishing.Fingerprint:
        if path == bad.source:
            raise OSError(5, "Input/output error", str(path))
        return original(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "fingerprint", broken_disk)
        done = recover_publishing(registry_file.conn, roots=registry_file.roots)
    assert [(one.data_id, one.status) for one in done] == [("m2", "published")]
    assert not good.exists()
    assert get_data(registry_file.conn, "m1").status == "publishing"
    (done_later,) = recover_publishing(registry_file.conn, roots=registry_file.roots)
    assert (done_later.data_id, done_later.status) == ("m1", "published")


def test_the_last_copy_survives_an_attempt_without_source(registry_file: Registry) -> None:
    found = Found(registry_file, folder=False)
    found.set_row("failed", None, noted=True)
    found.put(found.scratch, INTACT)
    with pytest.raises(PublishError, match="does not exist"):
        publish_data_instance(registry_file.conn, "m1", roots=registry_file.roots)
    assert content(found.scratch) == found.truth


@pytest.mark.parametrize("status", ["publishing", "published", "retracted"])
def test_two_recoveries_at_once_are_harmless(registry: Registry, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Both have read the same rows before either acts: one does it, the other finds it done."""
    names = [f"m{number}" for number in range(4)]
    paths = [registry.add(name, folder=name in {"m1", "m3"}) for name in names]
    truths = {path.name: content(path) for path in paths}
    for name, path in zip(names, paths, strict=True):
        publish_data_instance(registry.conn, name, mode="copy", roots=registry.roots)
        if status == "retracted":
            tombstone = retract(registry.conn, name, reason="a test", by="me", roots=registry.roots)
            tombstone.rename(registry.roots.products / "mosaics" / path.name)
    registry.sql("UPDATE data_registry SET status = ?, owner = ?, publish_mode = 'move'", status, GONE)
    together = threading.Barrier(2)

    def read_together(*args: object, **kwargs: object) -> list[ProductRow]:
        rows = find_rows(*args, **kwargs)  # type: ignore[arg-type]
        together.wait(30)
        return rows

    def recover() -> None:
        with open_registry() as conn:
            recover_publishing(conn, roots=registry.roots)

    def note_winner(conn: RegistryConnection, read: ProductRow, action: RecoveryAction) -> Claim | None:
        claimed = take_over(conn, read, action)
        won.extend([read.data_id] if claimed is not None else [])
        return claimed

    take_over, won = recovery._take_over, list[str]()
    monkeypatch.setattr(recovery, "_take_over", note_winner)
    monkeypatch.setattr(recovery, "find_rows", read_together)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(recover), pool.submit(recover)]:
            done.result()
    assert sorted(won) == ([] if status == "retracted" else names), "each is taken over once"
    assert {name: content(next(registry.roots.products.rglob(name))) for name in truths} == truths
    for name in names:
        product = get_data(registry.conn, name)
        assert (product.status, product.owner) == ("retracted" if status == "retracted" else "published", None)
        assert product.publish_error is None
        assert name in Path(product.published_path or "").name
        assert Path(product.published_path or "").exists()
    assert not list(registry.root.rglob("*.partial"))
    assert [path.exists() for path in paths] == [status == "retracted"] * 4
