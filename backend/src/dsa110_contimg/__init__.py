"""DSA-110 continuum pipeline: subband files in, published mosaics and light curves out."""

__version__ = "0.1.0"
