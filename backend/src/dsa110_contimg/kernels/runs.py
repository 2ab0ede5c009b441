"""Bytes as runs of equal values: how a plane of flags becomes small.

Each row of (n_row, n_sample) is a list of (value, length); rows follow one another, `offsets` says where each begins.
"""

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled_parallel


@compiled_parallel
def count_runs(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return where each row's runs begin in the list of all, (n_row + 1,)."""
    number = np.zeros(rows.shape[0] + 1, np.int64)
    for row in prange(rows.shape[0]):
        line = rows[row]
        changes = 1 if line.size else 0
        for i in range(1, line.size):
            changes += line[i] != line[i - 1]
        number[row + 1] = changes
    return np.cumsum(number)


@compiled_parallel
def encode(rows: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return values and lengths of all runs."""
    values, lengths = np.empty(offsets[-1], np.uint8), np.empty(offsets[-1], np.uint32)
    for row in prange(rows.shape[0]):
        line, place, begin = rows[row], offsets[row], 0
        for i in range(1, line.size + 1):
            if i == line.size or line[i] != line[begin]:
                values[place], lengths[place] = line[begin], i - begin
                place, begin = place + 1, i
    return values, lengths


@compiled_parallel
def decode(
    values: NDArray[np.uint8], lengths: NDArray[np.uint32], offsets: NDArray[np.int64], n_sample: int
) -> NDArray[np.uint8]:
    """Return the rows, (n_row, n_sample)."""
    rows = np.zeros((offsets.size - 1, n_sample), np.uint8)
    for row in prange(rows.shape[0]):
        begin = 0
        for run in range(offsets[row], offsets[row + 1]):
            rows[row, begin : begin + lengths[run]] = values[run]
            begin += lengths[run]
    return rows
