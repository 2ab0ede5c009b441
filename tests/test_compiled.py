"""Kernels keep NaN and infinity, whichever of them is compiled first."""

import subprocess
import sys
from pathlib import Path

from dsa110_contimg.compiled import LIBERTIES

SCRIPT = """
import numpy as np
from numba import prange
from dsa110_contimg.compiled import compiled_parallel
from dsa110_contimg.kernels.correct import correct

@compiled_parallel
def squares(values):
    for i in prange(values.size):
        values[i] = values[i] * values[i]

squares(np.ones(4, np.complex64))
vis = np.ones((1, 3, 1), np.complex64)
vis[0, 1], vis[0, 2] = np.nan, np.inf
flags, weights, antenna = np.zeros(vis.shape, bool), np.ones((1, 1), np.float32), np.zeros(1, np.int32)
correct(vis, flags, weights, antenna, antenna, antenna.astype(np.int64), np.ones((1, 1, 3, 1), np.complex64))
print(flags.ravel().astype(int))
"""


def test_what_is_no_number_is_seen_after_another_kernel_was_compiled(tmp_path: Path) -> None:
    script = tmp_path / "order.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[0", "1", "1]"]


def test_no_liberty_forgets_nan_or_infinity() -> None:
    assert not LIBERTIES & {"nnan", "ninf", "fast"}
