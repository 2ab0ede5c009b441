"""Renames in one step that `os` does not offer: where nothing has the new name, and two names that change places."""

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100
ONLY_NEW, EXCHANGE = 1, 2
"""RENAME_NOREPLACE and RENAME_EXCHANGE of renameat2(2)."""
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def rename_at_once(source: Path, target: Path, flag: int) -> bool:
    """Rename with a flag of renameat2, and return whether the system and the file system can do it.

    Raises
    ------
    OSError
        If they can and did not, as where the target exists; it names both paths.
    """
    if _renameat2 is None:
        return False
    if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS}:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
