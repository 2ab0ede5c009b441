"""Telescope-exact UVH5 files of a known sky."""

from dsa110_contimg.simulation.observe import simulate
from dsa110_contimg.simulation.options import SimulationOptions, Variable
from dsa110_contimg.simulation.truth import Truth, TruthGroup, TruthSource, load_truth

__all__ = ["SimulationOptions", "Truth", "TruthGroup", "TruthSource", "Variable", "load_truth", "simulate"]
