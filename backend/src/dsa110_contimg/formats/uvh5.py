r"""Subband files: UVH5 as the DSA-110 correlator writes it.

A file holds one subband of one group. Rows (blts) run time-major; a row (ant_1, ant_2) holds
conj(E_ant1)·E_ant2 and its baseline is b = r(ant_2) − r(ant_1). The data are fringe-stopped at each integration's
middle to hour angle 0 at `phase_center_app_dec`, whatever `phase_type` says. Frequencies descend. Files rewritten
by pyuvdata (no spectral-window axis, channel widths as an array) are read too.

Every defect is found from the header, before any data are read, and named in one sentence.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_contimg import naming, telescope
from dsa110_contimg.errors import BadInputError, UnfinishedFileError
from dsa110_contimg.formats.uvh5_file import antenna_rows, antennas, check_lengths, open_uvh5, scalar, text

OUR_TELESCOPES = ("OVRO_MMA", "DSA-110", "DSA_110", "DSA110")
PARALLEL_HANDS = (-5, -6)
UNPHASED = {"drift", "driftscan", "unprojected"}
MAX_CLOCK_SKEW_S = 600.0


@dataclass(frozen=True)
class SubbandHeader:
    """What a subband file says about itself, checked."""

    path: Path
    index: int
    """0 is the highest frequency, 15 the lowest."""
    times_mjd: NDArray[np.float64]
    """(n_time,), middle of each integration, UTC."""
    integration_s: float
    freq_hz: NDArray[np.float64]
    """(n_chan,), in the order of the file."""
    channel_width_hz: float
    dec_app_deg: float
    ant_1: NDArray[np.int64]
    ant_2: NDArray[np.int64]
    """(n_baseline,), indices into the antenna table."""
    antenna_names: tuple[str, ...]
    antenna_itrf_m: NDArray[np.float64]
    """(n_antenna, 3), absolute."""
    pol_index: tuple[int, int]
    """Where XX and YY stand on the polarization axis."""

    @property
    def start_mjd(self) -> float:
        """Start of the first integration."""
        return float(self.times_mjd[0] - 0.5 * self.integration_s / 86400.0)

    @property
    def end_mjd(self) -> float:
        """End of the last integration."""
        return float(self.times_mjd[-1] + 0.5 * self.integration_s / 86400.0)

    @property
    def group_id(self) -> str:
        """The group, from the data's start time: it does not depend on any file's stamp."""
        return naming.group_id_of(self.start_mjd)


def read_header(path: Path) -> SubbandHeader:
    """Read and check a subband file's header.

    Raises
    ------
    UnfinishedFileError
        If the name says that the correlator is still writing it.
    BadInputError
        If the file is truncated, foreign, inconsistent or absurd.
    """
    name = naming.parse_subband(path)
    if name is not None and name.unfinished:
        raise UnfinishedFileError(f"{path} is still being written by the correlator")
    with open_uvh5(path) as file:
        header = _parse(path, file)
    if name is not None:
        _check_against_name(header, name)
    return header


def _parse(path: Path, file: h5py.File) -> SubbandHeader:
    head = file["Header"]
    found = text(head, "telescope_name")
    if found not in OUR_TELESCOPES:
        raise BadInputError(f"{path} comes from telescope {found}, not from the DSA-110")
    _check_stopped(path, head)
    n_time, n_baseline = int(scalar(head, "Ntimes")), int(scalar(head, "Nbls"))
    n_blts = check_lengths(path, file)
    if n_time * n_baseline != n_blts:
        raise BadInputError(f"{path} is inconsistent: Nblts is {n_blts}, but {n_time} times x {n_baseline} baselines")
    times = np.asarray(head["time_array"], float).reshape(n_time, n_baseline)
    times_mjd = times[:, 0] - telescope.JD_MINUS_MJD
    if not np.all(times == times[:, :1]):
        raise BadInputError(f"{path} is inconsistent: the baselines of one integration carry different times")
    integration_s = scalar(head, "integration_time")
    _check_times(path, times_mjd, integration_s)
    freq_hz = np.ravel(np.asarray(head["freq_array"], float))
    width_hz = abs(scalar(head, "channel_width"))
    pols = [int(code) for code in np.ravel(head["polarization_array"])]
    if not all(code in pols for code in PARALLEL_HANDS):
        raise BadInputError(f"{path} has polarizations {pols}; XX (-5) and YY (-6) are needed")
    ant_1 = np.asarray(head["ant_1_array"], np.int64).reshape(n_time, n_baseline)
    ant_2 = np.asarray(head["ant_2_array"], np.int64).reshape(n_time, n_baseline)
    if not (np.all(ant_1 == ant_1[:1]) and np.all(ant_2 == ant_2[:1])):
        raise BadInputError(f"{path} is inconsistent: the order of baselines changes between integrations")
    names, itrf = antennas(path, head)
    return SubbandHeader(
        path=path,
        index=_subband_index(path, freq_hz, width_hz),
        times_mjd=times_mjd,
        integration_s=integration_s,
        freq_hz=freq_hz,
        channel_width_hz=width_hz,
        dec_app_deg=_declination(path, head),
        ant_1=antenna_rows(path, head, itrf, ant_1[0]),
        ant_2=antenna_rows(path, head, itrf, ant_2[0]),
        antenna_names=names,
        antenna_itrf_m=itrf,
        pol_index=(pols.index(-5), pols.index(-6)),
    )


def _check_stopped(path: Path, head: h5py.Group) -> None:
    """Refuse data that another program has phased since: to move them from the meridian would destroy them."""
    kinds = {text(head, "phase_type")} if "phase_type" in head else set()
    if "phase_center_catalog" in head:
        kinds |= {text(entry, "cat_type") for entry in head["phase_center_catalog"].values()}
    if kinds - UNPHASED:
        raise BadInputError(
            f"{path} has been phased since the correlator wrote it ({', '.join(sorted(kinds - UNPHASED))}): "
            "convert the correlator's own file"
        )


def _check_times(path: Path, times_mjd: NDArray[np.float64], integration_s: float) -> None:
    if not (np.all(np.isfinite(times_mjd)) and np.isfinite(integration_s) and 0.1 < integration_s < 100.0):
        raise BadInputError(f"{path} has absurd times: integrations of {integration_s} s, first at {times_mjd[0]}")
    if abs(times_mjd[0] - 55000.0) < 100.0:
        raise BadInputError(
            f"{path} starts at MJD {times_mjd[0]:.3f}: the correlator had lost its clock and wrote its default of 55000"
        )
    steps = np.diff(times_mjd) * 86400.0
    if np.any(np.abs(steps - integration_s) > 0.05 * integration_s):
        raise BadInputError(f"{path} has uneven integrations: steps of {steps.min():.3f} to {steps.max():.3f} s")
    try:
        telescope.icrs_to_itrs(0.0, 0.0, times_mjd[[0, -1]])
    except BadInputError as error:
        raise BadInputError(f"{path} cannot be placed on the sky: {error}") from error


def _check_against_name(header: SubbandHeader, name: naming.Subband) -> None:
    skew = naming.stamp_unix(name.stamp) - telescope.mjd_to_unix(header.start_mjd)
    if abs(skew) > MAX_CLOCK_SKEW_S:
        raise BadInputError(
            f"{header.path} holds data from MJD {header.start_mjd:.5f}, {abs(skew):.0f} s from the stamp in its name"
        )
    if name.index != header.index:
        raise BadInputError(
            f"{header.path} is called subband {name.index}, but its frequencies are those of subband {header.index}"
        )


def _subband_index(path: Path, freq_hz: NDArray[np.float64], width_hz: float) -> int:
    middle, spread = 0.5 * (freq_hz.min() + freq_hz.max()), np.ptp(freq_hz) + width_hz
    index = round(float((telescope.BAND_HIGH_HZ - middle) / telescope.SUBBAND_WIDTH_HZ - 0.5))
    if not 0 <= index < telescope.N_SUBBANDS or not abs(spread / telescope.SUBBAND_WIDTH_HZ - 1.0) < 0.01:
        raise BadInputError(
            f"{path} spans {freq_hz.min() / 1e6:.3f} to {freq_hz.max() / 1e6:.3f} MHz, which is no subband of the band"
        )
    return index


def _declination(path: Path, head: h5py.Group) -> float:
    keywords = head.get("extra_keywords", {})
    radians = scalar(keywords, "phase_center_dec") if "phase_center_dec" in keywords else None
    if "phase_center_app_dec" in head:
        apparent = float(np.ravel(head["phase_center_app_dec"][()])[0])
        if radians is not None and abs(apparent - radians) > 1e-6:
            raise BadInputError(f"{path} gives two declinations: {apparent:.6f} and {radians:.6f} rad")
        radians = apparent
    if radians is None or not abs(radians) <= np.pi / 2:
        raise BadInputError(f"{path} has no usable declination (phase_center_dec, in radians): {radians}")
    return float(np.degrees(radians))
