"""Arithmetic of lines of numbers.

Each is a function of its own over a line, as the compiler makes vector instructions of it only then. *out* must not
overlap the others for the same reason.
"""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled

Line = NDArray[np.float32]
Numbers = NDArray[np.float32] | NDArray[np.uint8]


@compiled
def fill_line(out: Numbers, value: np.float32 | np.uint8) -> None:
    """Fill a line with one value."""
    for i in range(out.size):
        out[i] = value


@compiled
def copy_line(line: Numbers, out: Numbers) -> None:
    """Copy as much as *out* has room for."""
    for i in range(out.size):
        out[i] = line[i]


@compiled
def add_lines(one: Line, other: Line, factor: np.float32, out: Line) -> None:
    """Fill *out* with one + factor · other."""
    for i in range(out.size):
        out[i] = one[i] + factor * other[i]


@compiled
def add_to(total: Line, line: Line, factor: np.float32) -> None:
    """Add factor · line to *total*."""
    for i in range(total.size):
        total[i] += factor * line[i]
