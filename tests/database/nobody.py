"""Work that is done by another user, in a process of its own, with a registry in a place that all users reach."""

import os
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.database.conftest import Registry

from dsa110_contimg.database.data_registry import ensure_data_registry_db
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.session import connect
from dsa110_contimg.errors import PipelineError

NOBODY = 65534
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def open_to_all() -> Iterator[Registry]:
    """Yield a registry in a folder that every user can enter; pytest's own folders are closed."""
    with tempfile.TemporaryDirectory(prefix="contimg-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "stage").mkdir()
        conn = ensure_data_registry_db(root / "state" / "data_registry.sqlite3")
        yield Registry(root, conn, Roots(root / "stage", root / "products"))
        conn.close()


def by_nobody(registry: Registry, work: Callable[[sqlite3.Connection], object]) -> str | None:
    """Do something as another user, who owns all files; return the sentence with which it was refused, or None."""
    for entry in (registry.root, *registry.root.rglob("*")):
        if entry.lstat().st_uid == os.geteuid():
            os.lchown(entry, NOBODY, NOBODY)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work(connect(registry.root / "state" / "data_registry.sqlite3"))
            code = 0
        except PipelineError as error:
            os.write(writer, str(error).encode())
            code = 1
        finally:
            if code == 2:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 1}, "it ended with a traceback"
    return told if code else None
