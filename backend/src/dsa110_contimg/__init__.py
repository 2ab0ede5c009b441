"""DSA-110 continuum pipeline: subband files in, published mosaics and light curves out."""

from dsa110_contimg import sqlite_library

__version__ = "0.1.0"

sqlite_library.choose()
