"""Chunks of a three-axis array, as a file holds them, put into their places."""

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.compiled import compiled


@compiled
def place_chunks(
    chunks: NDArray[np.generic],
    origins: NDArray[np.int64],
    first_row: int,
    target_of: NDArray[np.int64],
    out: NDArray[np.generic],
) -> None:
    """Copy what chunks hold of some rows into an array of those rows.

    Parameters
    ----------
    chunks
        (n_chunk, rows, channels, planes), one after the other; those at the edges reach beyond the array.
    origins
        (n_chunk, 3), where each begins in the whole array: row, channel, plane.
    first_row
        The row of the whole array that `out` begins with.
    target_of
        (n_plane,), for each plane of the whole array its place in `out`, or -1 to leave it out.
    out
        (n_row, n_channel, n_target), filled in place.
    """
    n_chunk, rows, channels, planes = chunks.shape
    for index in range(n_chunk):
        row0, channel0, plane0 = origins[index]
        begin, end = max(first_row - row0, 0), min(first_row + out.shape[0] - row0, rows)
        shift = row0 - first_row
        n_channel = min(channels, out.shape[1] - channel0)
        for plane in range(min(planes, target_of.size - plane0)):
            target = target_of[plane0 + plane]
            if target < 0:
                continue
            for row in range(begin, end):
                for channel in range(n_channel):
                    out[row + shift, channel0 + channel, target] = chunks[index, row, channel, plane]
