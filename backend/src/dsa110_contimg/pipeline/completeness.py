r"""How many scattering events are found, and how many alarms are false, measured by putting events into light curves.

The light curves are those of the database, with their own epochs, errors and outliers, or simulated ones:

    S(t)/S̄ = event(t) + σ(t) n(t) + ε(t)

with a noise σ that changes from epoch to epoch, tails n of Student's t, what the scale of an epoch ε leaves behind, and
missing epochs and weeks. Each is judged by the search of the pipeline (`photometry.dips`). False alarms are the dips of
light curves without an event; with none seen in T source-years their rate is below 3/T at 95 %.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_contimg.database.models import VariabilityStats
from dsa110_contimg.database.photometry_repository import PhotometryRepository
from dsa110_contimg.options import PhotometryOptions, option
from dsa110_contimg.photometry.dips import Dip, search_dips, search_rises
from dsa110_contimg.photometry.lightcurves import LightCurve
from dsa110_contimg.simulation.lightcurves import extreme_scattering_event

FloatArray = NDArray[np.float64]
Progress = Callable[[str], None]

DEPTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
DURATIONS = (7.0, 14.0, 40.0, 90.0, 180.0)
RISES = (0.1, 0.3, 0.5)
SNRS = (5.0, 10.0, 20.0, 50.0)
REFERENCE_DAYS, REFERENCE_SNR = 40.0, 20.0
THRESHOLDS = np.arange(0.0, 6.01, 0.25)
LEAST_EPOCHS = 20
YEAR_DAYS = 365.25


@dataclass(frozen=True, kw_only=True)
class CompletenessOptions:
    """What is simulated, and how often."""

    trials: int = option(200, "Events of each depth, duration and flux.")
    constants: int = option(4000, "Simulated light curves of constant sources, for false alarms.")
    days: float = option(365.0, "Length of simulated light curves.")
    cadence_days: float = option(1.0, "Days between two epochs of simulated light curves.")
    missing: float = option(0.15, "Fraction of their epochs that is missing, beside a gap of up to 20 days.")
    tail: float = option(5.0, "Degrees of freedom of their noise (Student's t); 0 is Gaussian.")
    scale_scatter: float = option(0.01, "Fractional error of an epoch's scale that is left in them.")
    completeness_seed: int = option(1, "Seed of everything random.")


@dataclass(frozen=True)
class Cell:
    """Events of one kind, and which fraction of them was found."""

    depth: float
    days: float
    snr: float | None
    """Of one epoch; None for light curves of the database, which have their own."""
    n: int
    found: float
    rise: bool = False
    """A flare: the light curve of a scattering event upside down."""


@dataclass(frozen=True)
class Completeness:
    """Fractions found, and false alarms per 1,000 source-years above each threshold."""

    kind: str
    """What the light curves are."""
    threshold: float
    cells: tuple[Cell, ...]
    source_years: float
    false_alarms: tuple[int, ...]
    """Dips above each of `THRESHOLDS`."""
    false_rises: int
    """Rises above the threshold."""

    @property
    def rate(self) -> float:
        """False alarms per 1,000 source-years at the threshold."""
        return 1000.0 * self._alarms / self.source_years

    @property
    def rate_limit(self) -> float:
        """Upper limit of that rate at 95 % (Poisson)."""
        return 1000.0 * float(gammaincinv(self._alarms + 1.0, 0.95)) / self.source_years

    @property
    def _alarms(self) -> int:
        return self.false_alarms[int(np.argmin(np.abs(THRESHOLDS - self.threshold)))]

    def to_dict(self) -> dict[str, object]:
        """Return plain values, ready for JSON."""
        rates = {"false_alarms_per_1000_source_years": self.rate, "upper_limit_95": self.rate_limit}
        return asdict(self) | {"thresholds": THRESHOLDS.tolist()} | rates


def simulated_curve(snr: float, options: CompletenessOptions, rng: np.random.Generator) -> LightCurve:
    """Return the light curve of a constant source of 1 Jy."""
    mjd = 60000.0 + options.cadence_days * 0.99727 * np.arange(int(options.days / options.cadence_days))
    gap, length = rng.uniform(0.0, options.days), rng.uniform(0.0, 20.0)
    there = (rng.random(mjd.size) > options.missing) & (np.abs(mjd - 60000.0 - gap) > 0.5 * length)
    mjd = mjd[there]
    error = rng.uniform(0.8, 1.5, mjd.size) / snr
    noise = rng.standard_t(options.tail, mjd.size) if options.tail > 0.0 else rng.normal(size=mjd.size)
    flux = (1.0 + error * noise) * (1.0 + options.scale_scatter * rng.normal(size=mjd.size))
    return LightCurve("simulated", mjd, flux, error)


def with_event(
    curve: LightCurve, depth: float, days: float, rng: np.random.Generator, *, rise: bool = False
) -> tuple[LightCurve, float]:
    """Return a light curve with an event or its contrary, and its middle; it lies wholly within."""
    first, last = float(curve.mjd[0]), float(curve.mjd[-1])
    room = max(0.0, 0.5 * (last - first) - 0.6 * days)
    middle = 0.5 * (first + last) + rng.uniform(-room, room)
    level = float(np.median(curve.flux_jy))
    change = level * (extreme_scattering_event(curve.mjd, middle, days, depth) - 1.0)
    flux = curve.flux_jy - change if rise else curve.flux_jy + change
    return LightCurve(curve.source_id, curve.mjd, flux, curve.flux_err_jy), middle


def real_curves(session: Session) -> list[LightCurve]:
    """Return the light curves of the database that are long enough to hold an event."""
    names = session.scalars(select(VariabilityStats.source_id).where(VariabilityStats.n_obs >= LEAST_EPOCHS))
    curves = []
    for name in names:
        points = [p for p in PhotometryRepository.get_lightcurve(session, name) if p.normalized_flux_err_jy]
        columns = ("mjd", "normalized_flux_jy", "normalized_flux_err_jy")
        mjd, flux, error = (np.array([getattr(p, column) for p in points], np.float64) for column in columns)
        if mjd.size >= LEAST_EPOCHS and float(np.median(flux)) > 0.0:
            curves.append(LightCurve(name, mjd, flux, error))
    return curves


def measure_completeness(
    options: CompletenessOptions,
    photometry: PhotometryOptions,
    curves: Sequence[LightCurve] = (),
    progress: Progress = lambda _doing: None,
) -> Completeness:
    """Put events into light curves and count those that are found, and alarms where there are none.

    Parameters
    ----------
    options
        How many, and what the simulated ones are like.
    photometry
        As the pipeline judges.
    curves
        Light curves to put them into; without any they are simulated.
    progress
        Told what is done next.
    """
    rng = np.random.default_rng(options.completeness_seed)
    progress("constant sources")
    quiet = list(curves) or [
        simulated_curve(10.0 ** rng.uniform(0.7, 2.0), options, rng) for _ in range(options.constants)
    ]
    alarms, rises = (
        np.array([dip.significance if dip is not None else -1.0 for dip in search(quiet, photometry)])
        for search in (search_dips, search_rises)
    )
    years = sum(float(np.ptp(curve.mjd)) for curve in quiet) / YEAR_DAYS
    grid = [(depth, days, REFERENCE_SNR, False) for depth in DEPTHS for days in DURATIONS]
    if not curves:
        grid += [(depth, REFERENCE_DAYS, snr, False) for depth in (0.1, 0.3) for snr in SNRS if snr != REFERENCE_SNR]
    grid += [(depth, days, REFERENCE_SNR, True) for depth in RISES for days in DURATIONS]
    cells = []
    for depth, days, snr, rise in grid:
        progress(f"{'flares' if rise else 'events'} of {100.0 * depth:.0f} % and {days:.0f} days")
        found = _found(Cell(depth, days, snr, options.trials, 0.0, rise), options, photometry, curves, rng)
        cells.append(Cell(depth, days, None if curves else snr, found.size, float(found.mean()), rise))
    kind = (
        f"{len(curves)} light curves of the database"
        if curves
        else f"simulated light curves of {options.days:.0f} days"
    )
    counts = tuple(int(np.sum(alarms >= limit)) for limit in THRESHOLDS)
    false_rises = int(np.sum(rises >= photometry.dip_sigma))
    return Completeness(kind, photometry.dip_sigma, tuple(cells), years, counts, false_rises)


def _found(
    kind: Cell,
    options: CompletenessOptions,
    photometry: PhotometryOptions,
    curves: Sequence[LightCurve],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Say of each event of one kind whether it was found where it is."""
    hosts = [
        curves[int(rng.integers(len(curves)))] if curves else simulated_curve(kind.snr or 0.0, options, rng)
        for _ in range(options.trials)
    ]
    events = [with_event(host, kind.depth, kind.days, rng, rise=kind.rise) for host in hosts]
    search = search_rises if kind.rise else search_dips
    dips = search([curve for curve, _middle in events], photometry)
    return np.array(
        [_is_it(dip, middle, kind.days, photometry) for dip, (_c, middle) in zip(dips, events, strict=True)]
    )


def _is_it(dip: Dip | None, middle: float, days: float, photometry: PhotometryOptions) -> bool:
    if dip is None or dip.significance < photometry.dip_sigma:
        return False
    shared = min(dip.end_mjd, middle + 0.5 * days) - max(dip.start_mjd, middle - 0.5 * days)
    return shared > 0.5 * min(days, dip.end_mjd - dip.start_mjd)
