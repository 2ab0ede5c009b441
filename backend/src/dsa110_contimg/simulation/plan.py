"""What is observed when: the groups of each epoch, the sky of the strip, and which of its sources vary."""

from dataclasses import dataclass

import numpy as np
from astropy.time import Time
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.simulation import geometry
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event
from dsa110_contimg.simulation.options import SimulationOptions
from dsa110_contimg.simulation.sky import Sky, make_sky, place_event
from dsa110_contimg.simulation.uvh5_writer import STEP_S


@dataclass(frozen=True)
class Roles:
    """Which sources vary, and by how much: factors has shape (n_epoch, n_source)."""

    ese: str
    control: str
    planted: tuple[str, ...]
    varying: tuple[str, ...]
    factors: NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """One group to observe."""

    number: int
    epoch: int
    index: int
    start_mjd: float
    mid_times_mjd: NDArray[np.float64]

    @property
    def mid_mjd(self) -> float:
        """Middle of the tile."""
        return float(self.mid_times_mjd.mean())


def plan_tiles(options: SimulationOptions) -> list[Tile]:
    """Return the groups of the observation in order of time; each epoch starts at the same sidereal time."""
    try:
        start = float(Time(options.start, format="isot" if "T" in options.start else "iso", scale="utc").mjd)
    except ValueError as error:
        raise ConfigurationError(f"--start {options.start} is not a time such as 2025-10-01T00:00:00") from error
    length = options.integrations * STEP_S / 86400.0
    if options.transit:
        if options.transit not in POSITIONS:
            raise ConfigurationError(f"--transit {options.transit} is no calibrator; known are {', '.join(POSITIONS)}")
        geometry.check_dates(start, start + 1.0)
        start = geometry.transit_mjd(*POSITIONS[options.transit], start) - (options.tiles // 2 + 0.5) * length
    tiles: list[Tile] = []
    for epoch, day in enumerate(options.day_offsets):
        for index in range(options.tiles):
            first = start + day * geometry.SIDEREAL_DAY_S / 86400.0 + index * length
            times = np.asarray(first + (np.arange(options.integrations) + 0.5) * STEP_S / 86400.0, np.float64)
            tiles.append(Tile(len(tiles), epoch, index, first, times))
    return tiles


def prepare_sky(options: SimulationOptions, tiles: list[Tile]) -> tuple[Sky, Roles]:
    """Return the sky of the strip, and the light curves of those of its sources that have one."""
    first_epoch = np.array([tile.mid_mjd for tile in tiles if tile.epoch == 0])
    ra, dec = geometry.pointing_icrs(options.declination, first_epoch)
    sky = make_sky(options, ra, dec)
    middle = float(ra[len(ra) // 2]), float(dec[len(dec) // 2])
    names: dict[str, str] = {}
    planted: list[str] = []
    for role in ("ese", "control"):
        asked = getattr(options, role)
        if asked == "auto":
            sky, names[role], new = place_event(sky, middle, tuple(names.values()), f"SIM {role}")
            planted += [names[role]] if new else []
        elif asked:
            names[role] = sky.names[sky.index_of(asked)]
    if len(sky) == 0:
        raise ConfigurationError("the sky is empty here: lower --min-flux-jy, widen --sky-radius, or move the strip")
    days = np.array(options.day_offsets, dtype=float)
    factors = np.ones((days.size, len(sky)))
    varying = []
    for variable in options.variables:
        if len(variable.factors) != days.size:
            raise ConfigurationError(
                f"variable {variable.source} has {len(variable.factors)} factors for {days.size} epochs"
            )
        index = sky.index_of(variable.source)
        factors[:, index] = variable.factors
        varying.append(sky.names[index])
    if "ese" in names:
        middle_day = 0.5 * (days[0] + days[-1])
        curve = extreme_scattering_event(days, middle_day, options.ese_days, options.ese_depth)
        factors[:, sky.index_of(names["ese"])] = curve
    return sky, Roles(names.get("ese", ""), names.get("control", ""), tuple(planted), tuple(varying), factors)
