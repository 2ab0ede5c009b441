"""A publication whose file calls fail says so in its row, changes nothing, and succeeds when the fault is gone.

And the order of its system calls: what the next step relies on is on the disk before it.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.database.crash_house import content, tree
from tests.database.crash_runs import KINDS, MODES, Case, needs_tracing, run_tasks

from dsa110_contimg.database.data_registry import get_data, publish_data_instance
from dsa110_contimg.errors import PublishError

if TYPE_CHECKING:
    from tests.database.conftest import Registry

traced = needs_tracing()
EVERYWHERE = list(itertools.product((False, True), MODES, KINDS))


@traced
def test_refused_at_some_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[Case] = [
        {"name": "refuse lasting" if number % 2 else "refuse", "second": second, "mode": mode, "kind": kind}
        | {"companion": number % 2 == 0, "chunks": 1 + number % 3, "stride": 47, "offset": 7 * number}
        for number, (second, mode, kind) in enumerate(EVERYWHERE[number] for number in (0, 3, 5, 6))
    ]
    report(capsys, "a sample", run_tasks(tmp_path, *cases))


@traced
@pytest.mark.slow
@pytest.mark.parametrize(("second", "mode", "kind"), EVERYWHERE)
def test_every_call_is_refused_with_every_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: bool, mode: str, kind: str
) -> None:
    case = {"name": "refuse", "second": second, "mode": mode, "kind": kind}
    (found,) = run_tasks(tmp_path, case)
    report(capsys, f"{mode} {kind}{' to memory' if second else ''}: every call, ENOSPC EIO EACCES EXDEV", [found])
    assert found["outcomes"]["failed"] >= 50


@traced
@pytest.mark.slow
@pytest.mark.parametrize(("second", "mode", "kind"), EVERYWHERE)
def test_a_disk_that_breaks_for_good_at_every_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: bool, mode: str, kind: str
) -> None:
    case = {"name": "refuse lasting", "second": second, "mode": mode, "kind": kind, "companion": True}
    report(capsys, f"{mode} {kind}: broken from every call on", run_tasks(tmp_path, case))


def report(capsys: pytest.CaptureFixture[str], what: str, found: list[dict[str, dict[str, int]]]) -> None:
    """Print the figure: the harness ends at the first promise that is broken."""
    outcomes = [f"{count} {status}" for one in found for status, count in one["outcomes"].items()]
    assert all(one["outcomes"] for one in found)
    with capsys.disabled():
        print(f"\n{what}: each retry published; {', '.join(outcomes)}")


@traced
def test_what_the_next_step_relies_on_is_on_the_disk(tmp_path: Path) -> None:
    cases = [
        {"name": "order", "second": second, "mode": mode, "kind": kind, "chunks": 2}
        for second, mode, kind in EVERYWHERE
    ]
    for case, found in zip(cases, run_tasks(tmp_path, *cases), strict=True):
        judge_order(found["calls"], move=case["mode"] == "move", folder=case["kind"] == "folder")


def judge_order(calls: list[list[str]], *, move: bool, folder: bool) -> None:
    """fsync of the content, its name, fsync of its folder, the commit, and only then the source goes."""
    name = "m1.image" if folder else "m1.fits"
    (named,) = [i for i, call in enumerate(calls) if call[0].startswith(("rename", "link")) and called(call[-1], name)]
    origin = calls[named][1]
    flushed = {call[1] for call in calls[:named] if call[0] in {"fsync", "fdatasync"}}
    inner = ["", "/table", "/table/data.f0", "/table.lock", "/empty"] if folder else [""]
    links = {call[2]: call[1] for call in calls[:named] if call[0].startswith("link")}
    whole = [origin + part for part in inner]
    assert all(path in flushed or links.get(path) in flushed for path in whole), (whole, flushed)
    target_folder = str(Path(calls[named][-1]).parent)
    folder_flushed = first(calls, named, "fsync", target_folder)
    committed = first(calls, folder_flushed, "f", "-wal")
    written = first(calls, named, "pwrite64", "-wal")
    assert folder_flushed < written < committed, "the row is written when the name is on the disk"
    in_place = origin.endswith(f"/stage/mosaics/{name}")
    removals = [
        i
        for i, call in enumerate(calls)
        if call[0].startswith(("unlink", "rename")) and "/stage/" in call[1] and i != named
    ]
    assert bool(removals) == (move and not in_place), removals
    assert all(i > committed for i in removals), "the source goes when the commit is on the disk"


def called(path: str, name: str) -> bool:
    return path.endswith(f"/products/mosaics/{name}")


def first(calls: list[list[str]], after: int, kind: str, ending: str) -> int:
    """Return the first call of a kind on a path, after another."""
    return next(
        i for i, call in enumerate(calls) if i > after and call[0].startswith(kind) and call[1].endswith(ending)
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_that_cannot_be_listed_is_not_published_without_it(
    registry_file: Registry, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    source = registry_file.add(folder=True)
    before = tree(registry_file.roots.stage)

    def refusing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".") -> Any:
            if str(path) == str(source / "table"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path)

        return call

    with monkeypatch.context() as patch:
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, refusing(getattr(os, name)))
        with pytest.raises(PublishError, match="Permission denied"):
            publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
    assert get_data(registry_file.conn, "m1").status == "failed"
    assert tree(registry_file.roots.stage) == before
    assert publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A products area with room for 256 kB."""
    products = tmp_path / "products"
    products.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(products)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    return products


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_is_really_full(small_disk: Path, registry_file: Registry, mode: str, folder: bool) -> None:
    try:
        source = registry_file.add(folder=folder, size=300_000)
        before = content(source), tree(registry_file.roots.stage)
        with pytest.raises(PublishError, match="No space left on device"):
            publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
        row = get_data(registry_file.conn, "m1")
        assert (row.status, row.publish_attempts, row.owner) == ("failed", 1, None)
        assert "No space left on device" in (row.publish_error or "")
        assert (content(source), tree(registry_file.roots.stage)) == before
        assert not [path for path in small_disk.rglob("*") if path.is_file()]
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        assert publish_data_instance(registry_file.conn, "m1", mode=mode, roots=registry_file.roots)
        assert content(small_disk / "mosaics" / source.name) == before[0]
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)
