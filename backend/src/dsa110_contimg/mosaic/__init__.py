"""Tiles checked against each other and coadded."""
