import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsa110_contimg import renaming
from dsa110_contimg.database.disk_steps import is_being_written, make_folders, remove, rename_new, seal


@pytest.fixture(params=["one step", "two steps"])
def file_system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose file system can rename without overwriting, and one whose cannot."""
    if request.param == "two steps":
        monkeypatch.setattr(renaming, "_renameat2", None)
    yield tmp_path


@pytest.mark.parametrize("folder", [False, True])
def test_rename(file_system: Path, folder: bool) -> None:
    old, new = file_system / "old", file_system / "new"
    (old / "inner").mkdir(parents=True) if folder else old.write_bytes(b"content")
    identity = old.stat().st_ino
    rename_new(old, new)
    assert not old.exists()
    assert new.stat().st_ino == identity
    assert (new / "inner").is_dir() if folder else new.read_bytes() == b"content"


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("standing", ["file", "full folder", "empty folder", "dangling link"])
def test_rename_never_overwrites(file_system: Path, folder: bool, standing: str) -> None:
    old, new = file_system / "old", file_system / "new"
    old.mkdir() if folder else old.write_bytes(b"content")
    if standing == "file":
        new.write_bytes(b"precious")
    elif standing == "dangling link":
        new.symlink_to("nowhere")
    else:
        new.mkdir()
        if standing == "full folder":
            (new / "precious").write_bytes(b"precious")
    before = new.lstat()
    with pytest.raises(FileExistsError):
        rename_new(old, new)
    assert old.exists()
    assert (new.lstat().st_ino, new.lstat().st_mode) == (before.st_ino, before.st_mode)
    if standing == "file":
        assert new.read_bytes() == b"precious"


def test_rename_says_what_is_missing(file_system: Path) -> None:
    with pytest.raises(FileNotFoundError, match="old"):
        rename_new(file_system / "old", file_system / "new")
    assert list(file_system.iterdir()) == []


def test_a_folder_that_cannot_be_renamed_leaves_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_renameat2", None)
    (tmp_path / "old").mkdir()

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="the disk failed"):
        rename_new(tmp_path / "old", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


WRITER = "import sys; stream = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"


def test_a_writer_is_seen(tmp_path: Path) -> None:
    """Another process, this process, and nobody any more."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert not is_being_written(path)
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        assert is_being_written(path)
        writer.communicate()
    assert not is_being_written(path)
    with path.open("r+b"):
        assert is_being_written(path)
    with path.open("rb"):
        assert not is_being_written(path), "who reads does not disturb"


def test_what_cannot_be_told_is_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def unsupported(*_: object) -> None:
        raise OSError(errno.EINVAL, "no leases here")

    monkeypatch.setattr("fcntl.fcntl", unsupported)
    with path.open("ab"):
        assert not is_being_written(path)


def test_who_begins_to_write_does_not_end_us(tmp_path: Path) -> None:
    """A lease that is broken is told by a signal whose default is to be ignored."""
    assert signal.getsignal(signal.SIGURG) in {signal.SIG_DFL, signal.SIG_IGN}
    path = tmp_path / "file"
    path.write_bytes(b"content")
    script = (
        "import os, sys, fcntl\n"
        "from pathlib import Path\n"
        "from dsa110_contimg.database import disk_steps\n"
        "original = os.close\n"
        "def close(handle):\n"
        "    if os.fork() == 0:\n"
        "        try:\n"
        "            os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)\n"
        "        finally:\n"
        "            os._exit(0)\n"
        "    os.wait()\n"
        "    original(handle)\n"
        "os.close = close\n"
        "print(disk_steps.is_being_written(Path(sys.argv[1])))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_seal(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    path.chmod(0o640)
    assert seal(path) == 0o640
    assert path.stat().st_mode & 0o7777 == 0o444
    assert seal(path) is None


def test_folders_are_made_once_and_removed_whole(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    make_folders(deep)
    make_folders(deep)
    assert deep.is_dir()
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path)
    remove(tmp_path / "link")
    assert list(tmp_path.iterdir()) == []
