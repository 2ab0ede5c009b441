"""Rows sorted by baseline.

Visibilities run time-major, statistics and normal equations want all rows of one baseline together: `order` lists
the rows baseline by baseline (in time order within each), and rows `order[start[b]:start[b + 1]]` belong to
baseline b, between antennas `first[b]` and `second[b]`. A pair that appears in both orders counts as two baselines.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class BaselineRows(NamedTuple):
    """The rows of each baseline; n_baseline of them."""

    order: NDArray[np.int64]
    start: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]


def baseline_rows(antenna1: NDArray[np.int32], antenna2: NDArray[np.int32], *, autos: bool = False) -> BaselineRows:
    """Sort rows by baseline; autocorrelations are left out unless *autos*."""
    first, second = antenna1.astype(np.int64), antenna2.astype(np.int64)
    stride = int(max(first.max(initial=0), second.max(initial=0))) + 1
    key = first * stride + second
    order = np.argsort(key, kind="stable")
    if not autos:
        order = order[first[order] != second[order]]
    names, start = np.unique(key[order], return_index=True)
    return BaselineRows(order, np.append(start, order.size), names // stride, names % stride)
