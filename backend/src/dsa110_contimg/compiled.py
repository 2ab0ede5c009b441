"""How every kernel is compiled: one set of rules, so that no order of compiling changes a result."""

import numpy as np
from numba import njit

LIBERTIES = {"nsz", "reassoc", "contract", "arcp"}
"""Liberties with rounding: sums in any order, products and sums in one step, x · (1/y) for x / y, one zero.

Never `nnan` or `ninf`, which let the compiler drop the tests for NaN and infinity. numba compiles what kernels call,
the product of complex numbers for one, once in a process, with the liberties of the kernel that asked first, and keeps
it on disk: a liberty of one kernel is a liberty of all.
"""

compiled = njit(cache=True, nogil=True, fastmath=LIBERTIES, error_model="numpy")
"""Decorator of kernels that run in one thread; other threads go on beside them."""
compiled_in_place = njit(cache=True, inline="always", fastmath=LIBERTIES, error_model="numpy")
"""Decorator of what is put into each kernel that calls it."""
compiled_parallel = njit(cache=True, parallel=True, fastmath=LIBERTIES, error_model="numpy")
"""Decorator of kernels with `prange`."""


@compiled
def is_finite(value: float | np.float32) -> bool:
    """Return whether a real number is neither NaN nor infinite.

    Within a kernel `np.isfinite` asks whether x − x is a number: with sums in any order that is always zero.
    """
    return bool(-np.inf < value < np.inf)
