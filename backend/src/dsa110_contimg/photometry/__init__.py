"""Fluxes of known sources, their light curves and their candidates."""
