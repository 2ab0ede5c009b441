"""Sources that every run puts into its images, so that what it finds of them tells what it misses.

The sky is cut into cells of half a degree, and time into cycles of 500 days. A cell has a source in a cycle with a
probability that gives the wanted density; place, flux, kind and event follow from the seed, the cell and the cycle
alone, so that every image of the same sky shows the same source. Kinds: a constant source; an extreme scattering event;
a flare (its light curve upside down), each event in the inner 300 days of its cycle.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.simulation.geometry import separation_deg
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event

CELL_DEG = 0.5
CYCLE_DAYS = 500.0
QUIET_DAYS = 100.0
"""At either end of a cycle."""
FLUXES_JY = (0.01, 0.5)
DEPTHS = (0.1, 0.5)
DURATIONS_DAYS = (7.0, 150.0)
KINDS = ("constant", "ese", "ese", "flare")


@dataclass(frozen=True)
class PlantedSource:
    """A source that is not there; the fields of the event are what it would be if it is constant."""

    name: str
    ra_deg: float
    dec_deg: float
    kind: str
    flux_jy: float
    middle_mjd: float
    days: float
    depth: float

    def flux_at(self, mjd: float) -> float:
        """Return the flux at a time (Jy)."""
        if self.kind == "constant":
            return self.flux_jy
        change = float(extreme_scattering_event(mjd, self.middle_mjd, self.days, self.depth)) - 1.0
        return self.flux_jy * (1.0 + (change if self.kind == "ese" else -change))


def planted_sources(
    center: tuple[float, float], radius_deg: float, mjd: float, per_sq_deg: float, seed: int
) -> list[PlantedSource]:
    """Return the sources within a radius of a direction (ra_deg, dec_deg) in the cycle of a time."""
    ra, dec = center
    cycle = int(mjd // CYCLE_DAYS)
    first = int(np.floor(max(-90.0, dec - radius_deg) / CELL_DEG))
    last = int(np.floor(min(89.999, dec + radius_deg) / CELL_DEG))
    # A circle around a pole holds every right ascension.
    width = np.sin(np.radians(min(radius_deg, 89.0))) / max(float(np.cos(np.radians(dec))), 1e-9)
    reach = 180.0 if abs(dec) + radius_deg >= 90.0 else float(np.degrees(np.arcsin(min(width, 1.0))))
    found = []
    for band in range(first, last + 1):
        middle = np.radians(CELL_DEG * (band + 0.5))
        cells = max(1, round(360.0 * float(np.cos(middle)) / CELL_DEG))
        for cell in _near(ra, reach, cells):
            rng = np.random.default_rng([seed, band + 180, cell, cycle])
            if rng.random() < per_sq_deg * CELL_DEG**2:
                found.append(_draw(band, cell, cells, cycle, rng))
    places = np.array([(s.ra_deg, s.dec_deg) for s in found], float).reshape(-1, 2)
    inside = separation_deg(places[:, 0], places[:, 1], ra, dec) < radius_deg
    return [source for source, there in zip(found, inside, strict=True) if there]


def _near(ra: float, reach_deg: float, cells: int) -> NDArray[np.int64]:
    """Return the cells of a band within reach of a right ascension, across zero too."""
    width = 360.0 / cells
    if reach_deg >= 180.0:
        return np.arange(cells)
    first, last = np.floor((ra - reach_deg) / width), np.floor((ra + reach_deg) / width)
    return np.unique(np.arange(int(first), int(last) + 1) % cells)


def _draw(band: int, cell: int, cells: int, cycle: int, rng: np.random.Generator) -> PlantedSource:
    ra = (cell + rng.random()) * 360.0 / cells
    dec = (band + rng.random()) * CELL_DEG
    start = cycle * CYCLE_DAYS
    return PlantedSource(
        name=f"injected {cycle}-{band}-{cell}",
        ra_deg=float(ra),
        dec_deg=float(dec),
        kind=str(rng.choice(KINDS)),
        flux_jy=float(np.exp(rng.uniform(*np.log(FLUXES_JY)))),
        middle_mjd=float(rng.uniform(start + QUIET_DAYS, start + CYCLE_DAYS - QUIET_DAYS)),
        days=float(np.exp(rng.uniform(*np.log(DURATIONS_DAYS)))),
        depth=float(rng.uniform(*DEPTHS)),
    )
