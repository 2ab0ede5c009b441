"""Telescope-exact UVH5 files of a known sky."""
