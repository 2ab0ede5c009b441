"""Kill a publication at every system-level call, recover, and check that nothing is lost, doubled or half-visible.

Run as a script: `crash_harness.py ROOT PRODUCTS MODE KIND STRIDE`. Each trial forks a child that publishes one
fresh product and sends itself SIGKILL immediately before its n-th call of `os`, file writing or SQL; n grows by
STRIDE until a child survives. Another child recovers. Prints the number of points tried, and of those at which the
product had its final name already.
"""

import hashlib
import io
import os
import pathlib
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dsa110_contimg.database.data_registration as registration
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.product_paths import Roots

WATCHED = ("open", "fsync", "link", "rename", "unlink", "mkdir", "rmdir", "utime", "chmod", "close", "posix_fadvise")
KILLED = -signal.SIGKILL


class Countdown:
    """Dies at the n-th watched call."""

    def __init__(self, point: int) -> None:
        self.left = point

    def tick(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(countdown: Countdown) -> None:
    """Let the countdown see every call that can change a disk."""

    def wrapped(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            countdown.tick()
            return original(*args, **kwargs)

        return call

    for name in WATCHED:
        setattr(os, name, wrapped(getattr(os, name)))
    original_open = io.open

    class Watched(io.FileIO):
        def write(self, data: object) -> int:
            countdown.tick()
            return super().write(data)  # type: ignore[arg-type]

    def open_watched(file: str, mode: str = "r", *args: object, **kwargs: object) -> object:
        countdown.tick()
        if "b" in mode and ("x" in mode or "w" in mode):
            return io.BufferedWriter(Watched(file, mode.replace("b", "")), buffer_size=2048)
        return original_open(file, mode, *args, **kwargs)  # type: ignore[call-overload]

    pathlib.io.open = open_watched  # type: ignore[attr-defined]


def content(path: Path) -> str | None:
    """Return a digest of a file or folder, or None if it is absent: written apart from the code under test."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for entry in sorted([path, *path.rglob("*")]):
        digest.update(str(entry.relative_to(path)).encode())
        digest.update(entry.read_bytes() if entry.is_file() else b"folder")
    return digest.hexdigest()


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked process and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Trial:
    """One product, killed at one point."""

    database: Path
    roots: Roots
    mode: str
    kind: str
    point: int

    def __post_init__(self) -> None:
        self.name = f"p{self.point}"
        folder = self.roots.stage / "mosaics"
        self.product = folder / f"{self.name}{'.image' if self.kind == 'folder' else '.fits'}"
        self.preview = folder / f"{self.name}.png"
        folder.mkdir(parents=True, exist_ok=True)
        if self.kind == "folder":
            (self.product / "table").mkdir(parents=True)
            (self.product / "table" / "data.f0").write_bytes(os.urandom(5000))
            (self.product / "table.lock").write_bytes(b"")
        else:
            self.product.write_bytes(os.urandom(5000))
        self.preview.write_bytes(os.urandom(100))
        self.truths = {path: content(path) for path in (self.product, self.preview)}
        connection = ensure_data_registry_db(self.database)
        metadata = {"companions": [str(self.preview)]}
        register_data_instance(connection, "mosaic", self.name, self.product, metadata=metadata)
        connection.close()

    def publish(self) -> None:
        countdown = Countdown(self.point)
        connection = ensure_data_registry_db(self.database)
        connection.set_trace_callback(countdown.tick)
        watch(countdown)
        assert registration.publish_data_instance(connection, self.name, mode=self.mode, roots=self.roots)

    def recover(self) -> None:
        registration.recover_publishing(ensure_data_registry_db(self.database), roots=self.roots)

    def check(self) -> None:
        """Either untouched in staging, or whole in the products area."""
        connection = ensure_data_registry_db(self.database)
        row = registration.get_data(connection, self.name)
        connection.close()
        where = f"{self.mode} {self.kind} killed at {self.point}: {row}"
        for source, truth in self.truths.items():
            target = self.roots.products / "mosaics" / source.name
            if row.status == "published":
                assert row.owner is None, where
                assert content(target) == truth, where
                assert content(source) == (truth if self.mode == "copy" else None), where
            else:
                assert row.status == "staging", where
                assert content(source) == truth, where
                assert content(target) is None, where
        left = [*self.roots.products.rglob("*.partial"), *self.roots.stage.rglob("*.partial")]
        assert not left, f"{where}: {left}"


def main(root: Path, products: Path, mode: str, kind: str, stride: int) -> None:
    """Try every point, then clean up."""
    roots = Roots((root / "stage").resolve(), products.resolve())
    point, trials, named = 1, 0, 0
    while True:
        trial = Trial(root / "registry.sqlite3", roots, mode, kind, point)
        outcome = in_child(trial.publish)
        assert outcome in {0, KILLED}, f"the publication ended with {outcome}"
        if outcome == KILLED:
            named += (roots.products / "mosaics" / trial.product.name).exists()
            assert in_child(trial.recover) == 0
        trial.check()
        if outcome == 0:
            break
        trials += 1
        point += stride
    shutil.rmtree(root)
    shutil.rmtree(roots.products)
    sys.stdout.write(f"{trials} {named}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
