"""A staging area, a products area and a registry with one product, made anew for each trial; and their judge.

The judge knows nothing of the code under test: it compares every name, mode and byte of both areas.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsa110_contimg.database import contents, publishing, session
from dsa110_contimg.database.data_registration import get_data, publish_data_instance, recover_publishing
from dsa110_contimg.database.data_registry import ensure_data_registry_db, register_data_instance
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.registry_rows import ProductRow, RegistryConnection
from dsa110_contimg.database.retraction import retract

SEED = 110
FILE = "data_registry.sqlite3"
Tree = dict[str, tuple[int, bytes | None]]
"""Relative path → mode, and the bytes of a file."""


@dataclass(frozen=True)
class Task:
    """What is tried."""

    name: str
    root: str
    products: str
    mode: str = "move"
    kind: str = "file"
    companion: bool = False
    chunks: int = 1
    """Into how many pieces the product's file is read and written."""
    stride: int = 1
    offset: int = 0


def tree(folder: Path) -> Tree:
    """Return all that is in a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def content(path: Path) -> object:
    """Return the bytes of a file or of all in a folder, None if there is nothing."""
    if path.is_dir():
        return {name: data for name, (_, data) in tree(path).items()}
    return path.read_bytes() if path.exists() else None


class House:
    """One product, staged; what a publication makes of it is known from one that nobody disturbed."""

    def __init__(self, task: Task) -> None:
        self.task, self.root, self.products = task, Path(task.root).resolve(), Path(task.products).resolve()
        self.stage, self.database = self.root / "stage", self.root / "state" / FILE
        self.roots = Roots(self.stage, self.products)
        self.product = self.stage / "mosaics" / f"m1{'.image' if task.kind == 'folder' else '.fits'}"
        self.sources = [self.product]
        if task.companion:
            self.sources.insert(0, self.stage / "mosaics" / "m1.png")
        contents.CHUNK_BYTES = publishing.CHUNK_BYTES = 4096
        self._build()
        self.truths = {source: content(source) for source in self.sources}
        self.staged = tree(self.stage)
        self.begun = self.save("begun")
        self.publish()
        self.published = tree(self.products)

    def _build(self) -> None:
        draw = random.Random(SEED)
        size = 4096 * self.task.chunks - 96
        self.product.parent.mkdir(parents=True)
        if self.task.kind == "folder":
            (self.product / "table").mkdir(parents=True)
            (self.product / "table" / "data.f0").write_bytes(draw.randbytes(size))
            (self.product / "table.lock").write_bytes(b"")
            (self.product / "empty").mkdir()
        else:
            self.product.write_bytes(draw.randbytes(size))
        for companion in self.sources[:-1]:
            companion.write_bytes(draw.randbytes(100))
        with closing(ensure_data_registry_db(self.database)) as conn:
            metadata = {"companions": [str(path) for path in self.sources[:-1]]}
            register_data_instance(conn, "mosaic", "m1", self.product, metadata=metadata)

    def save(self, name: str) -> Path:
        """Keep the present files and registry."""
        kept = self.root / "kept" / name
        shutil.rmtree(kept, ignore_errors=True)
        for area in (self.stage, self.database.parent, self.products):
            if area.exists():
                shutil.copytree(area, kept / area.name)
        return kept

    def restore(self, kept: Path) -> None:
        """Go back to what was kept."""
        for area in (self.stage, self.database.parent, self.products):
            shutil.rmtree(area, ignore_errors=True)
            if (kept / area.name).exists():
                shutil.copytree(kept / area.name, area)

    @contextmanager
    def registry(self) -> Iterator[RegistryConnection]:
        """Open the registry."""
        with closing(session.connect(self.database)) as conn:
            yield conn

    def row(self) -> ProductRow:
        """Return the product's row."""
        with self.registry() as conn:
            return get_data(conn, "m1")

    def publish(self) -> None:
        """Publish as any process would."""
        with self.registry() as conn:
            assert publish_data_instance(conn, "m1", mode=self.task.mode, roots=self.roots)

    def recover(self) -> None:
        """Recover as the next run would."""
        with self.registry() as conn:
            recover_publishing(conn, roots=self.roots)

    def target(self, source: Path) -> Path:
        """Return the published name."""
        return self.products / "mosaics" / source.name

    def judge_anytime(self) -> None:
        """Every product is whole somewhere, and what has its final name is whole."""
        published = self.row().status == "published"
        for source, truth in self.truths.items():
            shown = content(self.target(source))
            assert shown in (None, truth), f"{self.target(source)} is half-visible"
            assert not published or shown == truth, f"the row says published, but {self.target(source)} is missing"
            assert truth in (shown, content(source)), f"{source} is lost"

    def judge_at_rest(self) -> ProductRow:
        """Either untouched in staging, or whole in the products area, with nothing beside it."""
        row = self.row()
        if row.status == "published":
            assert (row.owner, row.publish_error) == (None, None), row
            assert tree(self.products) == self.published, "published otherwise than when nothing disturbs it"
            staged = {source: content(source) for source in self.sources}
            assert staged == (self.truths if self.task.mode == "copy" else dict.fromkeys(staged)), "doubled"
            rest = self.staged if self.task.mode == "copy" else {"mosaics": self.staged["mosaics"]}
        else:
            assert row.status in {"staging", "failed"}, row
            assert not [name for name, (_, data) in tree(self.products).items() if data is not None], "doubled"
            rest = self.staged
        found = tree(self.stage)
        assert found == rest, f"staging differs: {sorted(n for n in found | rest if found.get(n) != rest.get(n))}"
        return row


class RetractionHouse(House):
    """One product, published, that is to be retracted."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.begun = self.save("published")
        with self.registry() as conn:
            retract(conn, "m1", reason="a test", by="me", roots=self.roots)
        self.retracted = tree(self.products)

    def tombstone(self, source: Path) -> Path:
        """Return the name after retraction."""
        return self.products / "retracted" / "m1" / "mosaics" / source.name

    def judge_anytime(self) -> None:
        """Every product is whole under one of its two names."""
        for source, truth in self.truths.items():
            found = [content(self.target(source)), content(self.tombstone(source))]
            assert truth in found, f"{source} is lost"
            assert all(one in (None, truth) for one in found), f"{source} is half-visible"

    def judge_at_rest(self) -> ProductRow:
        """Either published as before, or wholly set aside."""
        row = self.row()
        if row.status == "published":
            files = {name: found for name, found in tree(self.products).items() if found[1] is not None}
            assert files == {name: found for name, found in self.published.items() if found[1] is not None}
        else:
            assert (row.status, row.owner, row.publish_error) == ("retracted", None, None), row
            assert tree(self.products) == self.retracted, "set aside otherwise than when nothing disturbs it"
            assert row.published_path == str(self.tombstone(self.product))
        return row
