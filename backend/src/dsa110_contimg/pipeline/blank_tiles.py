"""Tiles that hold nothing but the noise of the telescope, made by the simulator and read by the pipeline's reader."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dsa110_contimg import conversion
from dsa110_contimg.options import ConversionOptions, option
from dsa110_contimg.simulation import SimulationOptions, simulate
from dsa110_contimg.visibilities import Visibilities

NOTHING_JY = 1e3
"""No source shines as brightly through the beam: none is in the sky."""


@dataclass(frozen=True, kw_only=True)
class BlankOptions:
    """Tiles of noise."""

    tiles: int = option(3, "Tiles of noise that are simulated where no Measurement Set is given.")
    antennas: int = option(96, "Antennas of simulated tiles.")
    channels: int = option(6, "Channels per subband of simulated tiles; fewer are wider.")
    integrations: int = option(24, "Integrations of simulated tiles.")
    declination: float = option(33.2, "Apparent declination of simulated tiles in degrees.")
    seed: int = option(1, "Seed of their noise.")


def simulate_blank_tiles(folder: Path, options: BlankOptions) -> list[Callable[[], Visibilities]]:
    """Write the subband files of a strip without sources, in Jy, and return how to read each tile.

    Parameters
    ----------
    folder
        Takes the files.
    options
        Size of the observation.

    Raises
    ------
    ConfigurationError
        If an option is absurd, or the folder cannot take the files.
    """
    truth = simulate(
        folder,
        SimulationOptions(
            antennas=options.antennas,
            channels=options.channels,
            integrations=options.integrations,
            tiles=options.tiles,
            declination=options.declination,
            min_flux_jy=0.3,
            min_apparent_jy=NOTHING_JY,
            seed=options.seed,
            gain_amplitude=1.0,
            gain_scatter=0.0,
            phase_range_deg=0.0,
            delay_ns=0.0,
        ),
    )
    groups = [[folder / name for name in group.files] for group in truth.groups]
    return [partial(conversion.load_group, files, ConversionOptions()) for files in groups]
