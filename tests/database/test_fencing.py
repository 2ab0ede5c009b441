"""An attempt that was overtaken can do nothing, wherever it is; clocks may jump."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from dsa110_contimg.database import contents, publications, publishing
from dsa110_contimg.database.claims import CLOCKS_APART_S, LEASE_S, Claim, PublishRequest, claim, is_late
from dsa110_contimg.database.data_registry import get_data, publish_data_instance, recover_publishing
from dsa110_contimg.database.publications import carry_out
from dsa110_contimg.database.registry_rows import STORAGE_ERRORS, open_registry
from dsa110_contimg.errors import ConfigurationError, FencedError, PublishError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.database.conftest import Registry


@pytest.fixture
def rival(registry: Registry) -> Iterator[Registry]:
    """Another process: a connection of its own, which does not wait long for a lock."""
    with open_registry() as conn:
        other = registry._replace(conn=conn)
        other.sql("PRAGMA busy_timeout = 50" if isinstance(conn, sqlite3.Connection) else "SET lock_timeout = '50ms'")
        yield other


def overtake(rival: Registry, mode: str = "copy", *, mend: bool = False) -> bool:
    """Take over as if the lease had run out, and publish; return whether that was possible now."""
    try:
        if mend:
            rival.mend()
        rival.sql("UPDATE data_registry SET lease_expires_at = 1.0 WHERE status = 'publishing'")
        return publish_data_instance(rival.conn, "m1", mode=mode, roots=rival.roots)
    except (ConfigurationError, *STORAGE_ERRORS) as error:
        assert "lock" in str(error)
    if not isinstance(rival.conn, sqlite3.Connection):
        rival.conn.rollback()
    return False


def check_whole(registry: Registry, before: publishing.Fingerprint, source: Path) -> str:
    """Either published and whole, or still whole in staging; return which."""
    row = get_data(registry.conn, "m1")
    target = registry.roots.products / "mosaics" / source.name
    if row.status == "published":
        assert publishing.fingerprint(target) == before
        assert row.sha256 == before.sha256
    else:
        assert publishing.fingerprint(source) == before
        assert not target.exists()
    assert not list(registry.root.rglob("*.partial"))
    return row.status


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("mode", ["move", "copy"])
@pytest.mark.parametrize("moment", ["reveal", "conceal"])
def test_nobody_takes_over_while_names_change(
    registry: Registry, rival: Registry, monkeypatch: pytest.MonkeyPatch, moment: str, mode: str, folder: bool
) -> None:
    """At the moment in which an attempt changes what has a final name, the others wait."""
    source = registry.add(folder=folder)
    before = publishing.fingerprint(source)
    original = getattr(publishing, moment)
    took_over = []

    def meanwhile(*args: object) -> object:
        monkeypatch.setattr(publishing, moment, original)
        took_over.append(overtake(rival, mode, mend=moment == "conceal"))
        return original(*args)

    monkeypatch.setattr(publishing, moment, meanwhile)
    if moment == "conceal":
        registry.refuse("UPDATE", "no more room in the registry", "NEW.status = 'published'")
    with contextlib.suppress(PublishError, FencedError):
        publish_data_instance(registry.conn, "m1", mode=mode, roots=registry.roots)
    done = check_whole(registry, before, source)
    assert took_over == [False]
    assert done == ("failed" if moment == "conceal" else "published")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("mode", ["move", "copy"])
@pytest.mark.parametrize("step", ["_prepare", "_note"])
def test_an_attempt_that_was_overtaken_says_so(
    registry: Registry, rival: Registry, monkeypatch: pytest.MonkeyPatch, step: str, mode: str, folder: bool
) -> None:
    source = registry.add(folder=folder)
    before = publishing.fingerprint(source)
    original: Callable[..., object] = getattr(publications, step)
    published: list[object] = []

    def late(*args: object) -> None:
        monkeypatch.setattr(publications, step, original)
        original(*args)
        published.extend([overtake(rival, mode), get_data(rival.conn, "m1")])

    monkeypatch.setattr(publications, step, late)
    with pytest.raises(FencedError, match="attempt 1 to publish m1 was overtaken"):
        publish_data_instance(registry.conn, "m1", mode=mode, roots=registry.roots)
    assert published == [True, get_data(registry.conn, "m1")]
    assert check_whole(registry, before, source) == "published"
    target = registry.roots.products / "mosaics" / source.name
    files = contents.files_of(target)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o444}, "not even the permissions were touched"


def test_a_source_of_another_is_not_removed(
    registry: Registry, rival: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A recovery has cleaned up; what has the staged name now is somebody else's."""
    source = registry.add()
    content, times = source.read_bytes(), source.stat()
    original = publications.remove_sources

    def late(claimed: Claim, sources: list[tuple[Path, publishing.Signature]]) -> None:
        recovery = Claim(rival.conn, "m1", claimed.attempt, claimed.extended_at)
        original(recovery, sources)
        assert not source.exists()
        source.write_bytes(content)
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        original(claimed, sources)

    monkeypatch.setattr(publications, "remove_sources", late)
    with caplog.at_level(logging.WARNING):
        assert publish_data_instance(registry.conn, "m1", roots=registry.roots)
    assert "was overtaken" in caplog.text
    assert source.read_bytes() == content


# ------------------------------------------------------------------------------------------------ clocks


def test_a_lease_is_late_when_it_ran_out_or_cannot_be_that_long() -> None:
    now = 1.7e9
    assert is_late(None, now)
    assert is_late(now - 0.001, now)
    assert not is_late(now, now)
    assert not is_late(now + LEASE_S + CLOCKS_APART_S, now)
    assert is_late(now + LEASE_S + CLOCKS_APART_S + 0.001, now)


@pytest.mark.parametrize("jump_s", [3 * LEASE_S, -3 * LEASE_S])
def test_a_clock_that_jumps_under_a_living_attempt(
    registry: Registry, rival: Registry, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """It looks late to another machine, whose attempt publishes; the older one finds out and changes nothing."""
    source = registry.add()
    before = publishing.fingerprint(source)
    request = PublishRequest(mode="copy", roots=registry.roots)
    row = get_data(registry.conn, "m1")
    old = claim(registry.conn, row, request)
    assert old is not None
    registry.sql("UPDATE data_registry SET owner = 'elsewhere:1:1'")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert publish_data_instance(rival.conn, "m1", mode="copy", roots=rival.roots)
    published = get_data(rival.conn, "m1")
    with pytest.raises(FencedError, match="attempt 1 to publish m1 was overtaken"):
        old.beat()
    with pytest.raises(FencedError, match="attempt 1 to publish m1 was overtaken"):
        carry_out(old, row, request)
    assert get_data(registry.conn, "m1") == published
    assert check_whole(registry, before, source) == "published"


def test_a_clock_that_was_set_back_keeps_nobody_alive(registry: Registry) -> None:
    """The machine that claimed it is gone, and its lease ends tomorrow."""
    source = registry.add()
    before = publishing.fingerprint(source)
    claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(mode="copy", roots=registry.roots))
    registry.sql("UPDATE data_registry SET owner = 'elsewhere:1:1', lease_expires_at = ?", time.time() + LEASE_S / 2)
    assert recover_publishing(registry.conn, roots=registry.roots) == [], "this one may still be at work"
    registry.sql("UPDATE data_registry SET lease_expires_at = ?", time.time() + 86400.0)
    (done,) = recover_publishing(registry.conn, roots=registry.roots)
    assert done.status == "published"
    assert check_whole(registry, before, source) == "published"


@pytest.mark.parametrize("jump_s", [LEASE_S / 5, -LEASE_S / 5])
def test_a_lease_is_extended_by_the_clock_as_it_is_now(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    registry.add()
    claimed = claim(registry.conn, get_data(registry.conn, "m1"), PublishRequest(roots=registry.roots))
    assert claimed is not None
    now = claimed.extended_at + jump_s
    monkeypatch.setattr(time, "time", lambda: now)
    claimed.beat()
    assert get_data(registry.conn, "m1").lease_expires_at == pytest.approx(now + LEASE_S, abs=1.0)
