"""Numba and numpy on plain arrays: no files, units, clocks or logs."""
