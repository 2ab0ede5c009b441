"""Visibilities to a restored, beam-corrected sky image."""
