"""What was put into the files, as JSON beside them.

Complex numbers are pairs [real, imaginary]. A gain g corrupts a file's row as conj(g[ant_1]) g[ant_2] V; it is the
gain at 1405 MHz, and a delay d turns it by exp(2πi (f − 1405 MHz) d).
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.simulation.corrupt import EpochGains, Interference

FORMAT = 1
GAIN_CONVENTION = "raw(ant_1, ant_2) = conj(g[ant_1]) g[ant_2] V, g(f) = gain exp(2 pi i (f - 1405 MHz) delay)"


@dataclass(frozen=True)
class TruthSource:
    """One point source of the sky."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    """Quiet flux at `ref_hz`."""
    ref_hz: float
    spectrum: tuple[float, ...]
    """log10 S(f) = log10 S0 + sum of c_k log10(f/ref)^(k+1)."""
    flux_1405_jy: tuple[float, ...]
    """Flux at 1405 MHz in each epoch."""
    role: str = ""
    """calibrator, ese, control, variable, or nothing."""
    planted: bool = False
    """True if no drawn or listed source fitted the role."""


@dataclass(frozen=True)
class TruthGroup:
    """One group of subband files."""

    group_id: str
    epoch: int
    tile: int
    """Running number within the epoch."""
    start_mjd: float
    """Start of the first integration (UTC)."""
    mid_mjd: float
    ra_deg: float
    dec_deg: float
    """ICRS direction of the meridian at `mid_mjd`."""
    files: tuple[str, ...]
    """Names, by subband; missing ones are not listed."""
    n_sources: int
    """Sources whose visibilities are in the files."""


@dataclass(frozen=True)
class Truth:
    """The whole of what was simulated."""

    seed: int
    options: dict[str, Any]
    stations: tuple[int, ...]
    """Station numbers in correlator order; the axis of gains and delays."""
    sources: tuple[TruthSource, ...]
    epoch_mjd: tuple[float, ...]
    """Start of each epoch."""
    gains: NDArray[np.complex128]
    """(n_epoch, n_antenna, 2), at 1405 MHz."""
    delays_ns: NDArray[np.float64]
    """(n_epoch, n_antenna, 2)."""
    noise_sigma_jy: float
    """Real and imaginary part of one cross product."""
    groups: tuple[TruthGroup, ...]
    interference: tuple[Interference, ...] = ()
    dead_stations: tuple[int, ...] = ()
    single_pol_stations: tuple[int, ...] = ()
    ese: str = ""
    control: str = ""
    catalog_file: str = "catalog.csv"
    gain_convention: str = field(default=GAIN_CONVENTION)

    def source(self, name: str) -> TruthSource:
        """Return a source by name.

        Raises
        ------
        ConfigurationError
            If there is none.
        """
        for item in self.sources:
            if item.name == name:
                return item
        raise ConfigurationError(f"the truth has no source {name}")

    def epoch_gains(self, epoch: int) -> EpochGains:
        """Return the gains of an epoch."""
        return EpochGains(self.gains[epoch], self.delays_ns[epoch])


def save_truth(path: Path, truth: Truth) -> None:
    """Write the truth as JSON, under a scratch name first."""
    plain = asdict(truth)
    plain["gains"] = np.stack([truth.gains.real, truth.gains.imag], axis=-1).tolist()
    plain["delays_ns"] = truth.delays_ns.tolist()
    scratch = path.with_name(path.name + ".partial")
    scratch.write_text(json.dumps({"format": FORMAT, **plain}, indent=1) + "\n")
    scratch.replace(path)


def load_truth(path: Path) -> Truth:
    """Read the truth of a simulation from truth.json or the folder that holds it.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it is not one that `save_truth` wrote.
    """
    file = path / "truth.json" if path.is_dir() else path
    try:
        plain = json.loads(file.read_text())
        if plain.pop("format") != FORMAT:
            raise ConfigurationError(f"{file} has another format than this version writes; simulate again")
        parts = np.array(plain.pop("gains"), dtype=float)
        plain |= {key: tuple(plain[key]) for key in ("stations", "epoch_mjd", "dead_stations", "single_pol_stations")}
        return Truth(
            gains=parts[..., 0] + 1j * parts[..., 1],
            delays_ns=np.array(plain.pop("delays_ns"), dtype=float),
            sources=tuple(_thaw(TruthSource, item) for item in plain.pop("sources")),
            groups=tuple(_thaw(TruthGroup, item) for item in plain.pop("groups")),
            interference=tuple(_thaw(Interference, item) for item in plain.pop("interference")),
            **plain,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{file} is not the truth of a simulation: {error}") from error


def _thaw(kind: type, item: dict[str, Any]) -> Any:  # noqa: ANN401 - one helper for three classes
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in item.items()})
