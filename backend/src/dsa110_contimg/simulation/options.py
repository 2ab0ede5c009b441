"""What a simulated observation is made of; one sentence per field, which is also its command-line help."""

from dataclasses import dataclass, fields

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.options import option

N_SUBBANDS = 16


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A source whose flux changes from epoch to epoch."""

    source: str
    """Name of a source of the sky, or its index."""
    factors: tuple[float, ...]
    """One factor per epoch on the source's flux."""


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """A drift-scan observation: which telescope, which sky, which faults."""

    antennas: int = option(96, "Antennas in the correlator; fewer than 96 are spread over arms and outriggers.")
    subbands: tuple[int, ...] = option(tuple(range(N_SUBBANDS)), "Subbands that are written; 0 is the highest.")
    channels: int = option(48, "Channels per subband; fewer are wider, the band stays the same.")
    integrations: int = option(24, "Integrations of 12.885 s per file.")
    tiles: int = option(1, "Tiles (groups of subband files) per epoch.")
    epochs: int = option(1, "Epochs, whole sidereal days apart.")
    day_spacing: int = option(1, "Sidereal days between epochs.")
    days: tuple[int, ...] = option((), "Sidereal-day offsets of the epochs, instead of epochs and spacing.")
    declination: float = option(33.2, "Apparent declination of the strip in degrees.")
    start: str = option("2025-10-01T00:00:00", "Start of the first epoch (UTC, ISO); with a transit: not before.")
    transit: str = option("", "Calibrator (3C48) that transits in the middle of the middle tile of each epoch.")
    sky: str = option("counts", "Catalogue file (NVSS table, CSV or FITS), or 'counts' to draw from source counts.")
    sky_radius: float = option(3.5, "Sources within as many degrees of a pointing are in the sky.")
    min_flux_jy: float = option(0.01, "Faintest source drawn or taken from the file, at 1.4 GHz.")
    min_apparent_jy: float = option(0.002, "A source that stays fainter than this behind the beam is left out.")
    alpha_mean: float = option(-0.7, "Mean spectral index of sources without their own.")
    alpha_scatter: float = option(0.2, "Scatter of those spectral indices.")
    calibrators: bool = option(True, "Put the Perley-Butler calibrators of the strip into the sky.")
    gain_amplitude: float = option(0.068, "Amplitude gain of an antenna, square root of raw units per Jy.")
    gain_scatter: float = option(0.1, "Fractional scatter of the amplitude gains.")
    phase_range_deg: float = option(180.0, "Antenna phases are uniform within plus and minus this.")
    delay_ns: float = option(5.0, "Scatter of the antenna delays in nanoseconds.")
    sefd_jy: float = option(6500.0, "System equivalent flux density of an antenna.")
    noise: bool = option(True, "Add the noise of that SEFD.")
    rfi_carriers: int = option(0, "Narrow-band carriers, on part of the antennas, all of the time.")
    rfi_bursts: int = option(0, "Broad-band bursts of one or two integrations, on part of the antennas.")
    rfi_jy: float = option(200.0, "Strength of the interference.")
    dead_stations: tuple[int, ...] = option((), "Station numbers whose products are all zero.")
    single_pol_stations: tuple[int, ...] = option((), "Station numbers whose YY products are zero.")
    missing_subbands: tuple[str, ...] = option((), "Subbands never written: 7 in every group, 0:7 in group 0 only.")
    ese: str = option("", "Source with an extreme scattering event: a name, an index, or 'auto'.")
    ese_depth: float = option(0.4, "Depth of the event's dip.")
    ese_days: float = option(30.0, "Width of the event's dip in days; it is centered on the middle of the epochs.")
    control: str = option("", "Source that is constant and named in the truth: a name, an index, or 'auto'.")
    variables: tuple[Variable, ...] = ()
    smear: bool = option(False, "Average over channel and integration instead of sampling their centers.")
    catalog_limit_jy: float = option(0.01, "Flux limit of the survey that catalog.csv imitates.")
    perfect_catalog: bool = option(False, "List true positions and fluxes in catalog.csv.")
    seed: int = option(1, "Seed of everything that is random.")

    @property
    def day_offsets(self) -> tuple[int, ...]:
        """Sidereal-day offset of each epoch."""
        return self.days or tuple(i * self.day_spacing for i in range(self.epochs))


def _is_missing_entry(entry: str) -> bool:
    parts = entry.split(":")
    return len(parts) <= 2 and all(part.strip().isdigit() for part in parts) and int(parts[-1]) < N_SUBBANDS


def validate(options: SimulationOptions) -> None:
    """Refuse absurd options.

    Raises
    ------
    ConfigurationError
        With one sentence that names the option, its value and what is allowed.
    """
    limits: dict[str, tuple[float, float]] = {
        "antennas": (2, 96),
        "channels": (1, 384),
        "integrations": (1, 10000),
        "tiles": (1, 279),
        "epochs": (1, 10000),
        "day_spacing": (1, 10000),
        "declination": (-50.0, 89.9),
        "sky_radius": (0.01, 20.0),
        "min_flux_jy": (1e-4, 1e4),
        "min_apparent_jy": (0.0, 1e4),
        "alpha_scatter": (0.0, 5.0),
        "gain_amplitude": (1e-9, 1e9),
        "gain_scatter": (0.0, 0.3),
        "phase_range_deg": (0.0, 180.0),
        "delay_ns": (0.0, 1000.0),
        "sefd_jy": (0.0, 1e9),
        "alpha_mean": (-10.0, 10.0),
        "rfi_jy": (0.0, 1e9),
        "catalog_limit_jy": (0.0, 1e4),
        "rfi_carriers": (0, 10000),
        "rfi_bursts": (0, 10000),
        "ese_depth": (0.0, 0.99),
        "ese_days": (0.1, 10000.0),
        "seed": (0, 2**63 - 1),
    }
    for item in fields(options):
        if item.name in limits:
            low, high = limits[item.name]
            value = getattr(options, item.name)
            if not low <= value <= high:
                flag = f"--{item.name.replace('_', '-')}"
                raise ConfigurationError(f"{flag} {value} makes no observation; it lies between {low:g} and {high:g}")
    if not options.subbands or not set(options.subbands) <= set(range(N_SUBBANDS)):
        raise ConfigurationError(f"--subbands {options.subbands} is not a list of numbers from 0 to 15")
    if min(options.day_offsets) < 0 or list(options.day_offsets) != sorted(set(options.day_offsets)):
        raise ConfigurationError(f"--days {options.day_offsets} must ascend from 0 or more, each once")
    for entry in options.missing_subbands:
        if not _is_missing_entry(entry):
            raise ConfigurationError(f"--missing-subbands {entry} is neither a subband (7) nor group:subband (0:7)")


def is_missing(options: SimulationOptions, group: int, subband: int) -> bool:
    """Say whether a subband of the group with this running number is never written."""
    named = {tuple(int(part) for part in entry.split(":")) for entry in options.missing_subbands}
    return (subband,) in named or (group, subband) in named
